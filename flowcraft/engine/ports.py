"""What the engine asks of a database, and the rows it speaks in. All methods are synchronous and safe to call from threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from flowcraft.attempts import Attempt
from flowcraft.engine.waiting import Answer, Approval, ApprovalStore, Mark
from flowcraft.plugin.chat import Scope
from flowcraft.plugin.llm import LLM

RunState = Literal["queued", "running", "waiting", "interrupted", "failed", "cancelled", "done"]
ENDED: frozenset[str] = frozenset({"failed", "cancelled", "done"})
PieceState = Literal["done", "failed", "skipped"]
CANCEL = "cancel"
"""What is wanted of a run that is to be ended for good: kept until it has ended, whoever owns it meanwhile."""
ATTEND = "attend"
"""What is wanted of a run that somebody attends to: where it is interrupted, who attends next goes on with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One finished bit of work. ``result`` is JSON text; ``what`` and ``code`` are the two parts of its hash.

    ``asked`` is the JSON text that ``what`` is the digest of, as far as people may want to read it (prompts, arguments); it is
    written, and read for showing alone. ``origin`` says where the result was taken from: empty where it was done here, else
    ``cache:RUN``, ``fork:RUN`` (``fork:RUN:PATH`` where it stood elsewhere) or ``set``.
    """

    path: str
    what: str
    code: str = ""
    state: PieceState = "done"
    result: str = "null"
    seconds: float = 0.0
    asked: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One attempt to reach a model, made for a run."""

    path: str
    stage: str
    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """A kept event. ``sequence`` grows within a run; ``data`` is JSON text."""

    sequence: int
    kind: str
    stage: str
    time: float
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run before its first segment. ``snapshot`` holds workflow files, settings and what else the run keeps."""

    id: str
    workflow: str
    file: str
    folder: str
    created: float
    inputs: Mapping[str, Any]
    snapshot: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run as it is stored. ``owner`` is the id of a process, or empty; ``wanted`` is ``CANCEL``, ``ATTEND`` or empty."""

    id: str
    workflow: str
    file: str
    folder: str
    state: RunState
    created: float
    inputs: Mapping[str, Any]
    snapshot: Mapping[str, Any]
    epoch: int = 0
    segment: int = 0
    owner: str = ""
    wanted: str = ""
    ended: float | None = None
    seconds: float = 0.0
    outputs: Any = None
    error: str = ""
    offline: bool = False

    @property
    def answers(self) -> Mapping[str, Answer]:
        """What gates are answered with as soon as they ask, by their names."""
        return {name: Answer(**given) for name, given in (self.snapshot.get("answers") or {}).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTotals:
    """What a run cost: sums over its attempt rows. ``usd`` is None where no attempt has a known price."""

    calls: int = 0
    tokens: int = 0
    usd: float | None = None
    offline: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentStart:
    """What a segment begins with: the run as it is now, its pieces by path and the next event's sequence."""

    run: RunRow
    pieces: Mapping[str, Piece]
    next_event: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """A new state of a run; a state other than ``running`` also gives the ownership back."""

    state: RunState
    outputs: Any = None
    error: str = ""
    seconds: float = 0.0
    ended: float | None = None
    offline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """What one transaction adds to a run. Everything but ``attempts`` stands behind the fence: ``epoch`` must be the run's."""

    run: str
    epoch: int
    pieces: tuple[Piece, ...] = ()
    events: tuple[EventRow, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()
    asked: tuple[Approval, ...] = ()
    marks: tuple[Mark, ...] = ()
    state: StateChange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOutput:
    """What a stage with ``cache`` gave in a run; ``result`` is JSON text."""

    run: str
    path: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """A process that owns runs. ``beat`` is a counter; the rest identifies the process on its machine."""

    id: str
    host: str
    boot: str
    namespace: str
    pid: int
    started: str
    beat: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Loose:
    """A run that nobody may be looking after.

    One that is running in ``process`` (None: no process is known), one that is queued, and one that waits or is interrupted
    although something is ``wanted`` of it.
    """

    run: str
    state: RunState
    epoch: int
    wanted: str = ""
    process: ProcessRow | None = None


class RunStore(ApprovalStore, Protocol):
    """Runs, their pieces, attempts and events, and the processes that own them."""

    def create(self, run: NewRun) -> None:
        """Store a new run, queued and without an owner."""
        ...

    def begin(self, run: str, owner: str, epoch: int) -> SegmentStart | None:
        """Begin a segment in one transaction if the run's epoch still is ``epoch``: raise it, own the run, read its pieces.

        None says that somebody else was faster. The state becomes running; what is wanted of the run stays.
        """
        ...

    def write(self, batch: Sequence[Write]) -> set[tuple[str, int]]:
        """Store a batch in one transaction; return the (run, epoch) pairs that are fenced, of which only attempts were kept.

        A piece at a path that is recorded already replaces the row (the next go after a recorded failure).
        """
        ...

    def get(self, run: str) -> RunRow | None:
        """Return a run by its id, or by the only id that begins so."""
        ...

    def list(self, limit: int = 50, state: str | None = None) -> Sequence[RunRow]:
        """Return the newest runs first, their snapshots left out."""
        ...

    def pieces(self, run: str, *, asked: bool = False) -> Sequence[Piece]:
        """Return all pieces of a run in order of writing, with what they asked for if that is wanted."""
        ...

    def asked(self, run: str, path: str) -> str:
        """Return what a piece of a run asked for; empty where that is not known."""
        ...

    def shortened(self, run: str) -> int:
        """Return how many pieces of a run keep something that they asked for shortened, for its length."""
        ...

    def kept_output(self, key: str, after: float) -> KeptOutput | None:
        """Return what is kept under ``key`` since a time after ``after``, in seconds since the epoch."""
        ...

    def keep_output(self, key: str, output: KeptOutput, now: float, expires: float) -> None:
        """Keep an output in place of what is there, and forget all that has expired."""
        ...

    def events(self, run: str, after: int = 0) -> Sequence[EventRow]:
        """Return the kept events of a run behind sequence ``after``."""
        ...

    def attempts(self, run: str) -> Sequence[AttemptRow]:
        """Return all attempts of a run."""
        ...

    def totals(self, runs: Sequence[str]) -> Mapping[str, RunTotals]:
        """Return what each of these runs cost."""
        ...

    def amend(self, run: str, epoch: int, changes: Mapping[str, Any]) -> bool:
        """Put ``changes`` into a run's snapshot, if its epoch still is ``epoch``. False: it is not."""
        ...

    def want(self, run: str, wanted: str) -> bool:
        """Keep what is wanted of a run until it ends: ``CANCEL``, which nothing replaces, ``ATTEND``, or nothing any more.

        False: the run has ended, or is to be cancelled.
        """
        ...

    def loose(self, owner: str) -> Sequence[Loose]:
        """Return the runs that nobody may be looking after, those of ``owner`` left out, oldest first."""
        ...

    def end_unowned(self, run: str, epoch: int, change: StateChange) -> bool:
        """End a run whose owner is gone, if its epoch still is ``epoch``: raise the epoch, set the state. False: it is not."""
        ...

    def join(self, process: ProcessRow) -> None:
        """Enter a process."""
        ...

    def beat(self, process: ProcessRow) -> Mapping[str, str]:
        """Raise the counter of ``process`` and return what is wanted of the runs it owns: ``{run: wanted}``.

        It is entered anew where somebody has taken it for dead meanwhile.
        """
        ...

    def leave(self, process: str) -> None:
        """Take a process that ends off the list."""
        ...

    def process(self, process: str) -> ProcessRow | None:
        """Return a process."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good an answer a stage wants, and how it is come by; what is None or empty is left to settings.

    ``rubric`` says by what the better answer is chosen, ``judge`` (a tier, an alias or a model) by whom; ``confidence`` is the
    least confidence of an answer. With ``tools`` neither two answers nor a least confidence are wanted, whatever settings say.
    """

    strategy: str | None = None
    judge: str | None = None
    rubric: str = ""
    confidence: float | None = None
    tools: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A try to be judged: what was asked, what came of it, and by what it is judged. ``scope`` says where the call belongs."""

    question: str
    answer: str
    rubric: str
    scope: Scope


class Models(Protocol):
    """Where stages get their language models from."""

    def llm(self, model: str | None, stage: str, default: str | None, quality: Quality) -> LLM:
        """Return the chain for a tier, alias or model; without one, what settings give this stage, then ``default``."""
        ...

    def written(self, model: str | None, stage: str, default: str | None, quality: Quality) -> Any:
        """Return that chain as settings write it, JSON-like: never what is available now."""
        ...

    async def score(self, judge: str | None, stage: tuple[str | None, str, str | None], case: Case) -> tuple[float, str]:
        """Return how good a try is, from 0 to 1, and why, by the judge of that name; without one, by settings' judge.

        ``stage`` is what ``llm`` is asked for the stage: its model, its name, the file's default. Where settings name no judge
        either, the stage's own models judge. Raises LLMError.
        """
        ...
