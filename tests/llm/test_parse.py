"""Text to JSON to schema."""

from __future__ import annotations

from typing import Any

import pytest

from flowcraft.errors import InvalidOutput
from flowcraft.llm.parse import field_name, mismatches, parse_json, parse_output

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ("  [1, 2]\n", [1, 2]),
        ("42", 42),
        ("null", None),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ("```\n[1]\n```", [1]),
        ('Here you are:\n```json\n{"a": "б"}\n```\nAnything else?', {"a": "б"}),
        ('The answer is {"a": 1}', {"a": 1}),
        ("{'a': 1,}", {"a": 1}),
        ('{"a": [1, 2', {"a": [1, 2]}),
        ('{"emoji": "😀", "中": true}', {"emoji": "😀", "中": True}),
    ],
)
def test_json_is_found_in_what_models_write(text: str, value: Any) -> None:
    assert parse_json(text) == value


@pytest.mark.parametrize("text", ["", "no", "I would rather not.", "{}[", "{"])
def test_text_without_json_is_invalid(text: str) -> None:
    with pytest.raises(InvalidOutput):
        parse_json(text)


def test_mismatches_name_their_field() -> None:
    schema = {
        "type": "object",
        "properties": {"items": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}}},
        "required": ["items"],
    }
    assert mismatches({"items": [{"n": 1}]}, schema) == []
    assert mismatches({"items": [{"n": 1}, {"n": "x"}]}, schema)[0]["field"] == "items[1].n"
    assert mismatches({}, schema) == [{"field": "", "message": "'items' is a required property"}]


def test_text_is_the_answer_where_text_is_wanted() -> None:
    assert parse_output("  just words \n", {"type": "string"}) == "just words"
    assert parse_output('"quoted"', {"type": "string"}) == "quoted"
    with pytest.raises(InvalidOutput):
        parse_output("maybe", {"type": "string", "enum": ["yes", "no"]})


def test_paths_are_written_as_one_writes_them() -> None:
    assert field_name(["a", 0, "b"]) == "a[0].b"
    assert field_name([0]) == "[0]"
    assert field_name([]) == ""


def test_fields_beyond_a_closed_schema_are_taken_off_and_missing_nulls_put_in() -> None:
    inner = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    schema = {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "one": {"anyOf": [{"$ref": "#/$defs/Item"}, {"type": "null"}]},
        },
        "required": ["items", "note"],
        "additionalProperties": False,
        "$defs": {"Item": inner},
    }
    text = '{"items": [{"n": 1, "why": "because"}], "one": {"n": 2, "x": 0}, "extra": true}'
    assert parse_output(text, schema) == {"items": [{"n": 1}], "one": {"n": 2}, "note": None}


def test_fields_beyond_an_open_schema_stay() -> None:
    assert parse_output('{"a": 1, "b": 2}', {"type": "object", "properties": {"a": {}}}) == {"a": 1, "b": 2}
