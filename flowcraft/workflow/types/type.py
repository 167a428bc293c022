"""The types of the language: what fits them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flowcraft.errors import FlowCraftError

SCALARS = ("string", "integer", "number", "boolean", "any", "null")
_MOST_DETAILS = 20
INLINE = 400
_SHOWN = 40
_DEEP_ENOUGH = 8

Details = list[dict[str, str]]


class TypeMismatch(FlowCraftError):
    """A value does not fit a type. ``details`` is a list of ``{field, message}``; ``field`` is empty for the whole value."""

    def __init__(self, details: Details) -> None:
        told = [f"{item['field']}: {item['message']}" if item["field"] else item["message"] for item in details]
        super().__init__("; ".join(told))
        self.details = details


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """What a value may be. ``description`` is told to models, forms and the command line; types are equal without it."""

    description: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """The type as one writes it, without its description."""
        raise NotImplementedError

    @property
    def nullable(self) -> bool:
        """Whether null fits."""
        return False

    @property
    def size(self) -> int:
        """How many types it is made of."""
        return 1

    def check(self, value: Any) -> Any:
        """Return ``value`` without fields that the type lacks; raise TypeMismatch with all that is wrong."""
        details: Details = []
        fitting = self.fit(value, "", details)
        if details:
            raise TypeMismatch(details)
        return fitting

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema: every field required, no others allowed; large types refer to ``$defs``."""
        if self.size <= INLINE:
            return self.schema(None)
        defs: dict[str, Any] = {}
        root = (self.target if isinstance(self, Named) else self).schema(defs)
        return {**root, "$defs": defs} if defs else root

    def resolve(self, load: Callable[[str], Any]) -> Type:
        """Return the type with its pydantic models imported; ``load`` returns the module of a name."""
        return self

    @property
    def bare(self) -> Type:
        """The type behind its name and without null: what has fields or elements."""
        return self

    def fit(self, value: Any, where: str, details: Details) -> Any:
        """Return ``value`` as it fits, or add to ``details`` what is wrong at ``where``."""
        raise NotImplementedError

    def schema(self, defs: dict[str, Any] | None) -> dict[str, Any]:
        """Return the JSON Schema of this part; named types go into ``defs`` unless it is None."""
        raise NotImplementedError

    def _described(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {**schema, "description": self.description} if self.description else schema


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"a boolean ({'true' if value else 'false'})"
    if isinstance(value, int | float):
        return f"a number ({value!r})"
    if isinstance(value, str):
        return f"text ({value!r})" if len(value) <= _SHOWN else "text"
    if isinstance(value, list | tuple):
        return "a list"
    return "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def _wrong(details: Details, where: str, message: str) -> None:
    if len(details) < _MOST_DETAILS:
        details.append({"field": where, "message": message})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar(Type):
    """``string``, ``integer``, ``number``, ``boolean``, ``null`` or ``any``."""

    name: str

    @property
    def text(self) -> str:
        """The name."""
        return self.name

    @property
    def nullable(self) -> bool:
        """Whether null fits."""
        return self.name in ("any", "null")

    def fit(self, value: Any, where: str, details: Details) -> Any:
        """Return ``value``; a whole number written as 3.0 is an integer."""
        name, kind = self.name, type(value)
        if name == "any" or (name == "string" and kind is str) or (name == "boolean" and kind is bool):
            return value
        if name == "string" and isinstance(value, str):
            return str(value)
        if (name == "null" and value is None) or (name in ("integer", "number") and kind is int):
            return value
        if kind is float and name == "number" and math.isfinite(value):
            return value
        if kind is float and name == "integer" and value.is_integer():
            return int(value)
        _wrong(details, where, f"must be {_NOUNS[name]}, not {_kind(value)}")
        return None

    def schema(self, defs: dict[str, Any] | None) -> dict[str, Any]:
        """Return ``{type: ...}``; nothing for any."""
        return self._described({} if self.name == "any" else {"type": self.name})


_NOUNS = {"string": "text", "integer": "an integer", "number": "a number", "boolean": "true or false", "null": "null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Enumeration(Type):
    """One of several words."""

    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The words."""
        return " | ".join(self.words)

    def fit(self, value: Any, where: str, details: Details) -> Any:
        """Return ``value`` if it is one of the words."""
        if isinstance(value, str) and value in self.words:
            return value
        _wrong(details, where, f"must be one of {', '.join(self.words)}, not {_kind(value)}")
        return None

    def schema(self, defs: dict[str, Any] | None) -> dict[str, Any]:
        """Return ``{type: string, enum: [...]}``."""
        return self._described({"type": "string", "enum": list(self.words)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf(Type):
    """A list whose elements are of one type."""

    element: Type

    @property
    def text(self) -> str:
        """``[T]``."""
        return f"[{self.element.text}]"

    @property
    def size(self) -> int:
        """One more than the element."""
        return self.element.size + 1

    def fit(self, value: Any, where: str, details: Details) -> Any:
        """Return the elements as they fit."""
        if not isinstance(value, list | tuple):
            _wrong(details, where, f"must be a list, not {_kind(value)}")
            return None
        fit = self.element.fit
        return [fit(element, f"{where}[{index}]", details) for index, element in enumerate(value)]

    def schema(self, defs: dict[str, Any] | None) -> dict[str, Any]:
        """Return ``{type: array, items: ...}``."""
        return self._described({"type": "array", "items": self.element.schema(defs)})

    def resolve(self, load: Callable[[str], Any]) -> Type:
        """Resolve the element."""
        return replace(self, element=self.element.resolve(load))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields(Type):
    """An object with named fields. A field that admits null may be left out; others than these are dropped."""

    fields: Mapping[str, Type]
    total: int = field(init=False, default=0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", 1 + sum(kind.size for kind in self.fields.values()))

    @property
    def text(self) -> str:
        """``{a: T, b: T}``."""
        return "{" + ", ".join(f"{name}: {kind.text}" for name, kind in self.fields.items()) + "}"

    @property
    def size(self) -> int:
        """One more than all fields."""
        return self.total

    def fit(self, value: Any, where: str, details: Details) -> Any:
        """Return the declared fields, in the order of their declaration."""
        if not isinstance(value, Mapping):
            _wrong(details, where, f"must be an object, not {_kind(value)}")
            return None
        prefix = f"{where}." if where else ""
        fitting = {}
        for name, kind in self.fields.items():
            if name in value:
                fitting[name] = kind.fit(value[name], f"{prefix}{name}", details)
            elif kind.nullable:
                fitting[name] = None
            else:
                _wrong(details, f"{prefix}{name}", "is missing")
        return fitting

    def schema(self, defs: dict[str, Any] | None) -> dict[str, Any]:
        """Return a closed object with all fields required."""
        properties = {name: kind.schema(defs) for name, kind in self.fields.items()}
        closed = {"type": "object", "properties": properties, "required": list(self.fields), "additionalProperties": False}
        return self._described(closed)

    def resolve(self, load: Callable[[str], Any]) -> Type:
        """Resolve the fields."""
        return replace(self, fields={name: kind.resolve(load) for name, kind in self.fields.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Nullable(Type):
    """A type or null."""

    inner: Type

    @property
    def text(self) -> str:
        """``T | null``."""
        return f"{self.inner.text} | null"

    @property
    def nullable(self) -> bool:
        """True."""
        return True

    @property
    def size(self) -> int:
        """One more than the type."""
        return self.inner.size + 1

    @property
    def bare(self) -> Type:
        """The type that is not null."""
        return self.inner.bare

    def fit(self, value: Any, where: str, details: Details) -> Any:
        """Return null, or the value as it fits."""
        return None if value is None else self.inner.fit(value, where, details)

    def schema(self, defs: dict[str, Any] | None) -> dict[str, Any]:
        """Return the schema with null allowed."""
        inner = self.inner.schema(defs)
        kind = inner.get("type")
        if isinstance(kind, str) and kind not in ("object", "array"):
            both = {**inner, "type": [kind, "null"]}
            return self._described({**both, "enum": [*inner["enum"], None]} if "enum" in inner else both)
        return self._described({"anyOf": [inner, {"type": "null"}]})

    def resolve(self, load: Callable[[str], Any]) -> Type:
        """Resolve the type."""
        return replace(self, inner=self.inner.resolve(load))


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Type):
    """A type by its name under ``types``."""

    name: str
    target: Type = field(compare=False)

    @property
    def text(self) -> str:
        """The name."""
        return self.name

    @property
    def nullable(self) -> bool:
        """Whether null fits what the name stands for."""
        return self.target.nullable

    @property
    def size(self) -> int:
        """That of what the name stands for."""
        return self.target.size

    @property
    def bare(self) -> Type:
        """What the name stands for."""
        return self.target.bare

    def fit(self, value: Any, where: str, details: Details) -> Any:
        """Return the value as it fits what the name stands for."""
        return self.target.fit(value, where, details)

    def schema(self, defs: dict[str, Any] | None) -> dict[str, Any]:
        """Return the schema of what the name stands for, or a reference to it."""
        if defs is None or self.target.size == 1:
            return self._described(self.target.schema(defs))
        if self.name not in defs:
            defs[self.name] = {}
            defs[self.name] = self.target.schema(defs)
        return self._described({"$ref": f"#/$defs/{self.name}"})

    def resolve(self, load: Callable[[str], Any]) -> Type:
        """Resolve what the name stands for."""
        return replace(self, target=self.target.resolve(load))


STRING = Scalar(name="string")
INTEGER = Scalar(name="integer")
NUMBER = Scalar(name="number")
BOOLEAN = Scalar(name="boolean")
NULL = Scalar(name="null")
ANY = Scalar(name="any")


def depth_of(kind: Type, known: Mapping[str, int]) -> int:
    """Return how deep lists and objects nest in a type; ``known`` has the depths of named types."""
    if isinstance(kind, Named):
        return known.get(kind.name, 0)
    if isinstance(kind, ListOf):
        return depth_of(kind.element, known) + 1
    if isinstance(kind, Nullable):
        return depth_of(kind.inner, known)
    if isinstance(kind, Fields):
        return 1 + max(depth_of(part, known) for part in kind.fields.values())
    return 0


def nullable(inner: Type) -> Type:
    """Return ``inner`` or null."""
    return inner if inner.nullable else Nullable(inner=inner)


def type_of(value: Any) -> Type:
    """Return the type of a JSON-like value."""
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        return INTEGER
    if isinstance(value, float):
        return NUMBER
    if isinstance(value, str):
        return STRING
    if isinstance(value, list):
        return ListOf(element=common(type_of(element) for element in value))
    if isinstance(value, Mapping):
        return Fields(fields={str(name): type_of(part) for name, part in value.items()})
    return NULL


def common(kinds: Any) -> Type:
    """Return the one type of all ``kinds``, any where they differ; nulls do not count."""
    found: Type | None = None
    for kind in kinds:
        if kind.bare == NULL:
            continue
        if found is None:
            found = kind
        elif {found.bare.text, kind.bare.text} == {"integer", "number"}:
            found = NUMBER
        elif found.bare != kind.bare:
            return ANY
    return ANY if found is None else found


def fits(given: Type, wanted: Type, depth: int = 0) -> bool:
    """Say whether a value of type ``given`` may fit ``wanted``. Null fits everywhere here; it is checked when it comes."""
    source, target = given.bare, wanted.bare
    if depth > _DEEP_ENOUGH or given is wanted:
        return True
    if isinstance(source, Scalar) and source.name in ("any", "null"):
        return True
    if isinstance(target, Scalar) and target.name == "any":
        return True
    if isinstance(source, ListOf) and isinstance(target, ListOf):
        return fits(source.element, target.element, depth + 1)
    if isinstance(source, Fields) and isinstance(target, Fields):
        return all(
            fits(source.fields[name], kind, depth + 1) if name in source.fields else kind.nullable
            for name, kind in target.fields.items()
        )
    if isinstance(source, Enumeration) and isinstance(target, Enumeration):
        return not set(source.words).isdisjoint(target.words)
    if type(source) not in _KNOWN or type(target) not in _KNOWN:
        return True
    names = (_word(source), _word(target))
    return names[0] == names[1] or set(names) == {"integer", "number"}


_KNOWN = frozenset({Scalar, Enumeration, ListOf, Fields})


def _word(kind: Type) -> str:
    if isinstance(kind, Scalar):
        return kind.name
    if isinstance(kind, Enumeration):
        return "string"
    return "list" if isinstance(kind, ListOf) else "object"
