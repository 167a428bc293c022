"""Values as they are stored: JSON text, and the digests made of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from flowcraft.errors import StageFailed

LARGEST = 10_000_000
"""Bytes of one stored value; what is larger belongs into a file."""

_PLAIN = frozenset({str, int, bool, type(None)})
_KEYS = (str, int, float, bool, type(None))


def plain(value: Any) -> Any:
    """Return ``value`` with pydantic models and dataclasses turned into JSON-like data."""
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        return dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return _object(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _object(value: dict[Any, Any]) -> dict[Any, Any]:
    """Return a mapping's parts as plain data; keys that would be one in JSON, such as 1 and "1", would lose a part."""
    made = {key: plain(item) for key, item in value.items()}
    if all(type(key) is str for key in made):
        return made
    named = [key if isinstance(key, str) else json.dumps(key) for key in made if isinstance(key, _KEYS)]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise StageFailed(f"two keys of an object are both '{twice}' in JSON: one of them would be lost")
    return made


def _refuse(value: Any) -> Any:
    raise TypeError(f"a {type(value).__name__} is not JSON")


# Made once: ``json.dumps`` with options makes an encoder at each call.
_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_refuse)
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str)
TOLERANT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str)
"""For what is only shown: whatever is no JSON goes in as its text."""


def json_text(value: Any, what: str = "the value") -> str:
    """Return ``value`` as compact JSON in its own letters; raise StageFailed where it is no JSON or too large."""
    try:
        text = _STRICT.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        takes = "text, numbers, booleans, null, lists, objects or pydantic"
        raise StageFailed(f"{what} cannot be kept: {error}; return {takes}") from None
    if not text.isascii():
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            text = json.dumps(value, allow_nan=False, separators=(",", ":"))
            size = len(text)
    else:
        size = len(text)
    if size > LARGEST:
        raise StageFailed(f"{what} has {size / 1e6:.1f} MB, over the limit of 10 MB; write a file and return its path")
    return text


def stored(value: Any, what: str = "the value") -> tuple[str, Any]:
    """Return the JSON text of ``value`` and what reading it back gives."""
    if type(value) not in _PLAIN:
        try:
            value = plain(value)
        except RecursionError:
            raise StageFailed(f"{what} cannot be kept: it holds itself, or nests too deep") from None
    text = json_text(value, what)
    return text, value if type(value) in _PLAIN else json.loads(text)


def digest(*values: Any) -> str:
    """Return a short SHA-256 of JSON-like values, independent of the order of keys."""
    return hashlib.sha256(_CANONICAL.encode(values).encode()).hexdigest()[:32]
