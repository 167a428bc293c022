"""What the LLM layer asks of the outside: where records go, and where they come back from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from flowcraft.attempts import Attempt


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
    """What is known of one model from its calls. Times in seconds; percentiles over the last 1,000 calls."""

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
    wins: int = 0


class CallStore(Protocol):
    """Where call records are kept across restarts. Synchronous; called on the writer's thread."""

    def add(self, records: Sequence[CallRecord]) -> None:
        """Store records in one transaction."""
        ...

    def latest(self, per_model: int = 1000, after: int = 0) -> tuple[int, Iterable[CallRecord]]:
        """Return the last records of each model behind row ``after``, oldest first, and the last row's number."""
        ...

    def statistics(self, stage: str | None = None) -> Sequence[ModelStatistics]:
        """Return the statistics of every model, of one stage's calls if given."""
        ...
