"""Runs: segments, who owns them, what waits, how they end."""
