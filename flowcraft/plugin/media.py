"""Media that a request names by their paths."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from flowcraft.errors import InvalidRequest
from flowcraft.plugin.chat import ChatRequest
from flowcraft.plugin.messages import Media, Message, Part


async def with_files(request: ChatRequest) -> ChatRequest:
    """Return the request with the contents of media that are given as paths, read on a thread. Raises InvalidRequest."""
    if not any(isinstance(part, Media) and part.path for message in request.messages for part in message.parts):
        return request
    messages = [await asyncio.to_thread(_read_message, message) for message in request.messages]
    return replace(request, messages=tuple(messages))


def _read_message(message: Message) -> Message:
    return replace(message, parts=tuple(map(_read, message.parts)))


def _read(part: Part) -> Part:
    if not isinstance(part, Media) or not part.path:
        return part
    try:
        return replace(part, data=Path(part.path).read_bytes())
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        raise InvalidRequest(f"cannot read {part.path}: {getattr(error, 'strerror', None) or error}") from error
