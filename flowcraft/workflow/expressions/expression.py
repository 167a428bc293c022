"""Expressions: a small tree that is evaluated over a scope. Nothing here calls Python's own evaluation."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft.errors import FlowCraftError
from flowcraft.source import Position

Scope = Mapping[str, Any]

_SHOWN = 80

FUNCTIONS: Mapping[str, str] = {
    "len": "len(x): how many characters, elements or fields; of null 0",
    "any": "any(list): whether at least one element is true",
    "all": "all(list): whether every element is true",
    "json": "json(x): the value as JSON text",
    "default": "default(a, b, ...): the first that is not null",
    "file": "file('path'): the text of a file below the workflow's folder",
}


class ExpressionError(FlowCraftError):
    """An expression is wrong, or cannot be evaluated. ``offset`` and ``width`` point into its text."""

    def __init__(self, message: str, hint: str = "", *, offset: int = 0, width: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        self.offset = offset
        self.width = width


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A part of an expression; ``start`` and ``end`` are its place in the text."""

    start: int = field(default=0, compare=False)
    end: int = field(default=1, compare=False)

    def value(self, scope: Scope) -> Any:
        """Return what this part is worth in ``scope``. Raises ExpressionError."""
        raise NotImplementedError

    def parts(self) -> tuple[Node, ...]:
        """The parts directly below."""
        return ()

    def fail(self, message: str, hint: str = "") -> ExpressionError:
        """Return an error at this part."""
        return ExpressionError(message, hint, offset=self.start, width=max(self.end - self.start, 1))


def walk(node: Node) -> Iterator[Node]:
    """Yield ``node`` and all below it."""
    yield node
    for part in node.parts():
        yield from walk(part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Node):
    """A value that is written out; ``file`` names the file that it was read from."""

    constant: Any
    file: str = ""

    def value(self, scope: Scope) -> Any:
        """The constant."""
        return self.constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Name(Node):
    """A name of the scope."""

    name: str

    def value(self, scope: Scope) -> Any:
        """What the scope says."""
        try:
            return scope[self.name]
        except KeyError:
            raise self.fail(f"'{self.name}' has no value here") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute(Node):
    """A field of an object. Through null, and where the field or the object is missing, null."""

    of: Node
    name: str
    name_start: int = field(default=0, compare=False)

    def parts(self) -> tuple[Node, ...]:
        """The object."""
        return (self.of,)

    def value(self, scope: Scope) -> Any:
        """The field."""
        value = self.of.value(scope)
        return value.get(self.name) if isinstance(value, Mapping) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Index(Node):
    """An element of a list, or a field by its name in brackets. Out of range it is null."""

    of: Node
    index: Node

    def parts(self) -> tuple[Node, ...]:
        """The list and the index."""
        return (self.of, self.index)

    def value(self, scope: Scope) -> Any:
        """The element."""
        value, index = self.of.value(scope), self.index.value(scope)
        if isinstance(value, Mapping):
            return value.get(index) if isinstance(index, str) else None
        if not isinstance(value, list | tuple) or isinstance(index, bool) or not isinstance(index, int):
            return None
        return value[index] if -len(value) <= index < len(value) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListNode(Node):
    """A list that is written out."""

    elements: tuple[Node, ...]

    def parts(self) -> tuple[Node, ...]:
        """The elements."""
        return self.elements

    def value(self, scope: Scope) -> Any:
        """The list."""
        return [element.value(scope) for element in self.elements]


