"""Questions and answers as JSON: the one form in which they are stored, sent and compared."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from flowcraft.attempts import Attempt, Usage
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Choice, OutputSpec, ReasoningSpec, TokenLogprob
from flowcraft.plugin.messages import (
    Audio,
    File,
    Image,
    Media,
    Message,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    Video,
)
from flowcraft.plugin.tools import ToolSpec

VERSION = 1

TYPES: Mapping[str, type[Any]] = {
    "text": Text,
    "image": Image,
    "audio": Audio,
    "video": Video,
    "file": File,
    "reasoning": Reasoning,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
    "refusal": Refusal,
    "message": Message,
    "tool": ToolSpec,
    "output": OutputSpec,
    "effort": ReasoningSpec,
    "request": ChatRequest,
    "response": ChatResponse,
    "choice": Choice,
    "usage": Usage,
    "logprob": TokenLogprob,
    "attempt": Attempt,
}

_NEVER = frozenset({"scope"})
_AS_IT_IS = frozenset({"schema", "parameters", "metadata", "extra", "parsed"})
"""Fields that hold anybody's JSON, in which ``type`` means nothing to us."""


def to_json(value: Any) -> dict[str, Any]:
    """Return a question, an answer or a part of one as JSON-like data: ``{"v": 1, "type": ...}``, defaults left out."""
    return {"v": VERSION, **_encoded(value, hashing=False)}


def from_json(data: Mapping[str, Any]) -> Any:
    """Return what ``to_json`` was given. Raises ValueError where ``data`` is of another version, type or shape."""
    if data.get("v") != VERSION:
        raise ValueError(f"version {data.get('v')!r} is not known; this FlowCraft reads version {VERSION}")
    return _decoded({name: item for name, item in data.items() if name != "v"})


def content_hash(value: Any) -> str:
    """Return the SHA-256 of what is asked or answered: media by their own hash, scope and metadata left out."""
    data = _encoded(value, hashing=True)
    text = json.dumps(data, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _encoded(value: Any, *, hashing: bool) -> Any:
    name = next((name for name, kind in TYPES.items() if type(value) is kind), None)
    if name is not None:
        found: dict[str, Any] = {"type": name}
        for item in fields(value):
            part = getattr(value, item.name)
            if item.name in _NEVER or (hashing and item.name == "metadata") or part == _default(item):
                continue
            found[item.name] = part if item.name in _AS_IT_IS else _encoded(part, hashing=hashing)
        if hashing and isinstance(value, Media) and value.data is not None:
            del found["data"]
            found["sha256"] = hashlib.sha256(value.data).hexdigest()
        return found
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple | list):
        return [_encoded(item, hashing=hashing) for item in value]
    return value


def _default(item: Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default


def _decoded(data: Any) -> Any:
    if isinstance(data, list):
        return tuple(_decoded(item) for item in data)
    if not isinstance(data, Mapping):
        return data
    kind = TYPES.get(str(data.get("type")))
    if kind is None:
        raise ValueError(f"type {data.get('type')!r} is not known; known are: {', '.join(TYPES)}")
    known = {item.name: item for item in fields(kind)}
    values: dict[str, Any] = {}
    for name, part in data.items():
        if name == "type":
            continue
        if name not in known or name in _NEVER:
            raise ValueError(f"{data['type']!r} has no field {name!r}")
        is_bytes = name in ("data", "bytes") and isinstance(part, str)
        values[name] = part if name in _AS_IT_IS else base64.b64decode(part) if is_bytes else _decoded(part)
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(f"{data['type']!r}: {error}") from None
