"""Parts of messages as the API's content blocks."""

from __future__ import annotations

import base64
import json
import mimetypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowcraft.plugin import (
    File,
    Image,
    InvalidRequest,
    Media,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)

MARK = {"type": "ephemeral"}
"""A mark up to which the vendor keeps the prompt in its cache."""

MARKS_MAX = 4

Block = dict[str, Any]


def turns(messages: tuple[Message, ...], section: str, model: str) -> list[dict[str, Any]]:
    """Return the turns of user and assistant, neighbours of one role as one. Raises InvalidRequest.

    The results of tools are said by the user, and come first in what he says. Reasoning goes back to ``model`` of
    ``section`` alone, with the signature that it came with.
    """
    found: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [block for part in message.parts for block in _blocks(part, section, model)]
        if found and found[-1]["role"] == role:
            found[-1]["content"] += blocks
        elif blocks:
            found.append({"role": role, "content": blocks})
    for turn in found:
        turn["content"].sort(key=lambda block: block["type"] != "tool_result" and turn["role"] == "user")
    return found


def system(messages: tuple[Message, ...]) -> list[Block]:
    """Return what all system messages say. Raises InvalidRequest for other things than text."""
    blocks = []
    for part in (part for message in messages if message.role == "system" for part in message.parts):
        if not isinstance(part, Text):
            raise InvalidRequest(f"a system message can hold text only, not {type(part).__name__}")
        if part.text:
            blocks.append(_text(part))
    return blocks


def plain(blocks: list[Block]) -> str | list[Block]:
    """Return blocks that are one bare text as that text."""
    return blocks[0]["text"] if len(blocks) == 1 and set(blocks[0]) == {"type", "text"} else blocks


def limit_marks(blocks: list[Block], most: int = MARKS_MAX) -> None:
    """Take all marks but the last ``most``: the vendor refuses more, and a later one keeps what stands before it."""
    marked = [block for block in blocks if "cache_control" in block]
    for block in marked[: max(0, len(marked) - most)]:
        del block["cache_control"]


def tool_id(given: str) -> str:
    """Return the id of a call in the letters that the vendor takes."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", given) or "_"


def arguments(text: str) -> dict[str, Any]:
    """Return the arguments of a call as an object."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = None
    # What another model wrote wrong is shown as it was; the vendor's own word for it.
    return value if isinstance(value, dict) else {"INVALID_JSON": text}


def _blocks(part: Part, section: str, model: str) -> Iterator[Block]:
    if isinstance(part, Text):
        if part.text:
            yield _text(part)
    elif isinstance(part, Media):
        yield _marked(_media(part), part.cache)
    elif isinstance(part, ToolCall):
        yield {"type": "tool_use", "id": tool_id(part.id), "name": part.name, "input": arguments(part.arguments)}
    elif isinstance(part, ToolResult):
        failed = {"is_error": True} if part.error else {}
        yield {"type": "tool_result", "tool_use_id": tool_id(part.id), "content": part.content, **failed}
    elif isinstance(part, Refusal):
        if part.text:
            yield {"type": "text", "text": part.text}
    elif part.signature and (part.provider, part.model) == (section, model):
        yield _thought(part)


def _text(part: Text) -> Block:
    return _marked({"type": "text", "text": part.text}, part.cache)


def _thought(part: Reasoning) -> Block:
    if part.redacted:
        return {"type": "redacted_thinking", "data": part.signature}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _marked(block: Block, cache: bool) -> Block:
    return {**block, "cache_control": dict(MARK)} if cache else block


def _media(part: Media) -> Block:
    kind = _media_type(part)
    if isinstance(part, Image):
        return {"type": "image", "source": _source(part, kind)}
    if not isinstance(part, File):
        raise InvalidRequest(f"this API takes no {type(part).__name__.lower()}")
    name = part.name or (Path(part.path).name if part.path else "")
    title = {"title": name} if name else {}
    if kind == "application/pdf":
        return {"type": "document", "source": _source(part, kind), **title}
    return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": _words(part, kind)}, **title}


def _source(part: Media, kind: str) -> dict[str, Any]:
    url = part.url or ""
    if url.startswith("data:"):
        head, _, data = url[5:].partition(",")
        if not head.endswith(";base64"):
            raise InvalidRequest("a data: URL must hold base64")
        return {"type": "base64", "media_type": head.partition(";")[0] or kind, "data": data}
    if url:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": kind, "data": base64.b64encode(part.data or b"").decode()}


def _words(part: File, kind: str) -> str:
    if part.data is None:
        raise InvalidRequest(f"this API takes only PDF by address, not {kind}; give the file's data or path")
    try:
        return part.data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"this API takes files of PDF and of text, not {kind}") from error


def _media_type(part: Media) -> str:
    name = str(part.path or part.url or getattr(part, "name", "")).partition("?")[0]
    guessed = part.media_type or mimetypes.guess_type(name)[0]
    return guessed or ("image/png" if isinstance(part, Image) else "application/pdf" if _is_pdf(part) else "text/plain")


def _is_pdf(part: Media) -> bool:
    return part.data is None or part.data.startswith(b"%PDF")