@dataclass(frozen=True, slots=True, kw_only=True)
class Both(Node):
    """``and``, ``or``: the last operand that was looked at, as in Python."""

    word: str
    operands: tuple[Node, ...]

    def parts(self) -> tuple[Node, ...]:
        """The operands."""
        return self.operands

    def value(self, scope: Scope) -> Any:
        """The first operand that decides, else the last."""
        wanted = self.word == "or"
        for operand in self.operands[:-1]:
            value = operand.value(scope)
            if bool(value) is wanted:
                return value
        return self.operands[-1].value(scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Not(Node):
    """``not x``."""

    operand: Node

    def parts(self) -> tuple[Node, ...]:
        """The operand."""
        return (self.operand,)

    def value(self, scope: Scope) -> Any:
        """The opposite."""
        return not self.operand.value(scope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Node):
    """``a if c else b``."""

    condition: Node
    then: Node
    otherwise: Node

    def parts(self) -> tuple[Node, ...]:
        """Both values and the condition."""
        return (self.then, self.condition, self.otherwise)

    def value(self, scope: Scope) -> Any:
        """One of both."""
        return (self.then if self.condition.value(scope) else self.otherwise).value(scope)


_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(Node):
    """``a < b <= c``, ``a in b``."""

    first: Node
    rest: tuple[tuple[str, Node], ...]

    def parts(self) -> tuple[Node, ...]:
        """All operands."""
        return (self.first, *(operand for _, operand in self.rest))

    def value(self, scope: Scope) -> Any:
        """Whether every link of the chain holds."""
        left = self.first.value(scope)
        for word, operand in self.rest:
            right = operand.value(scope)
            if not self._holds(word, left, right):
                return False
            left = right
        return True

    def _holds(self, word: str, left: Any, right: Any) -> bool:
        if word in ("==", "!="):
            return equal(left, right) is (word == "==")
        if word == "in":
            return self._within(left, right)
        if word == "not in":
            return not self._within(left, right)
        if left is None or right is None:
            return False
        if kind(left) != kind(right) or isinstance(left, Mapping):
            raise self.fail(f"'{word}' cannot compare {kind(left)} with {kind(right)}")
        try:
            return _ORDER[word](left, right)
        except TypeError:
            raise self.fail(f"'{word}' cannot compare these lists: their elements differ in kind") from None

    def _within(self, left: Any, right: Any) -> bool:
        if right is None:
            return False
        if isinstance(right, list | tuple):
            return any(equal(left, element) for element in right)
        if isinstance(right, Mapping):
            return isinstance(left, str) and left in right
        if isinstance(right, str):
            if left is None:
                return False
            if isinstance(left, str):
                return left in right
        raise self.fail(f"'in' cannot look for {kind(left)} in {kind(right)}")


def equal(left: Any, right: Any) -> bool:
    """Say whether two values are the same; unlike in Python, true is not 1, in no depth."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    return bool(left == right) and isinstance(left, bool) is isinstance(right, bool)


def kind(value: Any) -> str:
    """Return what a value is, in plain words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "an object" if isinstance(value, Mapping) else "a list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Node):
    """One of the built-in functions but ``file``, which is read at load."""

    function: str
    arguments: tuple[Node, ...]

    def parts(self) -> tuple[Node, ...]:
        """The arguments."""
        return self.arguments

    def value(self, scope: Scope) -> Any:
        """What the function gives."""
        if self.function == "default":
            return self._default(scope)
        argument = self.arguments[0].value(scope)
        if self.function == "json":
            return as_json(argument)
        if self.function == "len":
            return self._length(argument)
        if argument is None:
            return False
        if not isinstance(argument, list | tuple):
            raise self.fail(f"{self.function}() takes a list, not {kind(argument)}")
        return any(argument) if self.function == "any" else all(argument)

    def _default(self, scope: Scope) -> Any:
        for argument in self.arguments:
            value = argument.value(scope)
            if value is not None:
                return value
        return None

    def _length(self, argument: Any) -> int:
        if argument is None:
            return 0
        if isinstance(argument, str | list | tuple | Mapping):
            return len(argument)
        raise self.fail(f"len() takes text, a list or an object, not {kind(argument)}")


def as_json(value: Any) -> str:
    """Return ``value`` as JSON for people: indented, in its own letters, order kept."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=_plain)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """An expression that was read.

    ``names`` are the names of the scope that it mentions, ``run_stages`` the stages that it mentions as ``run.stages.NAME``;
    ``position`` is where it stands.
    """

    text: str
    root: Node = field(compare=False, repr=False)
    names: frozenset[str] = frozenset()
    run_stages: frozenset[str] = frozenset()
    position: Position = field(default_factory=Position, compare=False, repr=False)

    def evaluate(self, scope: Scope) -> Any:
        """Return the value in ``scope``. Raises ExpressionError, whose message names file, line and column."""
        try:
            return self.root.value(scope)
        except ExpressionError as error:
            raise self._placed(error) from None

    def _placed(self, error: ExpressionError) -> ExpressionError:
        place = self.position
        column = place.column + error.offset if place.line else error.offset + 1
        head = f"{place.file}:{place.line}:{column}: " if place.line else f"column {column}: "
        text = " ".join(self.text.split())
        message = f"{head}{error.message} (in: {text if len(text) <= _SHOWN else text[:_SHOWN] + '...'})"
        return ExpressionError(message, error.hint, offset=error.offset, width=error.width)

    @property
    def constant(self) -> bool:
        """Whether it mentions nothing, so that its value is always the same."""
        return not self.names
