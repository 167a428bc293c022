"""What policies share, in memory: the stores of a program without a database, and the set of all stores."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from flowcraft.llm.ports import (
    AnswerStore,
    Caller,
    CallStore,
    Hold,
    KeptAnswer,
    LimitStore,
    Spending,
    SpendingLine,
    SpendingStore,
    VerdictStore,
    Want,
)
from flowcraft.llm.sharing.limits import PLACE_LASTS, TURN_LASTS, held_back, taken

MOST_ANSWERS = 10_000
"""Answers that memory keeps; the oldest give way."""
ROUNDING = 1e-9
"""Sums of money are not exact to the last bit; a budget that is exceeded by less than this is kept."""


class MemorySpending(SpendingStore):
    """SpendingStore of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str], Spending] = {}

    def reserve(self, lines: Sequence[SpendingLine]) -> Spending | None:
        """Take all of ``lines``, or none of them."""
        with self._lock:
            for line in lines:
                spent = self._spent(line)
                if spent + line.amount > line.limit + ROUNDING:
                    self._add([replace(told, amount=0.0) for told in lines if (told.scope, told.unit) in self._rows])
                    return Spending(scope=line.scope, unit=line.unit, spent=spent, limit=line.limit)
            self._add(lines)
        return None

    def settle(self, lines: Sequence[SpendingLine]) -> None:
        """Add ``amount`` of each line."""
        with self._lock:
            self._add(lines)

    def spending(self) -> Sequence[Spending]:
        """Return all that was ever spent, by scope and unit."""
        with self._lock:
            return [self._rows[key] for key in sorted(self._rows)]

    def _spent(self, line: SpendingLine) -> float:
        known = self._rows.get((line.scope, line.unit))
        return known.spent if known is not None else 0.0

    def _add(self, lines: Sequence[SpendingLine]) -> None:
        for line in lines:
            spent = self._spent(line) + line.amount
            row = Spending(scope=line.scope, unit=line.unit, spent=spent, limit=line.limit)
            self._rows[line.scope, line.unit] = row


@dataclass(frozen=True, slots=True)
class _Place:
    """A call under way, or with ``waiting`` one that waits for a place."""

    name: str
    caller: Caller
    waiting: bool
    expires: float


class MemoryLimits(LimitStore):
    """LimitStore of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rates: dict[str, tuple[float, float]] = {}
        self._places: list[_Place] = []

    def take(self, caller: Caller, wants: Sequence[Want], now: float) -> Hold | None:
        """Take what a call needs of all limits, or nothing."""
        with self._lock:
            self._places = [place for place in self._places if place.expires > now and place.caller.id != caller.id]
            hold = held_back(wants, caller.tokens, now, self._rate, lambda name: self._busy(name, caller))
            waiting = hold is not None
            for want in wants:
                if not waiting and (want.requests is not None or want.tokens is not None):
                    self._rates[want.name] = taken(want, caller.tokens, now, self._rate(want.name))
                if want.concurrent is not None:
                    expires = now + (TURN_LASTS if waiting else PLACE_LASTS)
                    self._places.append(_Place(want.name, caller, waiting, expires))
        return hold

    def give_back(self, wants: Sequence[Want], requests: int, tokens: int) -> None:
        """Give back what was not used."""
        with self._lock:
            for want in wants:
                of_requests, of_tokens = self._rate(want.name)
                of_requests -= requests * want.requests.interval if want.requests is not None else 0.0
                of_tokens -= tokens * want.tokens.interval if want.tokens is not None else 0.0
                self._rates[want.name] = (of_requests, of_tokens)

    def renew(self, calls: Sequence[str], now: float) -> None:
        """Let these calls keep their places."""
        with self._lock:
            self._places = [
                replace(place, expires=now + PLACE_LASTS) if place.caller.id in calls else place for place in self._places
            ]

    def leave(self, call: str) -> None:
        """Give the places of a call back, or its turn."""
        with self._lock:
            self._places = [place for place in self._places if place.caller.id != call]

    def _rate(self, name: str) -> tuple[float, float]:
        return self._rates.get(name, (0.0, 0.0))

    def _busy(self, name: str, caller: Caller) -> int:
        return sum(place.name == name and (not place.waiting or place.caller.since < caller.since) for place in self._places)


class MemoryAnswers(AnswerStore):
    """AnswerStore of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[KeptAnswer, float]] = {}

    def get(self, key: str, now: float) -> KeptAnswer | None:
        """Return the answer kept under ``key`` that has not expired."""
        with self._lock:
            row = self._rows.get(key)
        return row[0] if row is not None and row[1] > now else None

    def put(self, key: str, response: str, now: float, expires: float) -> None:
        """Keep an answer, and forget all that has expired."""
        with self._lock:
            self._rows.pop(key, None)
            if len(self._rows) >= MOST_ANSWERS:
                self._rows = {name: row for name, row in self._rows.items() if row[1] > now}
            while len(self._rows) >= MOST_ANSWERS:
                del self._rows[next(iter(self._rows))]
            self._rows[key] = (KeptAnswer(response=response, created=now), expires)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Where everything is kept that outlives an answer. What is not given is kept in memory, as long as the program runs."""

    calls: CallStore | None = None
    verdicts: VerdictStore | None = None
    spending: SpendingStore = field(default_factory=MemorySpending)
    limits: LimitStore = field(default_factory=MemoryLimits)
    answers: AnswerStore = field(default_factory=MemoryAnswers)
