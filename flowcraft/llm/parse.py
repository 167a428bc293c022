"""The text of an answer to JSON, and JSON to a schema, with every mismatch named field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from flowcraft.errors import InvalidOutput
from flowcraft.source.schemas import validator_of

Detail = dict[str, str]

_FENCE = re.compile(r"```[\w-]*[ \t]*\n?(.*?)```", re.DOTALL)
_LONGEST = 300


def parse_json(text: str) -> Any:
    """Return the JSON value that ``text`` is, holds in a code fence, or holds somewhere with small mistakes.

    Raises InvalidOutput where there is none.
    """
    for candidate in (text.strip(), *(found.strip() for found in _FENCE.findall(text))):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    value = _repaired(text)
    if value is None:
        raise InvalidOutput("the answer holds no JSON", details=[{"field": "", "message": "no JSON value was found"}])
    return value


def _repaired(text: str) -> Any:
    """Return the object or list that ``text`` is meant to hold; None where there is nothing of the kind."""
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    if not starts:
        return None
    from json_repair import repair_json

    value = repair_json(text[min(starts) :], return_objects=True)
    return value if isinstance(value, dict | list) and value else None


def mismatches(value: Any, schema: Mapping[str, Any]) -> list[Detail]:
    """Return what of ``value`` does not fit ``schema``, as ``{field, message}``; the field of the whole value is empty."""
    found = sorted(validator_of(schema).iter_errors(value), key=lambda error: [str(step) for step in error.absolute_path])
    return [{"field": field_name(error.absolute_path), "message": error.message[:_LONGEST]} for error in found]


def field_name(path: Sequence[str | int]) -> str:
    """Return a path as one writes it: ``items[2].name``."""
    told = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return told.removeprefix(".")


def parse_output(text: str, schema: Mapping[str, Any]) -> Any:
    """Return the value in ``text`` that fits ``schema``; raises InvalidOutput with details field by field.

    Where the schema wants text, an answer that is no JSON string is that text itself.
    """
    if schema.get("type") == "string":
        return _text_value(text, schema)
    value = shaped(parse_json(text), schema, schema.get("$defs", {}))
    _check(value, schema)
    return value


def shaped(value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    """Return ``value`` without fields that a closed schema lacks, and with null where a field that admits it was left out."""
    reference = schema.get("$ref", "")
    if reference.startswith("#/$defs/"):
        schema = definitions.get(reference.removeprefix("#/$defs/"), {})
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    if len(choices) == 1 and value is not None:
        return shaped(value, choices[0], definitions)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [shaped(item, schema["items"], definitions) for item in value]
    known = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(known, Mapping) or schema.get("additionalProperties") is not False:
        return value
    kept = {name: shaped(item, known[name], definitions) for name, item in value.items() if name in known}
    absent = (name for name in schema.get("required", ()) if name not in kept and _admits_null(known.get(name, {})))
    return {**kept, **dict.fromkeys(absent)}


def _admits_null(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    return "null" in (kind if isinstance(kind, list) else [kind]) or {"type": "null"} in schema.get("anyOf", ())


def _text_value(text: str, schema: Mapping[str, Any]) -> str:
    value: Any = text.strip()
    try:
        decoded = json.loads(value)
    except ValueError:
        decoded = None
    if isinstance(decoded, str):
        value = decoded
    _check(value, schema)
    return str(value)


def _check(value: Any, schema: Mapping[str, Any]) -> None:
    details = mismatches(value, schema)
    if details:
        raise InvalidOutput(f"the answer does not fit its schema: {told(details)}", details=details)


def told(details: Sequence[Mapping[str, Any]]) -> str:
    """Return details as one line."""
    return "; ".join(f"{item['field']}: {item['message']}" if item["field"] else str(item["message"]) for item in details)
