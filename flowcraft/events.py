"""What happens in a run or a call, as frozen events of plain values, and the bus that brings them to who watches."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from flowcraft.attempts import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. ``time`` is seconds since the epoch; ``run`` is empty for calls outside a run."""

    kind: ClassVar[str] = "event"
    kept: ClassVar[bool] = True

    run: str = ""
    stage: str = ""
    time: float = 0.0

    def data(self) -> dict[str, Any]:
        """Return the event as JSON-like data, its kind included."""
        return {"kind": self.kind, **{name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A segment of a run begins: the first start (1) or a continuation."""

    kind: ClassVar[str] = "run.started"
    workflow: str = ""
    segment: int = 1
    stages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """A segment of a run ended in ``state``."""

    kind: ClassVar[str] = "run.finished"
    state: str = ""
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted(Event):
    """A stage begins; ``elements`` is the length of its list, None without ``each``."""

    kind: ClassVar[str] = "stage.started"
    elements: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFinished(Event):
    """A stage ended. ``state`` is done, skipped, failed, reused or cached; ``reason`` says why where it is not done here."""

    kind: ClassVar[str] = "stage.finished"
    state: str = "done"
    reason: str = ""
    seconds: float = 0.0
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementFinished(Event):
    """One element of a stage with ``each`` ended."""

    kind: ClassVar[str] = "element.finished"
    kept: ClassVar[bool] = False
    path: str = ""
    index: int = 0
    state: str = "done"
    reason: str = ""
    done: int = 0
    elements: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GoFailed(Event):
    """One go of a body failed and another follows after ``pause`` seconds."""

    kind: ClassVar[str] = "go.failed"
    path: str = ""
    go: int = 1
    error: str = ""
    pause: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TryFinished(Event):
    """One try of a stage with ``until`` ended; ``score`` is its judge's, ``most`` how many tries there may be."""

    kind: ClassVar[str] = "try.finished"
    path: str = ""
    number: int = 1
    most: int = 1
    passed: bool = True
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerChosen(Event):
    """Of what several models said, one answer counts. ``decided`` tells how that came about, policy by policy."""

    kind: ClassVar[str] = "answer.chosen"
    path: str = ""
    model: str = ""
    provider: str = ""
    confidence: float | None = None
    decided: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFinished(Event):
    """One attempt to reach a model ended, or a model was skipped."""

    kind: ClassVar[str] = "call.finished"
    kept: ClassVar[bool] = False
    path: str = ""
    attempt: Attempt = field(default_factory=lambda: Attempt(model=""))


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAsked(Event):
    """A gate asks people: it waits until somebody chooses, or until ``deadline``. ``gate`` is what it is called by.

    ``question`` is cut where it is long; ``choices`` holds a label for each choice, ``fields`` the names of the form's fields.
    """

    kind: ClassVar[str] = "approval.asked"
    path: str = ""
    gate: str = ""
    question: str = ""
    choices: dict[str, str] = field(default_factory=dict)
    fields: tuple[str, ...] = ()
    asked: float = 0.0
    deadline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAnswered(Event):
    """Somebody chose at a gate, and the run goes on with it. ``by`` says who it was, ``at`` when."""

    kind: ClassVar[str] = "approval.answered"
    path: str = ""
    gate: str = ""
    choice: str = ""
    comment: str = ""
    by: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalExpired(Event):
    """Nobody answered a gate in time."""

    kind: ClassVar[str] = "approval.timed_out"
    path: str = ""
    gate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalWithdrawn(Event):
    """A gate asks no more: its run has failed or was cancelled."""

    kind: ClassVar[str] = "approval.withdrawn"
    path: str = ""
    gate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said(Event):
    """A body, a tool or the engine has something to say. ``level`` is debug, info, warning or error."""

    kind: ClassVar[str] = "said"
    level: str = "info"
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def _plain(value: Any) -> Any:
    # All but attempts is plain already, and asdict copies deeply, which would cost more than storing the event.
    return asdict(value) if isinstance(value, Attempt) else value


EVENTS: tuple[type[Event], ...] = (
    RunStarted,
    RunFinished,
    StageStarted,
    StageFinished,
    ElementFinished,
    GoFailed,
    TryFinished,
    AnswerChosen,
    CallFinished,
    ApprovalAsked,
    ApprovalAnswered,
    ApprovalExpired,
    ApprovalWithdrawn,
    Said,
)


class Bus:
    """Hands every event to all who subscribed. Subscribers are called at once and must be cheap; one that raises is dropped.

    ``on_drop`` is told which subscriber was dropped and why.
    """

    def __init__(self, on_drop: Callable[[Callable[[Event], None], BaseException], None] | None = None) -> None:
        self._subscribers: tuple[Callable[[Event], None], ...] = ()
        self._lock = threading.Lock()
        self._on_drop = on_drop

    def subscribe(self, subscriber: Callable[[Event], None]) -> Callable[[], None]:
        """Add ``subscriber``; call the result to take it off again."""
        with self._lock:
            self._subscribers = (*self._subscribers, subscriber)
        return lambda: self._remove(subscriber)

    def _remove(self, subscriber: Callable[[Event], None]) -> None:
        with self._lock:
            self._subscribers = tuple(known for known in self._subscribers if known is not subscriber)

    def emit(self, event: Event) -> None:
        """Hand ``event`` to every subscriber."""
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - border: a watcher must never end what it watches
                self._remove(subscriber)
                if self._on_drop is not None:
                    self._on_drop(subscriber, error)


class Drain:
    """Hands events to slow or foreign sinks from a bounded queue, on a thread of its own: none of them holds up a run.

    A sink that raises is dropped and ``on_drop`` told; when the queue is full, events are lost for the sinks and counted in
    ``lost``.
    """

    def __init__(
        self,
        sinks: Sequence[Callable[[Any], None]],
        size: int = 10_000,
        on_drop: Callable[[Callable[[Any], None], BaseException], None] | None = None,
    ) -> None:
        self._sinks = list(sinks)
        self._on_drop = on_drop
        self._queue: queue.Queue[Event | None] = queue.Queue(size)
        self._thread = threading.Thread(target=self._serve, name="flowcraft-sinks", daemon=True)
        self.lost = 0
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self.lost += 1

    def _serve(self) -> None:
        while (event := self._queue.get()) is not None:
            for sink in list(self._sinks):
                try:
                    sink(event)
                except Exception as error:  # noqa: BLE001 - border: a plugin's sink may raise anything
                    self._sinks.remove(sink)
                    if self._on_drop is not None:
                        self._on_drop(sink, error)

    def close(self, timeout: float = 5.0) -> None:
        """Hand out what waits, for ``timeout`` seconds at most, and end the thread."""
        self._queue.put(None)
        self._thread.join(timeout)
