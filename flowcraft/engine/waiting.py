"""What is stored of approvals, and what their store offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

ApprovalState = Literal["open", "answered", "taken", "timed_out", "withdrawn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody chose at a gate. ``values`` are those of the form's fields; ``by`` says who it was."""

    choice: str
    comment: str = ""
    by: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """Return it as JSON-like data."""
        return {"choice": self.choice, "comment": self.comment, "by": self.by, "values": dict(self.values)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One asking of one gate. ``path`` is where it stands in the run, ``gate`` what people call it (``report.gate``).

    ``number`` counts how often this place was asked: a resumed run asks anew behind a rejection. ``choices`` holds a label for
    each choice, ``fields`` the JSON Schema of the form. ``asked``, ``deadline`` and ``at`` are seconds since the epoch.
    ``state``: open, answered, taken (answered, and the run has gone on with it), timed_out or withdrawn.
    """

    run: str
    path: str
    number: int = 1
    gate: str = ""
    state: ApprovalState = "open"
    what: str = ""
    question: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] | None = None
    asked: float = 0.0
    deadline: float | None = None
    choice: str = ""
    comment: str = ""
    by: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    at: float | None = None

    @property
    def open(self) -> bool:
        """Whether nobody has answered yet."""
        return self.state == "open"

    @property
    def answered(self) -> bool:
        """Whether somebody has answered."""
        return self.state in ("answered", "taken")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """An open approval becomes timed out or withdrawn; one that is answered is taken."""

    path: str
    number: int
    state: Literal["taken", "timed_out", "withdrawn"]

    @property
    def before(self) -> ApprovalState:
        """In which state alone it takes this one."""
        return "answered" if self.state == "taken" else "open"


class ApprovalStore(Protocol):
    """The approvals of runs, as people answer them: not behind any fence, but each once."""

    def approvals(self, run: str | None = None, *, state: str | None = None) -> Sequence[Approval]:
        """Return the approvals of a run, of all runs without one, in the order in which they were asked."""
        ...

    def approval(self, run: str, path: str) -> Approval | None:
        """Return what was asked last at a path of a run."""
        ...

    def answer(self, run: str, path: str, number: int, answer: Answer, at: float) -> bool:
        """Answer an approval that is open and whose time is not over at ``at``. False: it is not."""
        ...

    def answer_beforehand(self, run: str, answers: Mapping[str, Answer]) -> None:
        """Keep answers, by the names of gates, with a run, beside those that are there already."""
        ...

    def due(self, run: str, now: float) -> Sequence[tuple[str, int]]:
        """Return which of a run's approvals, by path and number, were answered or ran out of time and are not taken yet."""
        ...

    def due_runs(self, now: float) -> Sequence[str]:
        """Return the runs that wait although an approval of theirs was answered or ran out of time."""
        ...

    def next_deadline(self) -> float | None:
        """Return when the next approval of a waiting run runs out of time."""
        ...
