"""What stages say of each other: names, order, circles, arguments."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowcraft.errors import Problem
from flowcraft.source import did_you_mean, listed
from flowcraft.workflow.expression_syntax import run_stage
from flowcraft.workflow.expressions import Attribute, Constant, Expression, ExpressionError, Index, Name, Node, walk
from flowcraft.workflow.header import Header
from flowcraft.workflow.inference import Inference
from flowcraft.workflow.reading import Place, Reading
from flowcraft.workflow.schema import Input, Value
from flowcraft.workflow.stages import Draft
from flowcraft.workflow.types import (
    ANY,
    INTEGER,
    NULL,
    STRING,
    Fields,
    ListOf,
    Scalar,
    Type,
    TypeMismatch,
    common,
    fits,
    nullable,
)

_MOST_CIRCLES = 10
_ONLY_INPUTS = frozenset({"model", "parallel", "timeout", "params"})

_REPORT = Fields(
    fields={
        "state": STRING,
        "error": nullable(STRING),
        "errors": ListOf(element=ANY),
        "judge": ANY,
        "tries": INTEGER,
        "model": nullable(STRING),
        "usd": nullable(Scalar(name="number")),
    }
)


@dataclass(slots=True, kw_only=True)
class Links:
    """Who mentions whom; ``first`` is the first place where a stage mentions another."""

    mentions: dict[str, set[str]] = field(default_factory=dict)
    names: dict[str, set[str]] = field(default_factory=dict)
    first: dict[tuple[str, str], tuple[Place, Expression | None]] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)


class References:
    """Checks the expressions and the order of one file. ``values`` are the types that stages give."""

    def __init__(self, reading: Reading, header: Header, drafts: Mapping[str, Draft], written: Sequence[str]) -> None:
        self.reading = reading
        self.header = header
        self.drafts = drafts
        self.written = written
        self.links = Links()
        self.values: dict[str, Type] = {}
        self._scopes: dict[tuple[str, str], tuple[dict[str, Type], dict[str, str]]] = {}
        self._items: dict[str, Type] = {}
        self._stage_types: dict[str, Type] = {}
        self._inputs = Fields(fields={name: given.type for name, given in header.inputs.items()})
        self._env = Fields(fields=dict.fromkeys(header.env, STRING))
        self._run = Fields(
            fields={
                "id": STRING,
                "folder": STRING,
                "date": STRING,
                "stages": Fields(fields=dict.fromkeys(self.written, _REPORT)),
            }
        )

    def check(self, values: Mapping[str, Type]) -> dict[str, tuple[str, ...]]:
        """Check all expressions; ``values`` says what one go of each stage gives. Return what each stage depends on."""
        for name in self.written:
            draft = self.drafts.get(name)
            kind = values.get(name, ANY)
            self._stage_types[name] = ListOf(element=kind) if draft is not None and draft.each is not None else kind
        self.values = self._stage_types
        for expression, place in self.reading.expressions:
            self._collect(expression, place)
        self._collect_needs()
        for name, draft in self.drafts.items():
            self._items[name] = self._item(draft)
        for expression, place in self.reading.expressions:
            self._check_expression(expression, place)
        self._check_conditions()
        self._check_foreign()
        self._check_circles()
        order = {name: index for index, name in enumerate(self.written)}
        return {name: tuple(sorted(self.links.mentions.get(name, ()), key=order.__getitem__)) for name in self.drafts}

    def infer(self, value: Value, stage: str, key: str) -> Type:
        """Return the type of a value of ``key``; its mistakes were kept already."""
        return self._inference(stage, key).of_value(value)

    def check_argument(self, stage: str, name: str, value: Value, wanted: Type, what: str) -> None:
        """Keep a problem if an entry of ``with`` cannot fit."""
        path = ("stages", stage, "with", name)
        if value is None and self.reading.document.data["stages"][stage]["with"][name] is not None:
            return  # it could not be read, which was said already
        given = self.infer(value, stage, "with")
        if not fits(given, wanted):
            self.reading.problem(path, f"{what} takes {wanted.text}, not {given.text}")
        elif _is_plain(value):
            try:
                wanted.check(value)
            except TypeMismatch as error:
                self.reading.problem(path, f"{what}: {error}")

    def _collect(self, expression: Expression, place: Place) -> None:
        """Note who mentions whom."""
        if "inputs" in expression.names:
            self.links.inputs |= _inputs_of(expression, self.header.inputs)
        stages = {name for name in expression.names | expression.run_stages if name in self._stage_types}
        if not place.stage:
            self.links.outputs |= stages
            return
        self.links.names.setdefault(place.stage, set()).update(expression.names)
        for name in stages:
            if name != place.stage:
                self.links.mentions.setdefault(place.stage, set()).add(name)
            if (place.stage, name) not in self.links.first:
                self.links.first[place.stage, name] = (place, expression)

    def _collect_needs(self) -> None:
        for name, draft in self.drafts.items():
            written = self.reading.document.data["stages"][name].get("needs")
            for other in draft.needs:
                path = ("stages", name, "needs", written.index(other))
                if other == name:
                    self.reading.problem(path, f"stage '{name}' needs itself: a circle")
                elif other not in self._stage_types:
                    hint = did_you_mean(other, self.written) or f"the stages are: {listed(self.written)}"
                    self.reading.problem(path, f"unknown stage '{other}'", hint)
                else:
                    self.links.mentions.setdefault(name, set()).add(other)
                    place = Place(document=self.reading.document, path=path, offset=0, key="needs", stage=name)
                    self.links.first.setdefault((name, other), (place, None))

    def _item(self, draft: Draft) -> Type:
        """Return the type of ``item`` in a stage with ``each``."""
        if draft.each is None:
            return ANY
        inference = self._inference(draft.name, "each")
        if not isinstance(draft.each, Expression):
            return common([inference.of_value(value) for value in draft.each])
        given = inference.of(draft.each.root).bare
        return given.element if isinstance(given, ListOf) else ANY

    def _inference(self, stage: str, key: str) -> Inference:
        """Return an inference over the names that may stand in ``key`` of ``stage``."""
        known = self._scopes.get((stage, key))
        if known is None:
            known = self._scopes[stage, key] = self._scope(stage, key)
        return Inference(known[0], known[1], self._stage_types)

    def _scope(self, stage: str, key: str) -> tuple[dict[str, Type], dict[str, str]]:
        names: dict[str, Type] = {"inputs": self._inputs, "run": self._run, "env": self._env}
        hidden: dict[str, str] = {}
        draft = self.drafts.get(stage)
        if draft is None or key != "with" or draft.key != "run":
            hidden["env"] = "'env' stands only in 'with' of a 'run', where a secret cannot reach a model or a record"
        if draft is not None and draft.each is not None and key not in ("each", "parallel"):
            names |= {"item": self._items.get(stage, ANY), "index": INTEGER}
        else:
            why = "stands only in a stage with 'each'" if key not in ("each", "parallel") else f"does not stand in '{key}'"
            hidden |= {name: f"'{name}' {why}" for name in ("item", "index")}
        if key in _ONLY_INPUTS:
            hidden |= dict.fromkeys(["run", *self._stage_types], f"'{key}' may mention inputs only: it is settled at the start")
        if stage in self._stage_types:
            hidden[stage] = f"stage '{stage}' mentions itself: a circle"
        return _Layered(self._stage_types, names), hidden

    def _check_expression(self, expression: Expression, place: Place) -> None:
        inference = self._inference(place.stage, place.key)
        kind = inference.of(expression.root)
        if place.stage in expression.run_stages:
            self._at(place, expression, f"stage '{place.stage}' mentions itself: a circle")
        for error in inference.problems:
            self.reading.keep(_placed(place, error))
        for error in inference.doubts:
            self.reading.warnings.append(_placed(place, error, warning=True))
        wanted = {"parallel": INTEGER, "timeout": STRING}.get(place.key)
        if wanted is not None and not inference.problems and not fits(kind, wanted):
            self._at(place, expression, f"'{place.key}' takes {wanted.text}, not {kind.text}")
        if place.key == "each" and isinstance(self._each(place.stage), Expression) and not inference.problems:
            bare = kind.bare
            if not isinstance(bare, ListOf) and bare not in (ANY, NULL) and isinstance(bare, Scalar | Fields):
                self._at(place, expression, f"'each' takes a list, not {kind.text}")

    def _each(self, stage: str) -> Any:
        draft = self.drafts.get(stage)
        return draft.each if draft is not None else None

    def _at(self, place: Place, expression: Expression, message: str) -> None:
        problem = place.document.problem(place.path, message, offset=place.offset, width=len(expression.text))
        self.reading.keep(problem)

    def _check_conditions(self) -> None:
        """Warn of conditions that are always the same, and of text."""
        for name, draft in self.drafts.items():
            when = draft.when
            if when is None:
                continue
            path = ("stages", name, "when")
            if when.constant:
                always = "true" if when.root.value({}) else "false"
                self.reading.warning(path, f"the condition is always {always}")
            elif self._inference(name, "when").of(when.root).bare == STRING:
                self.reading.warning(path, "the condition is text: it holds unless the text is empty", "compare it: == '...'")

    def _check_foreign(self) -> None:
        """Warn of names in the braces of other tools' templates."""
        for found, place in self.reading.foreign:
            name = found[1]
            is_input = name in self._inputs.fields
            if is_input or name == "inputs" or name in self._stage_types:
                hint = f"an expression is written ${{{{ {'inputs.' if is_input else ''}{name}{found[2]} }}}}"
                error = ExpressionError(f"'{found[0]}' is just text", hint, offset=found.start(), width=len(found[0]))
                self.reading.warnings.append(_placed(place, error, warning=True))

    def _check_circles(self) -> None:
        graph = {name: set(others) for name, others in self.links.mentions.items()}
        for _ in range(_MOST_CIRCLES):
            try:
                graphlib.TopologicalSorter(graph).prepare()
            except graphlib.CycleError as error:
                # Python lists each node before the one that depends on it.
                circle = list(reversed(error.args[1]))[:-1]
                start = min(range(len(circle)), key=lambda index: self.written.index(circle[index]))
                circle = circle[start:] + circle[:start]
                self._circle(circle)
                graph[circle[0]].discard(circle[1])
            else:
                return

    def _circle(self, circle: list[str]) -> None:
        path = " -> ".join([*circle, circle[0]])
        place, expression = self.links.first[circle[0], circle[1]]
        offset, width = _where(expression, circle[1]) if expression is not None else (0, len(circle[1]))
        problem = place.document.problem(
            place.path, f"a circle: {path}", "each waits for the next", offset=place.offset + offset, width=width
        )
        self.reading.keep(problem)


