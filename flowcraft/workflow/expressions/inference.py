"""The types of expressions, found before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flowcraft.source import did_you_mean, listed
from flowcraft.workflow.expressions.expression import (
    Attribute,
    Both,
    Call,
    Choice,
    Comparison,
    Constant,
    ExpressionError,
    Index,
    ListNode,
    Name,
    Node,
    Not,
)
from flowcraft.workflow.expressions.template import Template
from flowcraft.workflow.types.type import (
    ANY,
    BOOLEAN,
    INTEGER,
    NULL,
    STRING,
    Enumeration,
    Fields,
    ListOf,
    Scalar,
    Type,
    common,
    type_of,
)

_NOT_WHOLE = frozenset({"run", "env"})
_RUN_STAGES = Attribute(of=Name(name="run"), name="stages")
_GROUPS = frozenset({"stages", "steps", "tasks", "jobs", "nodes", "outputs", "needs", "context", "state", "vars"})
_LENGTHS = frozenset({"length", "size", "count"})
_WHOLE = frozenset({"text", "output", "outputs", "result", "content", "answer", "response", "stdout"})
_KINDS = {"string": "text", "integer": "a number", "number": "a number", "boolean": "a boolean"}


class Inference:
    """Finds the type of expressions over ``names``; ``hidden`` says why a known name does not stand here.

    What is wrong is kept in ``problems``, what is doubtful in ``doubts``.
    """

    def __init__(self, names: Mapping[str, Type], hidden: Mapping[str, str], stages: Mapping[str, Any]) -> None:
        self.names = names
        self.hidden = hidden
        self.stages = stages
        self.problems: list[ExpressionError] = []
        self.doubts: list[ExpressionError] = []
        self._by_kind: dict[type[Node], Callable[[Any], Type]] = {
            Constant: lambda node: type_of(node.constant),
            Name: self._name,
            Attribute: self._attribute,
            Index: self._index,
            ListNode: lambda node: ListOf(element=common([self.of(part) for part in node.elements])),
            Both: lambda node: common([self.of(part) for part in node.operands]),
            Not: self._not,
            Choice: self._choice,
            Comparison: self._comparison,
            Call: self._call,
        }

    def of(self, node: Node) -> Type:
        """Return the type of ``node``."""
        return self._by_kind[type(node)](node)

    def of_value(self, value: Any) -> Type:
        """Return the type of a value whose text leaves may be templates."""
        if isinstance(value, Template):
            return self.of(value.whole.root) if value.whole is not None else STRING
        if isinstance(value, Mapping):
            return Fields(fields={str(name): self.of_value(part) for name, part in value.items()})
        if isinstance(value, list | tuple):
            return ListOf(element=common([self.of_value(part) for part in value]))
        return type_of(value)

    def _wrong(self, node: Node, message: str, hint: str = "") -> Type:
        self.problems.append(node.fail(message, hint))
        return ANY

    def _name(self, node: Name) -> Type:
        if node.name in _NOT_WHOLE and node.name in self.names:
            return self._wrong(node, f"'{node.name}' stands only with a field", f"write {node.name}.{_example(node.name)}")
        return self._known(node)

    def _known(self, node: Name) -> Type:
        if node.name in self.hidden:
            return self._wrong(node, self.hidden[node.name])
        if node.name in self.names:
            return self.names[node.name]
        inputs = self.names["inputs"].bare if "inputs" in self.names else ANY
        if isinstance(inputs, Fields) and node.name in inputs.fields:
            return self._wrong(node, f"unknown name '{node.name}'", f"it is an input: write inputs.{node.name}")
        if node.name in _GROUPS:
            return self._wrong(
                node, f"unknown name '{node.name}'", "a stage is mentioned by its name alone, an input as inputs.x"
            )
        if node.name == "secrets":
            return self._wrong(node, f"unknown name '{node.name}'", "list its name under 'env', and write env.NAME in 'with'")
        groups = [name for name, kind in self.stages.items() if isinstance(kind.bare, Fields) and node.name in kind.bare.fields]
        if len(groups) == 1:
            return self._wrong(node, f"unknown name '{node.name}'", f"stage '{groups[0]}' has it: {groups[0]}.{node.name}")
        names = [name for name in self.names if name not in self.hidden]
        hint = did_you_mean(node.name, names) or f"the names here are: {listed(names)}"
        return self._wrong(node, f"unknown name '{node.name}'", hint)

    def _base(self, node: Node) -> Type:
        """Return the type of what stands before a field: there ``run``, ``env`` and ``run.stages`` may stand."""
        if node == _RUN_STAGES and isinstance(node, Attribute):
            return self._field(node.of, node.name, node)
        return self._known(node) if isinstance(node, Name) else self.of(node)

    def _attribute(self, node: Attribute) -> Type:
        if node == _RUN_STAGES:
            return self._wrong(node, "'run.stages' stands only with a stage's name", "write run.stages.NAME.state")
        place = Constant(constant=None, start=node.name_start, end=node.end)
        return self._field(node.of, node.name, place)

    def _field(self, of: Node, name: str, place: Node) -> Type:
        base = self._base(of).bare
        if isinstance(base, Fields):
            return base.fields[name] if name in base.fields else self._unknown_field(of, base, name, place)
        counted = f"write len({_written(of)})" if name in _LENGTHS else ""
        if isinstance(base, ListOf):
            message = f"{_named(of, self.stages)} is a list and has no field '{name}'"
            return self._wrong(place, message, counted or "take an element: [0]")
        if isinstance(base, Enumeration) or (isinstance(base, Scalar) and base.name in _KINDS):
            what = _KINDS[base.name] if isinstance(base, Scalar) else "text"
            hint = "give the stage an 'output' with fields" if isinstance(of, Name) and of.name in self.stages else ""
            if hint and name in _WHOLE:
                hint = f"what it gives is {_written(of)} itself; for fields give the stage an 'output'"
            return self._wrong(place, f"{_named(of, self.stages)} is {what} and has no field '{name}'", counted or hint)
        return ANY

    def _unknown_field(self, of: Node, base: Fields, name: str, place: Node) -> Type:
        has = f" (it has: {listed(base.fields)})" if base.fields else ""
        message = f"unknown field '{name}' of {_named(of, self.stages)}{has}"
        hint = did_you_mean(name, base.fields)
        if isinstance(of, Name) and of.name == "inputs":
            has = f" (there are: {listed(base.fields)})" if base.fields else "; there are none"
            message = f"unknown input '{name}'{has}"
        elif isinstance(of, Name) and of.name == "env":
            message, hint = f"'{name}' is not listed under 'env'", hint or f"add it: env: [{name}]"
        elif isinstance(of, Name) and of.name == "run" and name in ("state", "error"):
            message, hint = f"'run.{name}' stands only in 'finally'", ""
        elif isinstance(of, Attribute) and of.name == "stages" and of.of == Name(name="run"):
            message = f"unknown stage '{name}'"
        return self._wrong(place, message, hint)

    def _index(self, node: Index) -> Type:
        index = node.index
        if isinstance(index, Constant) and isinstance(index.constant, str):
            return self._field(node.of, index.constant, index)
        if isinstance(node.of, Name) and node.of.name in _NOT_WHOLE:
            self.of(index)
            return self._wrong(index, f"a field of '{node.of.name}' is written out")
        base, kind = self.of(node.of).bare, self.of(index).bare
        if isinstance(base, ListOf):
            if isinstance(kind, Scalar) and kind.name in ("integer", "any", "null"):
                return base.element
            return self._wrong(index, f"a list is indexed by a whole number, not by {_plain(kind)}")
        if isinstance(base, Fields):
            if isinstance(kind, Scalar) and kind.name not in ("string", "any", "null"):
                return self._wrong(index, f"{_named(node.of, self.stages)} is an object: a field is written ['name']")
            return ANY
        if base not in (ANY, NULL) and isinstance(base, Scalar | Enumeration):
            return self._wrong(index, f"{_named(node.of, self.stages)} is {_plain(base)} and has no elements")
        return ANY

    def _not(self, node: Not) -> Type:
        self.of(node.operand)
        return BOOLEAN

    def _choice(self, node: Choice) -> Type:
        self.of(node.condition)
        return common([self.of(node.then), self.of(node.otherwise)])

    def _comparison(self, node: Comparison) -> Type:
        left, kind = node.first, self.of(node.first).bare
        for word, right in node.rest:
            other = self.of(right).bare
            self._compare(node, word, (left, kind), (right, other))
            left, kind = right, other
        return BOOLEAN

    def _compare(self, node: Comparison, word: str, left: tuple[Node, Type], right: tuple[Node, Type]) -> None:
        if word in ("in", "not in"):
            self._membership(node, left, right)
        elif word in ("==", "!="):
            self._word_of(left[1], right[0])
            self._word_of(right[1], left[0])
            kinds = {_group(left[1]), _group(right[1])}
            if len(kinds) == 2 and not kinds & {"", "null"}:
                fields = next((kind.fields for _, kind in (left, right) if isinstance(kind, Fields)), None)
                hint = f"compare a field of it: {listed(fields)}" if fields else ""
                self.doubts.append(node.fail(f"{_plain(left[1])} never equals {_plain(right[1])}", hint))
        else:
            first, second = _group(left[1]), _group(right[1])
            if first and second and "null" not in (first, second) and (first != second or first in ("a boolean", "an object")):
                self._wrong(node, f"'{word}' cannot compare {_plain(left[1])} with {_plain(right[1])}")

    def _membership(self, node: Comparison, left: tuple[Node, Type], right: tuple[Node, Type]) -> None:
        if isinstance(right[1], ListOf):
            self._word_of(right[1].element.bare, left[0])
            for element in right[0].elements if isinstance(right[0], ListNode) else ():
                self._word_of(left[1], element)
        elif _group(right[1]) in ("a number", "a boolean"):
            self._wrong(node, f"'in' cannot look into {_plain(right[1])}")
        elif _group(right[1]) == "text" and _group(left[1]) not in ("", "text", "null"):
            self._wrong(node, f"'in' cannot look for {_plain(left[1])} in text")

    def _word_of(self, kind: Type, node: Node) -> None:
        """Refuse a word that an enumeration lacks."""
        if not isinstance(kind, Enumeration) or not isinstance(node, Constant) or not isinstance(node.constant, str):
            return
        if node.constant not in kind.words:
            hint = did_you_mean(node.constant, kind.words)
            self._wrong(node, f"'{node.constant}' is none of the words {listed(kind.words)}", hint)

    def _call(self, node: Call) -> Type:
        kinds = [self.of(argument) for argument in node.arguments]
        if node.function == "default":
            return common([kind.bare for kind in kinds])
        first, group = node.arguments[0], _group(kinds[0].bare)
        if node.function == "json":
            return STRING
        if node.function == "len":
            if group in ("a number", "a boolean"):
                self._wrong(first, f"len() takes text, a list or an object, not {group}")
            return INTEGER
        if group not in ("", "null", "a list"):
            self._wrong(first, f"{node.function}() takes a list, not {group}")
        return BOOLEAN


def _example(name: str) -> str:
    return "id" if name == "run" else "NAME"


def _named(node: Node, stages: Mapping[str, Any]) -> str:
    """Return how ``node`` is called in a message."""
    if isinstance(node, Name):
        return f"stage '{node.name}'" if node.name in stages else f"'{node.name}'"
    if isinstance(node, Attribute):
        return f"'{_written(node)}'"
    return f"'{_written(node)}'" if isinstance(node, Index) else "this value"


def _written(node: Node) -> str:
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Attribute):
        return f"{_written(node.of)}.{node.name}"
    if isinstance(node, Index):
        inner = repr(node.index.constant) if isinstance(node.index, Constant) else "..."
        return f"{_written(node.of)}[{inner}]"
    return "..."


def _group(kind: Type) -> str:
    """Return what kind of value it is; empty where that is not known."""
    if isinstance(kind, Scalar):
        return {"null": "null", "any": "", **_KINDS}[kind.name]
    if isinstance(kind, Enumeration):
        return "text"
    if isinstance(kind, ListOf):
        return "a list"
    return "an object" if isinstance(kind, Fields) else ""


_JSON_TYPES: Mapping[str, frozenset[str]] = {
    "text": frozenset({"string"}),
    "a number": frozenset({"number", "integer"}),
    "a boolean": frozenset({"boolean"}),
    "a list": frozenset({"array"}),
    "an object": frozenset({"object"}),
}


def may_be(kind: Type, wanted: Iterable[str]) -> bool:
    """Say whether a value of ``kind`` may be of one of these JSON types; null may stand anywhere."""
    group = _group(kind.bare)
    return group in ("", "null") or bool(_JSON_TYPES[group] & set(wanted))


def _plain(kind: Type) -> str:
    return _group(kind) or "any value"
