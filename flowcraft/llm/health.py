"""What all chains and loops of a process know of one model's health: its breaker and its cooldown.

Everything here is plain and quick under one lock, and nothing awaits; callers pass the time of their loop's clock in.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from flowcraft.errors import AuthenticationFailed, CircuitOpen, ModelNotFound, ProviderError, QuotaExhausted

Verdict = Literal["good", "bad", "fatal", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When a breaker opens: ``calls`` at least in ``window`` seconds, ``share`` of them bad; it stays open ``open`` seconds."""

    calls: int = 5
    share: float = 0.5
    window: float = 60.0
    open: float = 30.0


def verdict(error: BaseException) -> Verdict:
    """Return what ``error`` says of a model's health: bad, fatal (no use to ask again soon) or nothing."""
    if isinstance(error, AuthenticationFailed | QuotaExhausted | ModelNotFound):
        return "fatal"
    if isinstance(error, ProviderError) and error.health:
        return "bad"
    return "none"


class _Window:
    """Calls of the last seconds, counted by the second, so that a busy model needs no more room than an idle one."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0
        self.bad = 0
        self._buckets: deque[list[int]] = deque()

    def count(self, now: float, bad: bool) -> None:
        second = int(now)
        if not self._buckets or self._buckets[-1][0] != second:
            self._forget(now)
            self._buckets.append([second, 0, 0])
        bucket = self._buckets[-1]
        bucket[1] += 1
        bucket[2] += bad
        self.calls += 1
        self.bad += bad

    def clear(self) -> None:
        self._buckets.clear()
        self.calls = self.bad = 0

    def _forget(self, now: float) -> None:
        while self._buckets and self._buckets[0][0] < now - self.seconds:
            _, calls, bad = self._buckets.popleft()
            self.calls -= calls
            self.bad -= bad


class ModelHealth:
    """The breaker and the cooldown of one model of one provider.

    Closed, the breaker lets every call through. Open, none; afterwards one probe at a time, whose verdict closes or opens
    it. A call without a verdict (cancelled, or an error that says nothing of health) gives the probe's place back.
    """

    def __init__(self, rules: BreakerRules | None = None) -> None:
        self.rules = rules or BreakerRules()
        self._lock = threading.Lock()
        self._window = _Window(self.rules.window)
        self._open_until: float | None = None
        self._why = ""
        self._probing = False
        self._not_before = 0.0

    def blocked(self, now: float) -> str:
        """Return why the breaker lets no call through now; empty when it does."""
        until = self._open_until
        if until is None:
            return ""
        if now < until:
            return f"its breaker is open for {until - now:.0f} s more after {self._why}"
        return "its breaker is half open and another call is probing it" if self._probing else ""

    def enter(self, now: float) -> bool:
        """Let a call through and return whether it is the probe; raises CircuitOpen."""
        if self._open_until is None:
            return False
        with self._lock:
            if self._open_until is None:
                return False
            if reason := self.blocked(now):
                raise CircuitOpen(reason)
            self._probing = True
            return True

    def leave(self, probe: bool, verdict: Verdict, now: float, why: str = "") -> None:
        """Take the verdict of a call that ``enter`` let through."""
        with self._lock:
            if probe:
                self._probing = False
            if verdict == "none" or (self._open_until is not None and not probe):
                # What was under way when the breaker opened neither prolongs nor ends its pause.
                return
            if verdict == "good":
                if probe:
                    self._open_until = None
                    self._window.clear()
                self._window.count(now, False)
                return
            self._window.count(now, True)
            if probe or verdict == "fatal" or self._too_bad():
                self._open_until = now + self.rules.open
                self._why = why

    def _too_bad(self) -> bool:
        return self._window.calls >= self.rules.calls and self._window.bad >= self.rules.share * self._window.calls

    def cool_down(self, until: float) -> None:
        """Ask all callers not to call before ``until``."""
        with self._lock:
            self._not_before = max(self._not_before, until)

    def cooldown(self, now: float) -> float:
        """Return for how many seconds nobody should call."""
        return max(0.0, self._not_before - now)


class HealthBoard:
    """The health of every model, made on first use and shared by all who ask."""

    def __init__(self, rules: BreakerRules | None = None) -> None:
        self._rules = rules or BreakerRules()
        self._models: dict[str, ModelHealth] = {}
        self._lock = threading.Lock()

    def of(self, id: str) -> ModelHealth:
        """Return the health of the model ``provider:model``."""
        with self._lock:
            health = self._models.get(id)
            if health is None:
                health = self._models[id] = ModelHealth(self._rules)
            return health

    def blocked(self, now: float) -> Mapping[str, str]:
        """Return why each model that is blocked is blocked."""
        with self._lock:
            known = dict(self._models)
        return {id: reason for id, health in known.items() if (reason := health.blocked(now))}
