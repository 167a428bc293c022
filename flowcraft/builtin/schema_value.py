"""A value of a JSON Schema, made from a prompt's own text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from flowcraft.builtin.extract import PromptText, shortened

_DEEPEST = 6
_BOTTOM = 40
_ITEMS = 3
_TITLE_NAMES = frozenset({"title", "name", "headline", "heading", "subject"})
_TITLE_LENGTH = 80
_TEXT_LENGTH = 280
_RANGE = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?) to (-?\d+(?:\.\d+)?)(?![\w.]*\d)")
_FORMATS: Mapping[str, tuple[str, str]] = {
    "date": (r"\d{4}-\d\d-\d\d", "2000-01-01"),
    "time": (r"\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)", "00:00:00Z"),
    "date-time": (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)", "2000-01-01T00:00:00Z"),
    "email": (r"[\w.+-]+@[\w-]+\.[\w.-]*\w", "nobody@example.org"),
    "uri": (r"https?://[^\s\"'<>)]+", "https://example.org/"),
    "uuid": (r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "00000000-0000-0000-0000-000000000000"),
}


def value_of(schema: Mapping[str, Any], text: PromptText) -> Any:
    """Return a value that fits ``schema`` and says what ``text`` says, as far as that can be done without a model."""
    return _Maker(schema, text).make(schema, "", 0)


class _Maker:
    """Walks a schema once; every sentence of the text is used before one is used again."""

    def __init__(self, root: Mapping[str, Any], text: PromptText) -> None:
        self._root = root
        self._text = text
        self._next = 0

    def make(self, schema: Any, name: str, depth: int) -> Any:
        if depth > _BOTTOM:
            return None
        if not isinstance(schema, Mapping):
            return self._string({}, name)
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return self._enum(schema["enum"], name)
        alternatives = schema.get("anyOf") or schema.get("oneOf")
        if alternatives:
            return self._alternative(alternatives, name, depth)
        return self._typed(schema, name, depth)

    def _typed(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        kind = _kind(schema)
        if kind == "null" or (depth >= _DEEPEST and "null" in _kinds(schema)):
            return None
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "boolean":
            return self._boolean(name)
        if kind in ("integer", "number"):
            return self._number(schema, name, kind)
        return self._string(schema, name)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        for _ in range(_DEEPEST):
            reference = schema.get("$ref")
            if isinstance(reference, str) and reference.startswith("#"):
                schema = {**self._at(reference), **{key: value for key, value in schema.items() if key != "$ref"}}
            elif isinstance(schema.get("allOf"), list):
                merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
                for part in schema["allOf"]:
                    _merge(merged, self._resolved(part))
                schema = merged
            else:
                break
        return schema

    def _at(self, reference: str) -> Mapping[str, Any]:
        found: Any = self._root
        for part in reference.lstrip("#/").split("/") if reference.strip("#/") else ():
            found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
        return found if isinstance(found, Mapping) else {}

    def _enum(self, values: list[Any], name: str) -> Any:
        told = {str(value).casefold() for value in self._text.field(name)} if name else set()
        for value in values:
            if str(value).casefold() in told:
                return value
        places = [(self._text.mentions(value), value) for value in values if isinstance(value, str) and value]
        mentioned = [(place, value) for place, value in places if place is not None]
        return min(mentioned, key=lambda pair: pair[0])[1] if mentioned else values[0]

    def _alternative(self, alternatives: list[Any], name: str, depth: int) -> Any:
        resolved = [self._resolved(schema) for schema in alternatives if isinstance(schema, Mapping)]
        nulls = [schema for schema in resolved if _kind(schema) == "null"]
        if nulls and depth >= _DEEPEST:
            return None
        others = [schema for schema in resolved if _kind(schema) != "null"]
        return self.make(others[0], name, depth) if others else None

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties") or {}
        required = schema.get("required") or ()
        names = [name for name in properties if depth < _DEEPEST or name in required]
        made = {name: self.make(properties[name], name, depth + 1) for name in names}
        for name in required:
            if name not in made:
                made[name] = self.make(schema.get("additionalProperties"), name, depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        fewest = int(schema.get("minItems", 0))
        most = int(schema.get("maxItems", max(fewest, _ITEMS)))
        items = self._resolved(schema.get("items") or {})
        told = next((value for value in self._text.field(name) if isinstance(value, list)), []) if name else []
        wanted = min(max(fewest, len(told) or len(self._text.sentences) or 1, 1), max(fewest, _ITEMS), most)
        if depth >= _DEEPEST:
            wanted = fewest
        if _kind(items) == "string" and "enum" not in items and all(isinstance(value, str) for value in told):
            made: list[Any] = [self._fitted(items, value) for value in told[:wanted]]
        else:
            made = []
        while len(made) < wanted:
            made.append(self.make(items, "", depth + 1))
        return _distinct(made, items) if schema.get("uniqueItems") else made

    def _boolean(self, name: str) -> bool:
        for value in self._text.field(name):
            if isinstance(value, bool):
                return value
            return str(value).casefold() in {"true", "yes", "да", "是"}
        return False

    def _number(self, schema: Mapping[str, Any], name: str, kind: str) -> int | float:
        schema = _described(schema)
        candidates = [_as_number(value) for value in self._text.field(name)] if name else []
        for number in [*candidates, *self._text.numbers]:
            if number is not None and _within(schema, number) and (kind == "number" or number.is_integer()):
                return int(number) if number.is_integer() else number
        return _least(schema, kind)

    def _string(self, schema: Mapping[str, Any], name: str) -> str:
        pattern, fallback = _FORMATS.get(schema.get("format", ""), ("", ""))
        if pattern:
            found = re.search(pattern, self._text.material) or re.search(pattern, self._text.text)
            return found[0] if found else fallback
        if "pattern" in schema:
            return self._matching(str(schema["pattern"]))
        for value in self._text.field(name) if name else ():
            if isinstance(value, str) and value:
                return self._fitted(schema, value)
        if name in _TITLE_NAMES:
            return self._fitted(schema, shortened(self._text.title, _TITLE_LENGTH))
        return self._fitted(schema, shortened(self._sentence(), _TEXT_LENGTH))

    def _sentence(self) -> str:
        sentences = self._text.sentences
        sentence = sentences[self._next % len(sentences)]
        self._next += 1
        return sentence

    def _matching(self, pattern: str) -> str:
        try:
            fits = re.compile(pattern)
        except re.error:
            return self._sentence()
        words = re.findall(r"\S+", self._text.material)
        stripped = [word.strip("\"'`.,;:()[]{}") for word in words]
        return next((word for word in [*stripped, *words] if fits.search(word)), self._sentence())

    @staticmethod
    def _fitted(schema: Mapping[str, Any], text: str) -> str:
        longest = schema.get("maxLength")
        if isinstance(longest, int) and len(text) > longest:
            text = shortened(text, longest)[:longest]
        return text.ljust(int(schema.get("minLength", 0)), ".")


def _kinds(schema: Mapping[str, Any]) -> tuple[str, ...]:
    kind = schema.get("type")
    if isinstance(kind, str):
        return (kind,)
    if isinstance(kind, list) and kind:
        return tuple(kind)
    if "properties" in schema:
        return ("object",)
    return ("array",) if "items" in schema else ("string",)


def _kind(schema: Mapping[str, Any]) -> str:
    kinds = _kinds(schema)
    return next((kind for kind in kinds if kind != "null"), kinds[0])


def _merge(into: dict[str, Any], part: Mapping[str, Any]) -> None:
    for key, value in part.items():
        if key == "properties":
            into[key] = {**into.get(key, {}), **value}
        elif key == "required":
            into[key] = [*into.get(key, ()), *value]
        else:
            into.setdefault(key, value)


def _described(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a number's schema with the limits that its description tells: 0 to 1."""
    told = _RANGE.search(str(schema.get("description") or ""))
    return schema if told is None else {"minimum": float(told[1]), "maximum": float(told[2]), **schema}


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _within(schema: Mapping[str, Any], number: float) -> bool:
    step = schema.get("multipleOf")
    return (
        number >= schema.get("minimum", -math.inf)
        and number <= schema.get("maximum", math.inf)
        and number > schema.get("exclusiveMinimum", -math.inf)
        and number < schema.get("exclusiveMaximum", math.inf)
        and (not step or math.isclose(number / step, round(number / step), abs_tol=1e-9))
    )


def _least(schema: Mapping[str, Any], kind: str) -> int | float:
    step = schema.get("multipleOf") or 1
    candidates: list[float] = [0]
    for key in ("minimum", "exclusiveMinimum"):
        if key in schema:
            low = schema[key]
            candidates += [low, math.ceil(low / step) * step, (math.floor(low / step) + 1) * step]
    for key in ("maximum", "exclusiveMaximum"):
        if key in schema:
            high = schema[key]
            candidates += [high, math.floor(high / step) * step, (math.ceil(high / step) - 1) * step]
    limits = [schema[key] for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum") if key in schema]
    if len(limits) >= 2 and kind == "number":
        candidates.append((limits[0] + limits[-1]) / 2)
    fitting = [number for number in candidates if _within(schema, number) and (kind == "number" or float(number).is_integer())]
    number = fitting[0] if fitting else 0
    return int(number) if float(number).is_integer() else number


def _distinct(values: list[Any], items: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    choices = list(items.get("enum") or ())
    for value in values:
        if value not in found:
            found.append(value)
        elif any(choice not in found for choice in choices):
            found.append(next(choice for choice in choices if choice not in found))
    return found
