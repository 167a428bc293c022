"""Types as they are written, in YAML's own lists or in text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from flowcraft.errors import FlowCraftError
from flowcraft.source import did_you_mean, listed, nearest
from flowcraft.source.schemas import schema_mistakes
from flowcraft.workflow.types.foreign import Model, Schema, imports
from flowcraft.workflow.types.type import (
    ANY,
    BOOLEAN,
    INTEGER,
    NULL,
    NUMBER,
    SCALARS,
    STRING,
    Enumeration,
    Fields,
    ListOf,
    Nullable,
    Type,
    TypeMismatch,
)

_BUILT_IN: Mapping[str, Type] = {
    "string": STRING,
    "integer": INTEGER,
    "number": NUMBER,
    "boolean": BOOLEAN,
    "any": ANY,
    "null": NULL,
}
_FOREIGN_NAMES = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "none": "null",
    "list": "[any]",
    "array": "[any]",
    "dict": "any",
    "object": "any",
    "date": "string",
}
_IN_BRACKETS = re.compile(r"\s*\[\s*(\w+)\s*\]")
_DESCRIBING = frozenset(
    {"type", "description", "default", "required", "title", "format", "example", "examples", "enum", "items", "properties"}
    | {"optional", "nullable", "minimum", "maximum", "minLength", "maxLength", "additionalProperties", "$schema"}
)
"""What other tools say of a value, each under a key of its own."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[|\[\]{},=(])|(?P<quoted>'[^']*'|"[^"]*")|(?P<word>[^\s|\[\]{}(),='":]+(?::[A-Za-z_]\w*)?))"""
)
_MODEL = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_FIELD = re.compile(r"""\s*(?:'([^']+)'|"([^"]+)"|([^\s|\[\]{}(),='":]+))\s*:(?=\s|[\[{'"])""")
_SPACE = re.compile(r"\s*")
_DEEPEST = 30
_FEW = 50

MISSING = object()
"""Stands for: no default."""


class TypeSyntaxError(FlowCraftError):
    """A type cannot be read. ``offset`` and ``width`` point into its text, ``path`` to the part of the YAML around.

    ``others`` are the errors of further fields of the same object.
    """

    def __init__(self, message: str, hint: str = "", *, offset: int = 0, width: int | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.offset = offset
        self.width = width
        self.path: tuple[str | int, ...] = ()
        self.others: tuple[TypeSyntaxError, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A type as it was written; ``default`` is MISSING where there is none. ``warnings`` are (path, message, hint)."""

    type: Type
    default: Any = MISSING


class TypeReader:
    """Reads types. ``named`` looks a name of ``types`` up; ``model`` says why a pydantic model cannot be used, or nothing."""

    def __init__(
        self,
        named: Callable[[str], Type | None],
        names: Callable[[], tuple[str, ...]],
        model: Callable[[str], str],
        warn: Callable[[tuple[str | int, ...], str, str], None],
        folder: str = "",
    ) -> None:
        self.named = named
        self.names = names
        self.model = model
        self.warn = warn
        self.folder = folder

    def read(self, data: Any, path: tuple[str | int, ...] = (), *, default: bool = False) -> Written:
        """Return the type that YAML ``data`` says. Raises TypeSyntaxError."""
        try:
            if isinstance(data, str):
                return _Text(self, data, path).whole(default=default)
            return Written(type=self._structure(data, path))
        except TypeSyntaxError as error:
            if not error.path:
                error.path = path
            raise

    def _structure(self, data: Any, path: tuple[str | int, ...]) -> Type:
        if data is None:
            raise TypeSyntaxError("a type is missing", "write string, integer, number, boolean, [T], {field: T} or a | b")
        if isinstance(data, list):
            if len(data) != 1:
                raise TypeSyntaxError("a list type has exactly one element type: [T]")
            return ListOf(element=self.read(data[0], (*path, 0)).type)
        if not isinstance(data, Mapping):
            raise TypeSyntaxError(f"{json.dumps(data)} is no type", "write string, integer, number or boolean")
        if set(data) == {"schema"} and isinstance(data["schema"], Mapping):
            return self._schema(data["schema"], (*path, "schema"))
        if not data:
            raise TypeSyntaxError("an object type without fields", "write any")
        return self._object(data, path)

    def _object(self, data: Mapping[str, Any], path: tuple[str | int, ...]) -> Type:
        """Return the type of an object, unless it is what other tools say of one value: {type: string, default: x}."""
        described = _described(data) if set(data) <= _DESCRIBING else ""
        fields: dict[str, Type] = {}
        wrong: list[TypeSyntaxError] = []
        for name, part in data.items():
            try:
                fields[name] = self.read(part, (*path, name)).type
            except TypeSyntaxError as error:
                wrong += (error, *error.others)
        if wrong and described:
            told = TypeSyntaxError(f"this reads as an object with the fields {listed(data)}", described, width=None)
            told.path = path
            raise told
        if wrong:
            wrong[0].others = tuple(wrong[1:])
            raise wrong[0]
        kind = Fields(fields=fields)
        if described and len(data) == 1:
            self.warn(path, "this is an object with the one field 'type'", described)
        return kind

    def _schema(self, definition: Mapping[str, Any], path: tuple[str | int, ...]) -> Type:
        for where, message in schema_mistakes(definition):
            error = TypeSyntaxError(f"this is no JSON Schema: {message}")
            error.path = (*path, *where)
            raise error
        return Schema(definition=definition)


class _Text:
    """One type in text: ``union [= default] [(description)]``."""

    def __init__(self, reader: TypeReader, text: str, path: tuple[str | int, ...]) -> None:
        self.reader = reader
        self.text = text
        self.path = path
        self.place = 0
        self.depth = 0

    def whole(self, *, default: bool) -> Written:
        """Read all of it."""
        kind = self.union()
        value: Any = MISSING
        description = ""
        if self.peek() == "=":
            start = self.place
            if not default:
                raise self.fail("only inputs have a default", start=start, width=len(self.text) - start)
            self.take()
            value, description = self.default(kind)
        elif self.peek() == "(":
            description = self.description()
        if self.peek():
            hint = "a description stands in parentheses: string (what it is)"
            raise self.fail("text behind the type", hint, start=self.start(), width=len(self.text) - self.start())
        return Written(type=replace(kind, description=description) if description else kind, default=value)

    def union(self) -> Type:
        """Read ``a | b | ...``."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.fail(f"a type deeper than {_DEEPEST}")
        start = self.start()
        parts = [self.part()]
        while self.peek() == "|":
            self.take()
            parts.append(self.part())
        self.depth -= 1
        return self.united(parts, start)

    def united(self, parts: list[Type | _Word], start: int) -> Type:
        """Return the type of a union: an enumeration, or one type or null."""
        rest = [part for part in parts if part != NULL]
        with_null = len(rest) < len(parts)
        words = [part for part in rest if isinstance(part, _Word)]
        kinds = [part for part in rest if isinstance(part, Type)]
        if len(words) >= 2 and not kinds:
            return self.enumeration(words, with_null=with_null)
        if words:
            raise self.unknown(words[0], alone=len(rest) == 1)
        if len(kinds) > 1:
            raise self.fail("a union of several types", "only T | null, or an enumeration of words", start=start)
        if not kinds:
            return NULL
        return Nullable(inner=kinds[0]) if with_null and not kinds[0].nullable else kinds[0]

    def enumeration(self, words: list[_Word], *, with_null: bool) -> Type:
        """Return an enumeration; warn of a word that looks like a type."""
        seen: set[str] = set()
        for word in words:
            if word.text in seen:
                raise self.fail(f"the word '{word.text}' stands twice", start=word.start, width=word.width)
            seen.add(word.text)
            near = nearest(word.text, [*SCALARS, *self.reader.names()]) if len(words) <= _FEW else None
            if near is not None and not word.quoted:
                self.reader.warn(self.path, f"the word '{word.text}' of the enumeration is near the type '{near}'", "")
        kind = Enumeration(words=tuple(word.text for word in words))
        return Nullable(inner=kind) if with_null else kind

    def unknown(self, word: _Word, *, alone: bool) -> TypeSyntaxError:
        """Return the error of a word that is no type."""
        meant = _FOREIGN_NAMES.get(word.text.lower())
        inner = _IN_BRACKETS.match(self.text, self.place) if meant == "[any]" else None
        if inner:  # list[str], as Python writes it
            meant = f"[{_FOREIGN_NAMES.get(inner[1].lower(), inner[1])}]"
        known = [*SCALARS, *self.reader.names()]
        hint = f"did you mean '{meant}'?" if meant else did_you_mean(word.text, known)
        message = f"unknown type '{word.text}'"
        if alone and not hint:
            hint = "an enumeration has at least two words: a | b"
        if not alone:
            message = f"'{word.text}' is no type, and words and types do not mix in a union"
        return self.fail(message, hint, start=word.start, width=word.width)

    def part(self) -> Type | _Word:
        """Read a name, a list, an object or a word."""
        mark = self.peek()
        if mark == "[":
            return self.list()
        if mark == "{":
            return self.fields()
        found = _TOKEN.match(self.text, self.place)
        if found is None or found["mark"]:
            what = f"before '{found['mark']}'" if found else "here"
            raise self.fail(f"a type is missing {what}", start=self.start())
        start = found.start(found.lastgroup or 0)
        self.place = found.end()
        if found["quoted"]:
            return _Word(found["quoted"][1:-1], start, len(found["quoted"]), quoted=True)
        return self.named(found["word"], start)

    def named(self, word: str, start: int) -> Type | _Word:
        """Return the type of a name, or the word where it is none."""
        if word in _BUILT_IN:
            return _BUILT_IN[word]
        if _MODEL.fullmatch(word):
            trouble = self.reader.model(word)
            if trouble:
                raise self.fail(trouble, start=start, width=len(word))
            return Model(target=word, folder=self.reader.folder)
        return self.reader.named(word) or _Word(word, start, len(word))

    def list(self) -> Type:
        """Read ``[T]``."""
        start = self.start()
        self.take()
        element = self.union()
        if self.peek() == "(":
            element = replace(element, description=self.description())
        if self.peek() != "]":
            raise self.fail("a '[' that is not closed", start=start)
        self.take()
        return ListOf(element=element)

    def fields(self) -> Type:
        """Read ``{a: T, b: T}``."""
        start = self.start()
        self.take()
        fields: dict[str, Type] = {}
        while self.peek() != "}":
            name = _FIELD.match(self.text, self.place)
            if name is None:
                raise self.fail("a field is written 'name: type'", start=self.start())
            self.place = name.end()
            kind = self.union()
            fields[name[1] or name[2] or name[3]] = (
                replace(kind, description=self.description()) if self.peek() == "(" else kind
            )
            if self.peek() == ",":
                self.take()
            elif self.peek() != "}":
                raise self.fail("a '{' that is not closed", start=start)
        self.take()
        if not fields:
            raise self.fail("an object type without fields", "write any", start=start)
        return Fields(fields=fields)

    def description(self) -> str:
        """Read ``(...)``, whose parentheses are balanced."""
        start = self.start()
        depth = 0
        for place in range(start, len(self.text)):
            depth += {"(": 1, ")": -1}.get(self.text[place], 0)
            if depth == 0:
                self.place = place + 1
                return self.text[start + 1 : place].strip()
        raise self.fail("a '(' that is not closed", "within {...}, text that holds a comma stands in quotes", start=start)

    def default(self, kind: Type) -> tuple[Any, str]:
        """Read ``= value [(description)]`` to the end."""
        start = self.start()
        rest = self.text[self.place :].strip()
        self.place = len(self.text)
        if not rest:
            raise self.fail("a default is missing behind '='", start=max(start - 1, 0))
        before, description = _split_description(rest)
        problem = ""
        for text, told in ((rest, ""), (before, description)):
            try:
                value = _value(text, kind)
                return value if imports(kind) else kind.check(value), told  # else checked when the run starts
            except ValueError:
                problem = "write true or false" if kind.bare == BOOLEAN else f"{_shown(text)} is no JSON"
            except TypeMismatch as error:
                problem = str(error)
        raise self.fail(f"the default does not fit {kind.text}: {problem}", start=start, width=len(before))

    def start(self) -> int:
        """Return where the next token begins."""
        return min(_next(self.text, self.place), max(len(self.text) - 1, 0))

    def peek(self) -> str:
        """Return the next character that is no space."""
        place = _next(self.text, self.place)
        return self.text[place : place + 1]

    def take(self) -> None:
        """Go on behind the next character."""
        self.place = self.start() + 1

    def fail(self, message: str, hint: str = "", *, start: int = 0, width: int | None = 1) -> TypeSyntaxError:
        """Return an error at ``start``."""
        error = TypeSyntaxError(message, hint, offset=start, width=width)
        error.path = self.path
        return error


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of an enumeration."""

    text: str
    start: int
    width: int
    quoted: bool = False


def _described(data: Mapping[str, Any]) -> str:
    """Return how one writes here what ``{type: ..., default: ..., description: ...}`` means; empty where it is none."""
    kind = data.get("type")
    named = _FOREIGN_NAMES.get(kind.lower(), kind.lower()) if isinstance(kind, str) else ""
    if {"properties", "items", "enum", "additionalProperties"} & set(data):
        return "a JSON Schema stands under 'schema': {schema: {type: ...}}" if named else ""
    if named not in (*_BUILT_IN, *_FOREIGN_NAMES.values()):
        return ""
    default = data.get("default")
    if "default" in data:
        named += f" = {default if isinstance(default, str) else json.dumps(default)}"
    elif data.get("required") is False or data.get("optional") is True:
        named += " | null"
    if isinstance(data.get("description"), str):
        named += f" ({data['description']})"
    return f"write the type alone: {named}"


def _next(text: str, place: int) -> int:
    """Return where the next character that is no space stands."""
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _split_description(text: str) -> tuple[str, str]:
    """Split ``value (description)``."""
    if not text.endswith(")"):
        return text, ""
    depth = 0
    for place in range(len(text) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(text[place], 0)
        if depth == 0:
            spaced = place == 0 or text[place - 1].isspace()
            return (text[:place].rstrip(), text[place + 1 : -1].strip()) if spaced else (text, "")
    return text, ""


def _value(text: str, kind: Type) -> Any:
    """Return the value of a default: JSON, or bare words for text and enumerations. Raises ValueError."""
    wordy = kind.bare == STRING or isinstance(kind.bare, Enumeration)
    if wordy and not (text.startswith('"') or (text == "null" and kind.nullable)):
        if "(" in text and _split_description(text)[1]:
            raise ValueError(text)
        return text
    try:
        return parse_json(text)
    except RecursionError:
        raise ValueError(text) from None


def _shown(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."


def parse_json(text: str) -> Any:
    """Return what strict JSON says: no NaN, no number beyond all limits. Raises ValueError, RecursionError."""
    return json.loads(text, parse_constant=_no_constant, parse_float=finite)


def finite(text: str) -> float:
    """Return the number that ``text`` says. Raises ValueError where it is too large."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
