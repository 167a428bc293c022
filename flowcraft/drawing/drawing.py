"""A workflow as data of a picture: boxes, lines between them, frames around groups; and what became of them in a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from flowcraft.drawing.words import clock, money

State = Literal["done", "reused", "running", "waiting", "skipped", "failed", "stopped", "not reached"]
"""What became of a box: ``waiting`` is for a person, ``stopped`` began and did not end, ``failed`` may be with a 'continue'."""

INPUTS = "(inputs)"
OUTPUTS = "(outputs)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What became of a stage in a run, all of its elements and tries taken together. ``seconds`` is None before it ended."""

    state: State = "not reached"
    reason: str = ""
    seconds: float | None = None
    tries: int = 0
    elements: int | None = None
    done: int = 0
    errors: int = 0
    calls: int = 0
    tokens: int = 0
    usd: float | None = None
    model: str = ""

    @property
    def facts(self) -> tuple[str, ...]:
        """The figures in words, those first that matter most."""
        found = []
        if self.elements is not None:
            found.append(f"{self.done} of {self.elements}" if self.done < self.elements else f"{self.elements} elements")
        if self.errors:
            found.append(f"{self.errors} failed")
        if self.tries > 1:
            found.append(f"{self.tries} tries")
        if self.seconds is not None and self.state not in ("skipped", "reused", "not reached"):
            found.append(clock(self.seconds))
        if self.calls:
            found.append(f"{self.calls} call{'s' * (self.calls != 1)}")
            found.append(f"{self.tokens} tokens")
        if self.usd:
            found.append(money(self.usd))
        if self.model:
            found.append(self.model)
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTold:
    """A run as its picture is headed."""

    id: str
    state: str
    seconds: float = 0.0
    calls: int = 0
    tokens: int = 0
    usd: float | None = None
    error: str = ""

    @property
    def facts(self) -> tuple[str, ...]:
        """State and figures in words; how long it took is known when it stands still."""
        found = [self.state] if self.state in ("queued", "running") else [self.state, clock(self.seconds)]
        if self.calls:
            found += [f"{self.calls} call{'s' * (self.calls != 1)}", f"{self.tokens} tokens"]
        if self.usd is not None:
            found.append(money(self.usd))
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A stage, or the inputs or outputs of the workflow.

    ``id`` is its name behind those of the groups around, ``kind`` the key of its body (or ``inputs``, ``outputs``), ``what``
    the beginning of what it does, ``notes`` say when, how often and how it does it. ``inside`` are the boxes of a group or of
    an unfolded ``uses``: such a box is a frame. ``many`` says that it is done for each element of a list.
    """

    id: str
    name: str
    kind: str
    what: str = ""
    notes: tuple[str, ...] = ()
    many: bool = False
    inside: Block | None = None
    told: Told | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """That ``target`` comes behind ``source``, whose data it mentions; without ``data`` only its ``needs`` says so."""

    source: str
    target: str
    data: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Boxes that stand together, with the lines between them; each line leads to a box further behind."""

    boxes: tuple[Box, ...] = ()
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A workflow, and the run that is laid over it where there is one. ``last`` are the stages of ``finally``."""

    name: str
    description: str = ""
    stages: Block = field(default_factory=Block)
    last: Block = field(default_factory=Block)
    run: RunTold | None = None

    @property
    def boxes(self) -> Iterator[Box]:
        """All boxes, frames before what is in them."""
        yield from _all(self.stages)
        yield from _all(self.last)

    @property
    def summary(self) -> str:
        """The picture in one sentence, for who cannot see it."""
        stages = [box for box in self.boxes if box.kind not in ("inputs", "outputs")]
        told = f"Workflow {self.name} with {len(stages)} stage{'s' * (len(stages) != 1)}"
        if self.run is None:
            return told
        counts: dict[str, int] = {}
        for box in stages:
            if box.told is not None:
                counts[box.told.state] = counts.get(box.told.state, 0) + 1
        stood = ", ".join(f"{count} {state}" for state, count in counts.items())
        return f"{told}; run {self.run.id}: {self.run.state} ({stood})"


def _all(block: Block) -> Iterator[Box]:
    for box in block.boxes:
        yield box
        if box.inside is not None:
            yield from _all(box.inside)
