"""Stages while a file is read: as they stand there, in the blocks in which they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from flowcraft.workflow.expressions.expression import Expression
from flowcraft.workflow.loading.reading import Path, Reading
from flowcraft.workflow.loading.stage_settings import StageSettings
from flowcraft.workflow.schema import Body, Group, Retry, Stage, Value
from flowcraft.workflow.types.signatures import Signature
from flowcraft.workflow.types.type import Type
from flowcraft.workflow.words import FINALLY


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Block:
    """Stages that stand together: those of the file, of ``finally``, or of a group.

    ``ids`` holds the id of each stage that was written, by its name; ``owner`` is the id of the group, empty for the others;
    ``around`` is the block whose names are seen too. ``drafts`` are the stages that can be read, by name.
    """

    path: Path
    ids: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    around: Block | None = None
    drafts: dict[str, Draft] = field(default_factory=dict)

    @property
    def last(self) -> bool:
        """Whether this is ``finally``, or stands in it."""
        return self.path[0] == FINALLY


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A stage as far as it can be read alone: who it depends on and what it gives is found out later.

    ``id`` is the name, behind those of the groups around; ``path`` is where the stage stands. ``uses`` is the absolute path of
    the other workflow, ``signature`` that of the function, ``inner`` holds the stages of a group.
    """

    id: str
    name: str
    path: Path
    key: str
    body: Body
    settings: StageSettings
    with_: Mapping[str, Value] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    when: Expression | None = None
    each: Expression | tuple[Value, ...] | None = None
    until: Expression | None = None
    output: Type | None = None
    on_error: str = "fail"
    uses: str = ""
    signature: Signature | None = None
    inner: Block | None = None


def blocks_of(block: Block) -> Iterator[Block]:
    """Yield ``block`` and all in it, outer ones first."""
    yield block
    for draft in block.drafts.values():
        if draft.inner is not None:
            yield from blocks_of(draft.inner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of stages when all were read, by id: who they depend on, the names that they mention, what they give."""

    depends: Mapping[str, tuple[str, ...]]
    names: Mapping[str, set[str]]
    values: Mapping[str, Type]


def finished(block: Block, known: Known, reading: Reading) -> dict[str, Stage]:
    """Return the stages of a block, now that all else is known."""
    return {name: _finished(draft, known, reading) for name, draft in block.drafts.items()}


def _check_cache(draft: Draft, mentions_run: bool, reading: Reading) -> None:
    """Refuse ``cache`` where what a stage gives belongs to one run alone."""
    if draft.settings.cache is None:
        return
    path = (*draft.path, "cache")
    if draft.path[0] == FINALLY:
        reading.problem(path, "nothing in 'finally' takes 'cache'", "it is carried out at each end of a run", key=True)
    elif mentions_run:
        hint = "what it gives belongs to this run; pass what it needs as an input, or leave 'cache' out"
        reading.problem(path, "a stage that mentions 'run' takes no 'cache'", hint, key=True)


def _finished(draft: Draft, known: Known, reading: Reading) -> Stage:
    when, body = draft.when, draft.body
    mentions_run = "run" in known.names.get(draft.id, ())
    _check_cache(draft, mentions_run, reading)
    if draft.inner is not None:
        inner = finished(draft.inner, known, reading)
        body = Group(stages=inner)
        mentions_run = mentions_run or any(stage.mentions_run for stage in inner.values())
    return Stage(
        name=draft.name,
        key=draft.key,
        body=body,
        at=draft.path,
        with_=draft.with_,
        needs=draft.needs,
        when=when,
        when_per_element=when is not None and draft.each is not None and bool(when.names & {"item", "index"}),
        each=draft.each,
        parallel=draft.settings.parallel if draft.settings.parallel is not None else 1,
        until=draft.until,
        max=draft.settings.max,
        model=draft.settings.model,
        params=draft.settings.params,
        params_from=draft.settings.params_from,
        strategy=draft.settings.strategy,
        judge=draft.settings.judge,
        confidence=draft.settings.confidence,
        output=draft.output,
        value=known.values[draft.id],
        timeout=draft.settings.timeout,
        cache=draft.settings.cache,
        retry=draft.settings.retry or Retry(),
        on_error="continue" if draft.on_error == "continue" else "fail",
        depends=known.depends[draft.id],
        mentions_run=mentions_run,
        position=reading.document.position(draft.path, key=True),
    )
