"""Which schemas a vendor can hold an answer to, word by word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFINITIONS = ("$defs", "definitions")
MANY = ("anyOf", "allOf", "oneOf", "prefixItems")
ONE = ("items", "additionalProperties", "not")


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema with every object closed, None where strict mode cannot say what it says.

    Strict mode wants every property required and no others. An optional property cannot be said that way without changing
    what is meant. An object that is open but has properties is closed: what fits the closed one fits the open one. One that
    names no property may hold anything, and closed it could hold nothing.
    """
    closed = _close(schema)
    return closed if closed is not None and closed.get("type") == "object" else None


def _close(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    result = dict(schema)
    if result.get("type") == "object" or "properties" in result:
        properties = result.get("properties") or {}
        more = result.get("additionalProperties")
        if (
            set(properties) != set(result.get("required") or ())
            or more not in (None, False)
            or (not properties and more is None)
        ):
            return None
        result["additionalProperties"] = False
    for key in ("properties", *DEFINITIONS):
        if isinstance(result.get(key), Mapping):
            parts = {name: _close(part) for name, part in result[key].items()}
            if None in parts.values():
                return None
            result[key] = parts
    for key in MANY:
        if isinstance(result.get(key), list):
            result[key] = [_close(part) for part in result[key]]
            if None in result[key]:
                return None
    for key in ONE:
        if isinstance(result.get(key), Mapping):
            result[key] = _close(result[key])
            if result[key] is None:
                return None
    return result
