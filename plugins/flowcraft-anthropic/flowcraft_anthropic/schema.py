"""Which schemas the vendor can hold an answer to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MANY = ("anyOf", "allOf", "oneOf")
TYPES = (None, "object", "array", "string", "integer", "number", "boolean", "null")
SHAPED = ("$ref", "type", "enum", "const", *MANY)


def closed_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema as the vendor wants it, None where that cannot say what it says.

    The vendor wants every object closed. One that is open but has properties may be closed: what fits the closed one fits
    the open one. One that takes any names, a schema that takes anything, and one that contains itself cannot be said. What
    only the answer's check can see (lengths, ranges, patterns) the SDK moves into the descriptions.
    """
    if schema.get("type") != "object" or not _sayable(schema) or _recursive(schema):
        return None
    from anthropic import transform_schema  # heavy; loaded by now

    try:
        return transform_schema({key: value for key, value in schema.items() if key != "$schema"})
    except ValueError:  # the SDK's first versions know less than the API
        return None


def instruction(schema: Mapping[str, Any]) -> str:
    """Return what a model is told where it cannot be held to ``schema``."""
    told = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    return f"Answer with one JSON value that fits this JSON Schema, and with nothing else, no code fence:\n{told}"


def _sayable(schema: Any) -> bool:
    if not isinstance(schema, Mapping) or not any(schema.get(key) is not None for key in SHAPED):
        return False
    if schema.get("type") not in TYPES or "definitions" in schema or sum(key in schema for key in MANY) > 1:
        return False
    reference = schema.get("$ref")
    if reference is not None and not str(reference).startswith("#/$defs/"):
        return False
    properties = schema.get("properties") or {}
    more = schema.get("additionalProperties")
    if schema.get("type") == "object" and (more not in (None, False) or (not properties and more is None)):
        return False
    inner = [*properties.values(), *(schema.get("$defs") or {}).values()]
    inner += [part for key in MANY for part in schema.get(key) or ()]
    if schema.get("type") == "array":
        inner.append(schema.get("items"))
    return all(_sayable(part) for part in inner)


def _recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a definition leads back to itself."""
    leads = {name: _references(part) for name, part in (schema.get("$defs") or {}).items()}

    def reaches(name: str, seen: frozenset[str]) -> bool:
        return name in seen or any(reaches(further, seen | {name}) for further in leads.get(name, ()))

    return any(reaches(name, frozenset()) for name in leads)


def _references(part: Any) -> set[str]:
    if isinstance(part, Mapping):
        own = {str(part["$ref"]).removeprefix("#/$defs/")} if "$ref" in part else set()
        return own.union(*(_references(value) for value in part.values()))
    if isinstance(part, list):
        return set().union(*(_references(value) for value in part))
    return set()
