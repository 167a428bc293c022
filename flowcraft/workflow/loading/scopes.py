"""Which names may stand where in a file, and what they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowcraft.workflow.expressions.inference import Inference
from flowcraft.workflow.loading.drafts import Block, Draft
from flowcraft.workflow.loading.header import Header
from flowcraft.workflow.types.type import ANY, INTEGER, STRING, Enumeration, Fields, ListOf, Scalar, Type, nullable

ONLY_INPUTS = frozenset({"model", "parallel", "max", "timeout", "cache", "params"})
"""Keys that are settled when the run starts."""

_BEFORE_EACH = frozenset({"each", "parallel"})
_BEFORE_TRIES = ONLY_INPUTS | {"each", "when"}
_ENDS = ("done", "failed", "cancelled")
_SETTLED = ("done", "skipped", "failed")
_UNSETTLED = ("stopped", "waiting", "pending")
"""What besides a stage may be when 'finally' asks: it was under way, somebody was asked, its turn had not come."""

NUMBER = Scalar(name="number")


def _report(*states: str) -> Fields:
    """Return what ``run.stages.NAME`` holds of a stage that is in one of these states."""
    return Fields(
        fields={
            "state": Enumeration(words=states),
            "error": nullable(STRING),
            "errors": ListOf(element=ANY),
            "judge": ANY,
            "tries": INTEGER,
            "model": nullable(STRING),
            "usd": nullable(NUMBER),
        }
    )


REPORT = _report(*_SETTLED)
LAST_REPORT = _report(*_SETTLED, *_UNSETTLED)
JUDGE = Fields(fields={"score": NUMBER, "reasons": ListOf(element=STRING)})


class Scopes:
    """The names of one file. ``goes`` says what one go of each stage gives, by id; of those that cannot be read nothing."""

    def __init__(self, header: Header, blocks: Sequence[Block], goes: Mapping[str, Type]) -> None:
        self.goes = goes
        self.blocks = blocks
        self.drafts: dict[str, Draft] = {draft.id: draft for block in blocks for draft in block.drafts.values()}
        self.block_of: dict[str, Block] = {found: block for block in blocks for found in block.ids.values()}
        self.items: dict[str, Type] = {}
        self.values = {found: self._value(found) for found in self.block_of}
        self._visible: dict[int, Layered] = {}
        self._runs: dict[int, Fields] = {}
        self._scopes: dict[tuple[str, str], tuple[Mapping[str, Type], dict[str, str]]] = {}
        self._inputs = Fields(fields={name: given.type for name, given in header.inputs.items()})
        self._env = Fields(fields=dict.fromkeys(header.env, STRING))
        for block in blocks:
            self._open(block)

    def inference(self, stage: str, key: str) -> Inference:
        """Return an inference over the names that may stand in ``key`` of the stage with this id."""
        known = self._scopes.get((stage, key))
        if known is None:
            known = self._scopes[stage, key] = self._scope(stage, key)
        return Inference(known[0], known[1], self.visible(stage))

    def visible(self, stage: str) -> Mapping[str, Type]:
        """Return the stages that can be seen from a stage, by name; from the file's ``outputs`` where it is empty."""
        return self._visible[id(self.block_of.get(stage, self.blocks[0]))]

    def resolve(self, stage: str, name: str) -> tuple[str, str] | None:
        """Return who of those around ``stage`` (or itself) stands beside the stage ``name``, and that stage's id."""
        block: Block | None = self.block_of.get(stage, self.blocks[0])
        while block is not None:
            if name in block.ids:
                return stage, block.ids[name]
            stage, block = block.owner, block.around
        return None

    def _value(self, found: str) -> Type:
        """Return what a stage gives to others."""
        kind, draft = self.goes.get(found, ANY), self.drafts.get(found)
        return ListOf(element=kind) if draft is not None and draft.each is not None else kind

    def _open(self, block: Block) -> None:
        around = self._visible[id(block.around)] if block.around is not None else {}
        told = self._runs[id(block.around)].fields["stages"] if block.around is not None else Fields(fields={})
        assert isinstance(told, Fields)
        if block.last and not block.owner:  # its stages come behind an end, whatever became of those of the file
            told = Fields(fields=dict.fromkeys(told.fields, LAST_REPORT))
        self._visible[id(block)] = Layered(around, {name: self.values[found] for name, found in block.ids.items()})
        run: dict[str, Type] = {"id": STRING, "folder": STRING, "date": STRING}
        run["stages"] = Fields(fields=Layered(told.fields, dict.fromkeys(block.ids, REPORT)))
        if block.last:
            run |= {"state": Enumeration(words=_ENDS), "error": nullable(STRING)}
        self._runs[id(block)] = Fields(fields=run)

    def _scope(self, stage: str, key: str) -> tuple[Mapping[str, Type], dict[str, str]]:
        block = self.block_of.get(stage, self.blocks[0])
        names: dict[str, Type] = {"inputs": self._inputs, "run": self._runs[id(block)], "env": self._env}
        hidden: dict[str, str] = {}
        draft = self.drafts.get(stage)
        if key == "mcp":
            why = "'mcp' may mention inputs and env only: a server belongs to no stage"
            hidden |= dict.fromkeys(["run", *self.visible(stage)], why)
        elif key == "agents":
            why = "'agents' may mention inputs only: an agent belongs to no stage"
            hidden |= dict.fromkeys(["run", "env", *self.visible(stage)], why)
        elif draft is None or key != "with" or draft.key not in ("run", "shell"):
            where = "stands only in 'with' of a 'run' or a 'shell' and in 'mcp'"
            hidden["env"] = f"'env' {where}, where a secret cannot reach a model or a record"
        self._add_items(stage, key, names, hidden)
        self._add_tries(stage, key, names, hidden)
        if key in ONLY_INPUTS:
            why = f"'{key}' may mention inputs only: it is settled at the start"
            hidden |= dict.fromkeys(["run", "iteration", "judge", *self.visible(stage)], why)
        return Layered(self.visible(stage), names), hidden

    def _add_items(self, stage: str, key: str, names: dict[str, Type], hidden: dict[str, str]) -> None:
        """Add ``item`` and ``index`` of the nearest stage around that has them."""
        around = [draft for draft in self._around(stage) if draft.each is not None]
        if around and around[0].id == stage and key in _BEFORE_EACH:
            del around[0]
        if around:
            names |= {"item": self.items.get(around[0].id, ANY), "index": INTEGER}
            return
        why = "stands only in a stage with 'each'" if key not in _BEFORE_EACH else f"does not stand in '{key}'"
        hidden |= {name: f"'{name}' {why}" for name in ("item", "index")}

    def _add_tries(self, stage: str, key: str, names: dict[str, Type], hidden: dict[str, str]) -> None:
        """Add ``iteration`` and ``judge``, and the latest tries of the stages around (or of this one) that have ``until``."""
        hidden["iteration"] = "'iteration' stands only in a stage with 'until'"
        hidden["judge"] = "'judge' stands only in a stage with 'until' and 'judge'"
        for draft in self._around(stage):
            own = draft.id == stage
            if draft.until is None or (own and key in _BEFORE_TRIES):
                hidden[draft.name] = f"stage '{draft.name}' mentions itself: a circle"
                if not own:
                    hidden[draft.name] = f"stage '{draft.name}' stands around this one: a circle"
                continue
            ended = own and key == "until"
            one = self.goes.get(draft.id, ANY)
            names[draft.name] = one if ended else nullable(one)
            names.setdefault("iteration", INTEGER)
            hidden.pop("iteration", None)
            if draft.settings.judge is not None:
                names.setdefault("judge", JUDGE if ended else nullable(JUDGE))
                hidden.pop("judge", None)

    def _around(self, stage: str) -> Iterator[Draft]:
        """Yield a stage and the groups around it, inner ones first."""
        while stage in self.block_of:
            if stage in self.drafts:
                yield self.drafts[stage]
            stage = self.block_of[stage].owner

    def inputs(self) -> Mapping[str, Any]:
        """Return the inputs of the file and their types."""
        return self._inputs.fields


class Layered(dict[str, Type]):
    """The names of a place above those that are shared by all places around."""

    def __init__(self, below: Mapping[str, Type], above: Mapping[str, Type]) -> None:
        super().__init__(above)
        self._below = below

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._below

    def __missing__(self, name: str) -> Type:
        return self._below[name]

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        yield from (name for name in self._below if not super(Layered, self).__contains__(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)
