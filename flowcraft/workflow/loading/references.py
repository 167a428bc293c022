"""What stages say of each other: names, order, circles, arguments."""

from __future__ import annotations

import graphlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowcraft.errors import Problem
from flowcraft.source import did_you_mean, listed
from flowcraft.workflow.expressions.expression import Attribute, Constant, Expression, ExpressionError, Index, Name, Node, walk
from flowcraft.workflow.expressions.inference import may_be
from flowcraft.workflow.expressions.syntax import run_stage
from flowcraft.workflow.expressions.template import OPENING
from flowcraft.workflow.loading.drafts import Block, Draft, Known
from flowcraft.workflow.loading.header import Header
from flowcraft.workflow.loading.reading import Path, Place, Reading
from flowcraft.workflow.loading.scopes import Scopes
from flowcraft.workflow.loading.stage_settings import PARAMS, kinds_text
from flowcraft.workflow.schema import Input, Value
from flowcraft.workflow.types.foreign import imports
from flowcraft.workflow.types.type import ANY, INTEGER, NULL, STRING, Fields, ListOf, Scalar, Type, TypeMismatch, common, fits

_MOST_CIRCLES = 10
_BARE = re.compile(r"([a-z_]\w*)((?:\.\w+|\[\w+\])*)")


@dataclass(slots=True, kw_only=True)
class Links:
    """Who mentions whom; ``first`` is the first place where a stage mentions another.

    ``outputs`` are the stages of the file that its outputs or the stages of ``finally`` mention, ``last`` those of the latter.
    """

    mentions: dict[str, set[str]] = field(default_factory=dict)
    names: dict[str, set[str]] = field(default_factory=dict)
    first: dict[tuple[str, str], tuple[Place, Expression | None]] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    last: set[str] = field(default_factory=set)


