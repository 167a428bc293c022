"""What one segment of a run works with, and what became of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft.attempts import Attempt
from flowcraft.engine.pieces.reuse import Before, Reuse
from flowcraft.engine.ports import Models
from flowcraft.errors import StageFailed
from flowcraft.plugin.agents import AgentRunner
from flowcraft.plugin.stages import StageBody
from flowcraft.plugin.tools import Tool
from flowcraft.redaction import Redactor
from flowcraft.workflow.schema import Stage, Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run's workflow and all that carries it out. ``env`` holds the values of the names that the file may read.

    ``runner`` carries agents out, where the workflow has some.

    ``reuse`` knows work that other runs have finished already; of a fork, ``before`` tells of the run it was made of. ``notes``
    is said when the segment begins. A job that ``cancels`` begins nothing but ``finally``; one that ``replays`` begins nothing
    at all.
    """

    workflow: Workflow
    inputs: Mapping[str, Any]
    models: Models
    bodies: Mapping[str, type[StageBody]]
    redactor: Redactor
    env: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, Tool] = field(default_factory=dict)
    runner: AgentRunner | None = None
    folder: str = ""
    date: str = ""
    reuse: Reuse | None = None
    before: Before | None = None
    notes: tuple[str, ...] = ()
    cancels: bool = False
    replays: bool = False


@dataclass(slots=True, kw_only=True)
class StageReport:
    """How a stage ended. ``errors`` holds the messages of elements that failed with ``on_error: continue``.

    ``judge`` is what the stage's judge said of the try that counts, with ``each`` a list; ``tries`` the most that an element
    took. A stage is ``waiting`` while a gate, itself or one in it, waits for a person, ``pending`` before its turn. ``chosen``
    is the model whose answer counted last, where the attempts do not tell. ``origin`` says from where all
    of it was taken, as that of a piece.
    """

    state: str = "pending"
    error: str = ""
    errors: list[str] = field(default_factory=list)
    judge: Any = None
    tries: int = 0
    elements: int | None = None
    chosen: str | None = None
    origin: str = ""
    begun: float | None = None
    seconds: float = 0.0

    def data(self) -> dict[str, Any]:
        """Return what ``run.stages.NAME`` and results show of it."""
        return {
            "state": self.state,
            "error": self.error or None,
            "errors": list(self.errors),
            "judge": self.judge,
            "tries": self.tries,
        }


@dataclass(slots=True)
class Spent:
    """What a stage spent on models: the sum of its attempts, and the model that answered last.

    ``chosen`` is the model whose answer counted, where several answered or none was asked.
    """

    calls: int = 0
    tokens: int = 0
    usd: float | None = None
    model: str | None = None
    chosen: str | None = None

    def add(self, attempt: Attempt, *, answers: bool = True) -> None:
        """Take one attempt in; a skip costs nothing. Who only judges (not ``answers``) is not the model that answered."""
        if attempt.outcome == "skipped":
            return
        self.calls += 1
        self.tokens += attempt.usage.total
        if attempt.usd is not None:
            # Rounded, so that the sum does not depend on the order in which attempts ended.
            self.usd = round((self.usd or 0.0) + attempt.usd, 12)
        if attempt.outcome == "ok" and answers:
            self.model = attempt.model

    def data(self) -> dict[str, Any]:
        """Return it as results show it."""
        return {"model": self.model, "tokens": self.tokens, "usd": self.usd, "calls": self.calls}


class Stopped(Exception):
    """Something else failed meanwhile: nothing new starts."""


class Waiting(Exception):
    """A gate, here or further in, waits for a person."""


@dataclass(slots=True, kw_only=True)
class Frame:
    """Stages that are carried out together, with their names and values.

    They are the run's own, those of a workflow that a ``uses`` stage names, those of a group, or those of ``finally``.
    ``around`` holds the names that they see besides; None: nothing but inputs, env and run. ``prefix`` stands before their
    paths. ``failure`` is the first failure of one of them; ``stopped`` says that none of them may start any more.
    """

    stages: Mapping[str, Stage]
    workflow: Workflow
    inputs: Mapping[str, Any]
    around: Mapping[str, Any] | None = None
    parent: Frame | None = None
    prefix: str = ""
    depth: int = 0
    failure: StageFailed | None = None
    stopped: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    reports: dict[str, StageReport] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reports = {name: StageReport() for name in self.stages}

    @property
    def stopping(self) -> bool:
        """Whether a stage of this workflow, or of one around it, has failed."""
        return self.stopped or (self.parent is not None and self.parent.stopping)

    @property
    def waiting(self) -> bool:
        """Whether one of the stages waits for a person."""
        return any(report.state == "waiting" for report in self.reports.values())

    @property
    def top(self) -> Frame:
        """The frame in which all others lie."""
        return self if self.parent is None else self.parent.top

    def fail(self, error: StageFailed) -> None:
        """Take note of a failure: nothing new starts here."""
        self.failure = self.failure or error
        self.stopped = True
