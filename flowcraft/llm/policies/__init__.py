"""Policies: each is an LLM around other LLMs, in one small file, with chat and stream side by side."""