class References:
    """Checks the expressions and the order of one file. Stages go by their ids."""

    def __init__(self, reading: Reading, header: Header, blocks: Sequence[Block], goes: Mapping[str, Type]) -> None:
        self.reading = reading
        self.header = header
        self.scopes = Scopes(header, blocks, goes)
        self.drafts = self.scopes.drafts
        self.links = Links()
        self._order = {found: number for number, found in enumerate(self.scopes.block_of)}

    def check(self) -> Known:
        """Check all expressions and the order of stages; return what is known of them."""
        for expression, place in self.reading.expressions:
            self._collect(expression, place)
        self._collect_needs()
        for found, draft in self.drafts.items():
            self.scopes.items[found] = self._item(draft)
        for expression, place in self.reading.expressions:
            self._check_expression(expression, place)
        self._check_conditions()
        self._check_foreign()
        self._check_circles()
        depends = {found: self._depends(found) for found in self.drafts}
        return Known(depends=depends, names=self.links.names, values=self.scopes.values)

    def _depends(self, stage: str) -> tuple[str, ...]:
        others = sorted(self.links.mentions.get(stage, ()), key=self._order.__getitem__)
        return tuple(_name(other) for other in others)

    def infer(self, value: Value, stage: str, key: str) -> Type:
        """Return the type of a value of ``key``; its mistakes were kept already."""
        return self.scopes.inference(stage, key).of_value(value)

    def check_argument(self, stage: str, name: str, value: Value, wanted: Type, what: str) -> None:
        """Keep a problem if an entry of ``with`` cannot fit."""
        path = (*self.drafts[stage].path, "with", name)
        if value is None and self.reading.written(path) is not None:
            return  # it could not be read, which was said already
        given = self.infer(value, stage, "with")
        if not fits(given, wanted):
            self.reading.problem(path, f"{what} takes {wanted.text}, not {given.text}")
        elif _is_plain(value) and not imports(wanted):
            try:
                wanted.check(value)
            except TypeMismatch as error:
                self.reading.problem(path, f"{what}: {error}")

    def _collect(self, expression: Expression, place: Place) -> None:
        """Note who mentions whom: of two stages in different blocks, the group that holds the one mentions the other."""
        if "inputs" in expression.names:
            self.links.inputs |= _inputs_of(expression, self.header.inputs)
        visible = self.scopes.visible(place.stage)
        names = [name for name in expression.names | expression.run_stages if name in visible]
        if place.stage:
            self.links.names.setdefault(place.stage, set()).update(expression.names)
        for name in names:
            found = self.scopes.resolve(place.stage, name)
            if found is None:
                continue
            if not place.stage or not found[0]:  # the file's outputs, or 'finally' of a stage of the file
                self.links.outputs.add(found[1])
                self.links.last |= {found[1]} if place.stage else set()
            elif found[0] != found[1]:
                self.links.mentions.setdefault(found[0], set()).add(found[1])
                self.links.first.setdefault((found[0], found[1]), (place, expression))

    def _collect_needs(self) -> None:
        for found, draft in self.drafts.items():
            block = self.scopes.block_of[found]
            written = self.reading.written((*draft.path, "needs"))
            for other in draft.needs:
                path = (*draft.path, "needs", written.index(other))
                if other == draft.name:
                    self.reading.problem(path, f"stage '{other}' needs itself: a circle")
                elif other not in block.ids:
                    self._unknown_need(path, other, block)
                else:
                    self.links.mentions.setdefault(found, set()).add(block.ids[other])
                    place = Place(document=self.reading.document, path=path, offset=0, key="needs", stage=found)
                    self.links.first.setdefault((found, block.ids[other]), (place, None))

    def _unknown_need(self, path: Path, name: str, block: Block) -> None:
        hint = did_you_mean(name, block.ids) or f"the stages are: {listed(block.ids)}"
        if block.around is not None and name in self.scopes.visible(next(iter(block.ids.values()))):
            beside = self.scopes.resolve(block.owner, name)
            hint = "write it into the 'needs' of the group" if beside is not None and beside[0] != beside[1] else ""
            hint = "it is over when 'finally' begins" if block.last and not block.owner else hint
            self.reading.problem(path, f"'needs' names stages of the same group, and '{name}' is none", hint)
        else:
            self.reading.problem(path, f"unknown stage '{name}'", hint)

    def _item(self, draft: Draft) -> Type:
        """Return the type of ``item`` in a stage with ``each``."""
        if draft.each is None:
            return ANY
        inference = self.scopes.inference(draft.id, "each")
        if not isinstance(draft.each, Expression):
            return common([inference.of_value(value) for value in draft.each])
        given = inference.of(draft.each.root).bare
        return given.element if isinstance(given, ListOf) else ANY

    def _check_expression(self, expression: Expression, place: Place) -> None:
        inference = self.scopes.inference(place.stage, place.key)
        kind = inference.of(expression.root)
        for name in expression.run_stages:
            found = self.scopes.resolve(place.stage, name)
            if place.stage and found is not None and found[0] == found[1]:
                self._at(place, expression, f"stage '{name}' mentions itself: a circle")
        for error in inference.problems:
            self.reading.keep(_placed(place, error))
        for error in inference.doubts:
            self.reading.warnings.append(_placed(place, error, warning=True))
        wanted = {"parallel": INTEGER, "max": INTEGER, "timeout": STRING, "cache": STRING}.get(place.key)
        if wanted is not None and not inference.problems and not fits(kind, wanted):
            self._at(place, expression, f"'{place.key}' takes {wanted.text}, not {kind.text}")
        if place.key == "params" and not inference.problems:
            self._check_param(expression, place, kind)
        if place.key == "each" and isinstance(self._each(place.stage), Expression) and not inference.problems:
            bare = kind.bare
            if not isinstance(bare, ListOf) and bare not in (ANY, NULL) and isinstance(bare, Scalar | Fields):
                self._at(place, expression, f"'each' takes a list, not {kind.text}")

    def _check_param(self, expression: Expression, place: Place, kind: Type) -> None:
        """Refuse what can be no parameter by its type; ``extra`` takes anything."""
        written, name = str(self.reading.written(place.path)).strip(), place.path[-1]
        if not written.startswith(OPENING) or written.count(OPENING) > 1 or not written.endswith("}}"):
            return  # text with something inserted
        if name == "params" and isinstance(kind.bare, Fields):
            for unknown in (key for key in kind.bare.fields if key not in PARAMS):
                self._at(place, expression, f"unknown key '{unknown}' in 'params'")
        wanted = ("object",) if name == "params" else PARAMS.get(str(name), ()) if place.path[-2] == "params" else ()
        if wanted and not may_be(kind, wanted):
            self._at(place, expression, f"'{name}' takes {kinds_text(wanted)}, not {kind.text}")

    def _each(self, stage: str) -> Any:
        draft = self.drafts.get(stage)
        return draft.each if draft is not None else None

    def _at(self, place: Place, expression: Expression, message: str) -> None:
        problem = place.document.problem(place.path, message, offset=place.offset, width=len(expression.text))
        self.reading.keep(problem)

    def _check_conditions(self) -> None:
        """Warn of conditions that are always the same, and of text."""
        for draft in self.drafts.values():
            for key, condition in (("when", draft.when), ("until", draft.until)):
                if condition is None:
                    continue
                path = (*draft.path, key)
                if condition.constant:
                    always = "true" if condition.root.value({}) else "false"
                    self.reading.warning(path, f"the condition is always {always}")
                elif self.scopes.inference(draft.id, key).of(condition.root).bare == STRING:
                    message = "the condition is text: it holds unless the text is empty"
                    self.reading.warning(path, message, "compare it: == '...'")

    def _check_foreign(self) -> None:
        """Warn of names in the braces of other tools' templates."""
        for found, place in self.reading.foreign:
            name = found[1]
            is_input = name in self.scopes.inputs()
            if found[0][:2] not in ("{{", "${") and (not is_input or name in self.links.inputs):
                continue  # one brace is other tools' for inputs alone, and may be meant as it stands
            if is_input or name == "inputs" or name in self.scopes.visible(place.stage):
                hint = f"an expression is written ${{{{ {'inputs.' if is_input else ''}{name}{found[2]} }}}}"
                error = ExpressionError(f"'{found[0]}' is just text", hint, offset=found.start(), width=len(found[0]))
                self.reading.warnings.append(_placed(place, error, warning=True))
                self.links.inputs |= {name} if is_input else set()  # that it is never used says no more
        self._check_bare_outputs()

    def _check_bare_outputs(self) -> None:
        """Warn of outputs that are nothing but a stage's name or an input."""
        outputs = self.reading.document.data.get("outputs")
        stages = self.scopes.visible("")
        for name, text in outputs.items() if isinstance(outputs, Mapping) else ():
            found = _BARE.fullmatch(text) if isinstance(text, str) else None
            if found and (found[1] in stages or (found[1] == "inputs" and found[2])):
                hint = f'an expression is written "${{{{ {text} }}}}"'
                self.reading.warning(("outputs", name), f"'{text}' is just text", hint)
                self.links.outputs |= {found[1]} if found[1] in stages else set()

    def _check_circles(self) -> None:
        graph = {name: set(others) for name, others in self.links.mentions.items()}
        for _ in range(_MOST_CIRCLES):
            try:
                graphlib.TopologicalSorter(graph).prepare()
            except graphlib.CycleError as error:
                # Python lists each node before the one that depends on it.
                circle = list(reversed(error.args[1]))[:-1]
                start = min(range(len(circle)), key=lambda index: self._order[circle[index]])
                circle = circle[start:] + circle[:start]
                self._circle(circle)
                graph[circle[0]].discard(circle[1])
            else:
                return

    def _circle(self, circle: list[str]) -> None:
        path = " -> ".join(_name(stage) for stage in [*circle, circle[0]])
        place, expression = self.links.first[circle[0], circle[1]]
        offset, width = _where(expression, _name(circle[1])) if expression is not None else (0, len(_name(circle[1])))
        problem = place.document.problem(
            place.path, f"a circle: {path}", "each waits for the next", offset=place.offset + offset, width=width
        )
        self.reading.keep(problem)


def _name(stage: str) -> str:
    """Return the name of a stage by its id."""
    return stage.rpartition("/")[2]


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
