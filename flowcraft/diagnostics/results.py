"""What came of asking one model a few times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flowcraft.attempts import Attempt, spent_usd
from flowcraft.llm.knowledge.statistics import percentile
from flowcraft.plugin.capabilities import Price

NO_CALLS = frozenset({"skipped", "cancelled"})
"""Outcomes that say nothing of a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTest:
    """One model and every call that it was asked in a test. Times are in seconds.

    ``name`` is what settings call it, ``roles`` where it stands there. ``skip`` is why it was not asked at all, ``stopped``
    what of ours, such as a budget, kept it from being asked (further): that says nothing of the model. ``text`` is how its
    last answer begins.
    """

    name: str
    model: str = ""
    provider: str = ""
    roles: tuple[str, ...] = ()
    family: str = ""
    price: Price | None = None
    attempts: tuple[Attempt, ...] = ()
    skip: str = ""
    stopped: str = ""
    text: str = ""

    @property
    def id(self) -> str:
        """``provider:model``."""
        return f"{self.provider}:{self.model}"

    @property
    def calls(self) -> tuple[Attempt, ...]:
        """What was really asked."""
        return tuple(attempt for attempt in self.attempts if attempt.outcome not in NO_CALLS)

    @property
    def successes(self) -> int:
        """How many calls were answered."""
        return len(self.times)

    @property
    def failures(self) -> int:
        """How many were not."""
        return len(self.calls) - self.successes

    @property
    def works(self) -> bool:
        """Say whether it answered at least once."""
        return self.successes > 0

    @property
    def steady(self) -> bool:
        """Say whether it answered every time."""
        return self.works and not self.failures

    @property
    def times(self) -> list[float]:
        """The seconds of its answers, the fastest first."""
        return sorted(attempt.seconds for attempt in self.attempts if attempt.outcome == "ok")

    @property
    def response_time(self) -> float | None:
        """The median of its answers' seconds."""
        return percentile(self.times, 0.5)

    @property
    def p95(self) -> float | None:
        """The seconds that 95 % of its answers did not exceed."""
        return percentile(self.times, 0.95)

    @property
    def usd(self) -> float | None:
        """What the test of it cost; None where no price is known."""
        return spent_usd(self.calls)

    @property
    def untested(self) -> bool:
        """Say whether nothing is known of it, for it was never asked and that was not its fault."""
        return bool(self.skip and self.stopped)

    @property
    def errors(self) -> Mapping[str, int]:
        """How often each class of error came, the most frequent first."""
        return dict(Counter(attempt.outcome for attempt in self.calls if attempt.outcome != "ok").most_common())

    def message(self, error: str) -> str:
        """Return what the last error of a class said."""
        return plain(next((attempt.message for attempt in reversed(self.calls) if attempt.outcome == error), ""))

    @property
    def trouble(self) -> str:
        """Say in a few words why it is not, or not always, to be had."""
        if self.skip:
            return self.skip
        told = [f"{kind} x {number}" if number > 1 else kind for kind, number in self.errors.items()]
        unasked = sum(attempt.outcome == "skipped" for attempt in self.attempts)
        if unasked:
            told.append(f"{unasked} not asked: its breaker was open")
        return "; ".join([*told, self.stopped] if self.stopped else told)

    def as_json(self) -> dict[str, Any]:
        """Return this as plain data."""
        return {
            "name": self.name,
            "model": self.model,
            "provider": self.provider,
            "roles": list(self.roles),
            "family": self.family,
            "price": None if self.price is None else asdict(self.price),
            "works": self.works,
            "skipped": self.skip,
            "stopped": self.stopped,
            "calls": len(self.calls),
            "successes": self.successes,
            "failures": self.failures,
            "errors": {kind: {"count": number, "message": self.message(kind)} for kind, number in self.errors.items()},
            "response_time": self.response_time,
            "p95": self.p95,
            "times": [attempt.seconds for attempt in self.calls if attempt.outcome == "ok"],
            "usd": self.usd,
            "text": self.text,
        }


def plain(text: str) -> str:
    """Return what others wrote as one line without control characters."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def fastest_first(tests: Iterable[ModelTest]) -> list[ModelTest]:
    """Return the models that answered, the least median time first."""
    return sorted((test for test in tests if test.works), key=lambda test: (test.response_time or 0.0, test.name))
