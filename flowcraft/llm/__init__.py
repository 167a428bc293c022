"""One question answered well, by one of several models that may fail. Knows no workflow, no settings file and no SQL."""

from flowcraft.llm.base import Link
from flowcraft.llm.chain import Chain, ChatStream

__all__ = ["Chain", "ChatStream", "Link"]
