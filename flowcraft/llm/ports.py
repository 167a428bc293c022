"""What the LLM layer asks of the outside: where records go, and where they come back from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from flowcraft.attempts import Attempt

JUDGE = "judge"
"""The role of judges' calls."""
LOST = "another model answered first"
"""The message of an attempt that was cancelled because of that: it would have taken at least as long as it had so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One provider call: the attempt and where it belongs. ``id`` is unique across processes."""

    id: str
    attempt: Attempt
    stage: str = ""
    task: str = ""
    run: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRecord:
    """Which of two models answered one question better. Models are ``provider:model``; ``time`` is seconds since the epoch.

    ``winner`` is ``none`` where no verdict came about; ``judge`` is who decided. ``id`` is unique across processes.
    """

    id: str
    time: float
    first: str
    second: str
    winner: Literal["first", "second", "tie", "none"]
    judge: str = ""
    reasons: str = ""
    stage: str = ""
    task: str = ""
    run: str = ""
    path: str = ""


class CallSink(Protocol):
    """Takes every attempt as soon as it has ended. Must be cheap and never block: it stands on the hot path."""

    def record(self, record: CallRecord) -> None:
        """Take one record. Skips are no calls: they come with outcome ``skipped`` and are not counted."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatistics:
    """What is known of one model from its calls and from verdicts on its answers, where a tie is half a win.

    Times are in seconds, percentiles those of the last 1,000 calls.
    """

    model: str
    provider: str
    calls: int = 0
    successes: int = 0
    errors: int = 0
    errors_by_class: dict[str, int] = field(default_factory=dict)
    last_response_time: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    ttft: float | None = None
    tokens_per_second: float | None = None
    usd: float | None = None
    wins: float = 0


class CallStore(Protocol):
    """Where call records are kept across restarts. Synchronous; called on the writer's thread."""

    def add(self, records: Sequence[CallRecord]) -> None:
        """Store records in one transaction."""
        ...

    def latest(self, per_model: int = 1000, after: int = 0) -> tuple[int, Iterable[CallRecord]]:
        """Return the last records of each model behind row ``after``, oldest first, and the last row's number."""
        ...

    def statistics(self, stage: str | None = None, task: str | None = None) -> Sequence[ModelStatistics]:
        """Return the statistics of every model, of the calls of one stage, one task, or both, if given."""
        ...


class VerdictStore(Protocol):
    """Where verdicts are kept across restarts. Synchronous; called on the writer's thread."""

    def add(self, verdicts: Sequence[VerdictRecord]) -> None:
        """Store verdicts in one transaction; those that are stored already are left as they are."""
        ...

    def latest(self, most: int, after: int = 0) -> tuple[int, Iterable[VerdictRecord]]:
        """Return the last ``most`` verdicts behind row ``after``, oldest first, and the last row's number."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingLine:
    """What one call takes of one budget: ``amount`` of ``unit`` (``usd``, ``tokens``, ``calls``) from ``scope``.

    Scopes are ``run:ID``, ``day:2026-11-21`` and ``key:NAME:2026-11-21``; ``limit`` is how much may be spent there.
    """

    scope: str
    unit: str
    amount: float
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What was spent so far from one budget, what is reserved included, and the limit that was last asked for."""

    scope: str
    unit: str
    spent: float
    limit: float


class SpendingStore(Protocol):
    """What was spent, shared by all processes. Synchronous; called on threads. Raises StoreError."""

    def reserve(self, lines: Sequence[SpendingLine]) -> Spending | None:
        """Take all of ``lines``, or none of them: then return how the first stands that has no room."""
        ...

    def settle(self, lines: Sequence[SpendingLine]) -> None:
        """Add ``amount`` of each line, which may be below 0, whatever the limit."""
        ...

    def spending(self) -> Sequence[Spending]:
        """Return all that was ever spent, by scope and unit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A rate, as seconds: each thing asked for takes ``interval``, and ``burst`` seconds' worth may be taken at once."""

    interval: float
    burst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What one call needs of one limit. ``name`` is whose limit it is: a model's id, or a provider for all its models."""

    name: str
    requests: Pace | None = None
    tokens: Pace | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why a call may not begin yet: which limit, of what (``requests``, ``tokens``, ``concurrent``), for how many seconds.

    Of ``concurrent`` nobody knows the seconds; they are 0.
    """

    name: str
    unit: Literal["requests", "tokens", "concurrent"]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A call that asks for room: its id, the tokens that it may take, and since when it has been the next of its process."""

    id: str
    tokens: int
    since: float


class LimitStore(Protocol):
    """How much models were asked, shared by all processes. Synchronous; called on threads. Raises StoreError.

    ``now`` is in seconds since the epoch.
    """

    def take(self, caller: Caller, wants: Sequence[Want], now: float) -> Hold | None:
        """Take what a call needs of all limits, or nothing: then return what holds it back the longest.

        A place among the concurrent ones is the call's for some seconds, or until it leaves. Who finds none gets the next
        one before those who came later, as long as he goes on asking.
        """
        ...

    def give_back(self, wants: Sequence[Want], requests: int, tokens: int) -> None:
        """Give back so many requests and tokens that were not used; below 0, what was used besides."""
        ...

    def renew(self, calls: Sequence[str], now: float) -> None:
        """Let these calls keep their places for some seconds more."""
        ...

    def leave(self, call: str) -> None:
        """Give the places of a call back, or its turn."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """An answer as JSON text, and when it was given, in seconds since the epoch."""

    response: str
    created: float


class AnswerStore(Protocol):
    """Answers by the hash of their question, shared by all processes. Synchronous; called on threads. Raises StoreError."""

    def get(self, key: str, now: float) -> KeptAnswer | None:
        """Return the answer kept under ``key`` that has not expired."""
        ...

    def put(self, key: str, response: str, now: float, expires: float) -> None:
        """Keep an answer in place of what is there, and forget all that has expired."""
        ...
