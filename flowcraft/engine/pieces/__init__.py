"""Finished bits of work: done once, found again by resume, fork, cache and replay."""