class _Layered(dict[str, Type]):
    """The names of a place above those of all stages, which are shared by all places."""

    def __init__(self, below: Mapping[str, Type], above: Mapping[str, Type]) -> None:
        super().__init__(above)
        self._below = below

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._below

    def __missing__(self, name: str) -> Type:
        return self._below[name]

    def __iter__(self) -> Any:
        yield from super().__iter__()
        yield from self._below


def _placed(place: Place, error: ExpressionError, *, warning: bool = False) -> Problem:
    return place.document.problem(
        place.path, error.message, error.hint, offset=place.offset + error.offset, width=error.width, warning=warning
    )


def _where(expression: Expression, stage: str) -> tuple[int, int]:
    """Return where an expression mentions a stage, and how wide that is."""
    for node in walk(expression.root):
        if (isinstance(node, Name) and node.name == stage) or run_stage(node) == stage:
            return node.start, max(node.end - node.start, 1)
    return 0, 1


def _inputs_of(expression: Expression, inputs: Mapping[str, Input]) -> set[str]:
    """Return the inputs that an expression mentions; all of them where it takes ``inputs`` whole."""
    nodes = list(walk(expression.root))
    used = [found for node in nodes if (found := _field_of(node, "inputs")) is not None]
    mentioned = sum(1 for node in nodes if node == Name(name="inputs"))
    return set(used) if mentioned == len(used) else set(inputs)


def _field_of(node: Node, name: str) -> str | None:
    """Return FIELD where ``node`` is ``name.FIELD``."""
    if isinstance(node, Attribute) and node.of == Name(name=name):
        return node.name
    if isinstance(node, Index) and node.of == Name(name=name) and isinstance(node.index, Constant):
        return str(node.index.constant)
    return None


def _is_plain(value: Value) -> bool:
    """Say whether a value holds no template."""
    if isinstance(value, Mapping):
        return all(_is_plain(part) for part in value.values())
    if isinstance(value, list | tuple):
        return all(_is_plain(part) for part in value)
    return isinstance(value, str | int | float | type(None))
