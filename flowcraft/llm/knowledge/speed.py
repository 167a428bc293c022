"""Which model answers soonest: what is known of models' times and failures, and draws from that knowledge.

Thompson sampling (W. R. Thompson, Biometrika 25, 1933) with discounted sums (V. Raj and S. Kalyani, "Taming
non-stationary bandits", 2017): the logarithm of an answer's seconds is normal with a normal-inverse-gamma prior, an answer
comes or fails by a beta prior. A model that is seldom asked is known less and less, so it is tried again from time to time.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

from flowcraft.llm.ports import JUDGE, LOST, CallRecord

OWN = 0.97
"""What is left of a model's sums when it is called again: about its last 33 calls count."""
OTHERS = 0.999
"""What is left of a model's sums when another model of its role is called."""
ENOUGH = 30
"""Calls after which a stage or a task stands on its own: as many as are remembered of one model, so that what is known of
all calls could add nothing that is as fresh."""
MOST_TABLES = 1000
"""Stages and tasks that are known at a time; of more, those that were not called for longest are forgotten."""
LEAST, MOST = 1e-4, 1e6
"""Seconds of a call are taken as at least and at most these: their logarithm has to exist."""
SAYS_NOTHING = frozenset(
    {"skipped", "InvalidRequest", "ContextTooLong", "ContentFiltered", "BudgetExceeded", "CapabilityMissing", "CircuitOpen"}
)
"""Outcomes that are the fault of the request or of ourselves: they say nothing of how fast a model answers."""

T = TypeVar("T")
Key = tuple[str, str]
"""A provider and a model."""
Basis = Literal["stage", "task", "all"]
_ROUNDS = 4
_FORGOTTEN = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one model: discounted counts of its answers and failures.

    ``mean`` and ``spread`` are of the logarithm of an answer's seconds: the mean, and the sum of squares around it.
    ``failing`` is how many seconds a failure takes; ``calls`` counts plainly.
    """

    answers: float = 0.0
    mean: float = 0.0
    spread: float = 0.0
    ok: float = 0.0
    failed: float = 0.0
    failing: float = 0.0
    calls: int = 0

    @property
    def success(self) -> float | None:
        """The share of calls that were answered, the last ones counting most; None without calls."""
        counted = self.ok + self.failed
        return self.ok / counted if counted > _FORGOTTEN else None


class _Arm:
    """The sums of one model in one table, by stage.

    They hold ``1 / scale`` times what they stand for: a discount is one multiplication, whatever the number of stages.
    """

    __slots__ = ("calls", "failed", "ok", "role", "scale", "stages", "tick")

    def __init__(self) -> None:
        self.scale = 1.0
        self.ok = 0.0
        self.failed = 0.0
        self.stages: dict[str, list[float]] = {}  # answers, sum and sum of squares of logarithms, seconds of failures
        self.calls = 0
        self.role = ""
        self.tick = 0

    def forget(self) -> None:
        """Bring the sums back to what they stand for, and leave out stages that no longer count."""
        scale, self.scale = self.scale, 1.0
        self.ok *= scale
        self.failed *= scale
        kept = {stage: [value * scale for value in sums] for stage, sums in self.stages.items()}
        self.stages = {stage: sums for stage, sums in kept.items() if sums[0] > _FORGOTTEN or sums[3] > _FORGOTTEN}


class _Table:
    """What is known of models in some calls: those of a stage, of a task, or all.

    Where calls of several stages meet, times are compared within each stage: every one is taken relative to its stage's
    geometric mean (of all models alike, so that a model asked in slow stages alone does not look slow).
    """

    def __init__(self) -> None:
        self._arms: dict[Key, _Arm] = {}
        self._ticks: dict[str, int] = {}
        self._plays = 0
        self._stage: str | None = None
        self._several = False
        self._levels: dict[str, float] = {}
        self._levelled = 0

    def add(self, key: Key, role: str, stage: str, outcome: str, seconds: float, log: float) -> None:
        arm = self._arms.get(key)
        if arm is None:
            arm = self._arms[key] = _Arm()
        ticks = self._ticks
        idle = ticks.get(arm.role, 0) - arm.tick
        scale = arm.scale * (OWN * OTHERS**idle if idle > 0 else OWN)
        arm.scale = scale
        if scale < _FORGOTTEN:
            arm.forget()
        arm.role = role
        arm.tick = ticks[role] = ticks.get(role, 0) + 1
        arm.calls += 1
        self._plays += 1
        if stage != self._stage and not self._several:
            self._several = self._stage is not None
            self._stage = stage
        sums = arm.stages.get(stage)
        if sums is None:
            sums = arm.stages[stage] = [0.0, 0.0, 0.0, 0.0]
        one = 1 / arm.scale
        if outcome == "ok":
            arm.ok += one
        elif outcome == "cancelled":  # it would have taken longer than this, and mostly as long as it does
            log = max(log, sums[1] / sums[0]) if sums[0] > 0 else log
        else:
            arm.failed += one
            sums[3] += one * seconds
            return
        sums[0] += one
        sums[1] += one * log
        sums[2] += one * log * log

    def calls(self, keys: Iterable[Key]) -> int:
        return sum(self._arms[key].calls for key in keys if key in self._arms)

    def known(self, key: Key, stage: str) -> Known:
        """Return what is known of a model, its times as they are in ``stage``."""
        arm = self._arms.get(key)
        if arm is None:
            return Known()
        scale = arm.scale * OTHERS ** (self._ticks.get(arm.role, 0) - arm.tick)
        levels = self._relative_to(stage)
        answers = total = squares = late = 0.0
        for name, (n, x, xx, failing) in arm.stages.items():
            level = levels.get(name, 0.0)
            answers += n
            total += x - n * level
            squares += xx - level * (2 * x - n * level)
            late += failing / math.exp(level)
        mean = total / answers if answers > 0 else 0.0
        return Known(
            answers=answers * scale,
            mean=mean,
            spread=max(0.0, squares - answers * mean * mean) * scale,
            ok=arm.ok * scale,
            failed=arm.failed * scale,
            failing=late / arm.failed if arm.failed > 0 else 0.0,
            calls=arm.calls,
        )

    def _relative_to(self, stage: str) -> dict[str, float]:
        """Return by how much the logarithm of times in each stage lies above that of ``stage``."""
        if not self._several:
            return {}
        if not self._levels or self._plays - self._levelled > min(32, self._levelled // 8):
            self._levels = _levels(list(self._arms.values()))
            self._levelled = self._plays
        here = self._levels.get(stage)
        if here is None:  # nothing is known of it: as a call is in the middle
            here = sum(self._levels.values()) / len(self._levels) if self._levels else 0.0
        return {name: level - here for name, level in self._levels.items()}


def _levels(arms: Sequence[_Arm]) -> dict[str, float]:
    """Return the logarithm of each stage's geometric mean, as if every model had been asked in every stage equally often.

    Effects of models and of stages are fitted in turns (additive two-way model by backfitting).
    """
    sums = [(index, stage, sums) for index, arm in enumerate(arms) for stage, sums in arm.stages.items()]
    means = [(index, stage, x / n) for index, stage, (n, x, _, _) in sums if n > 0]
    effects = dict.fromkeys(range(len(arms)), 0.0)
    levels: dict[str, float] = {}
    for _ in range(_ROUNDS):
        levels = _averages((stage, mean - effects[index]) for index, stage, mean in means)
        effects |= _averages((index, mean - levels[stage]) for index, stage, mean in means)
    return levels


def _averages(pairs: Iterable[tuple[T, float]]) -> dict[T, float]:
    found: dict[T, list[float]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is expected of a model: seconds of an answer, the chance of one, and seconds where it is asked until it answers."""

    seconds: float
    success: float
    until_answer: float


class Speed:
    """What is known of all models. Not safe to share by threads: whoever owns it holds a lock."""

    def __init__(self) -> None:
        self._all = _Table()
        self._labelled: OrderedDict[tuple[Basis, str], _Table] = OrderedDict()

    def add(self, record: CallRecord) -> None:
        """Take in one call. What was cancelled says nothing, unless because another model was faster.

        Nor does a judge's: comparing two answers takes another time than giving one.
        """
        attempt = record.attempt
        outcome = attempt.outcome
        if outcome in SAYS_NOTHING or attempt.role == JUDGE or (outcome == "cancelled" and attempt.message != LOST):
            return
        key = (attempt.provider, attempt.model)
        seconds = min(MOST, max(LEAST, attempt.seconds))
        log = math.log(seconds)
        stage, role = record.stage, attempt.role
        self._all.add(key, role, stage, outcome, seconds, log)
        if stage:
            self._table("stage", stage).add(key, role, stage, outcome, seconds, log)
        if record.task:
            self._table("task", record.task).add(key, role, stage, outcome, seconds, log)

    def known(self, keys: Sequence[Key], stage: str = "", task: str = "") -> Knowledge:
        """Return what is known of models: by the calls of the stage if they are enough, else of the task, else by all."""
        basis, table = self._fitting(keys, stage, task)
        return Knowledge(basis=basis, models=tuple(table.known(key, stage) for key in keys))

    def unheard(self, stage: str = "", task: str = "") -> tuple[Basis, ...]:
        """Return which of these labels no call has borne so far."""
        labels: tuple[tuple[Basis, str], ...] = (("stage", stage), ("task", task))
        return tuple(label[0] for label in labels if label[1] and label not in self._labelled)

    def _fitting(self, keys: Sequence[Key], stage: str, task: str) -> tuple[Basis, _Table]:
        labels: tuple[tuple[Basis, str], ...] = (("stage", stage), ("task", task))
        for label in labels:
            table = self._labelled.get(label)
            if table is not None and table.calls(keys) >= ENOUGH:
                return label[0], table
        return "all", self._all

    def _table(self, basis: Basis, name: str) -> _Table:
        label = (basis, name)
        found = self._labelled.get(label)
        if found is None:
            found = self._labelled[label] = _Table()
            if len(self._labelled) > MOST_TABLES:
                self._labelled.popitem(last=False)
        else:
            self._labelled.move_to_end(label)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What is known of some models at one moment, and by which calls."""

    basis: Basis = "all"
    models: tuple[Known, ...] = ()

    @property
    def calls(self) -> int:
        """How many calls it rests on."""
        return sum(known.calls for known in self.models)

    def drawn(self, random: Random) -> list[int]:
        """Return the places of the models, the one that may be fastest first: by one draw of what is likely for each.

        A draw gives seconds L of an answer and the chance p of one; F are the seconds to fail. Asking a model first takes
        ``p L + (1 - p) F + (1 - p) R``, where R is what the best model needs, asked until it answers: the least of
        ``(p L + (1 - p) F) / p`` over models. That sum is least for the very model whose ratio is, so models go by their
        ratio, which sorts those behind the first rightly too. Without any knowledge they stay as listed.
        """
        if not self.calls:
            return list(range(len(self.models)))
        least = self._least_mean()
        ratios = [_draw(known, least, random) for known in self.models]
        return sorted(range(len(ratios)), key=ratios.__getitem__)

    def expected(self) -> list[Expected | None]:
        """Return what is expected of each model; None of one that was never called."""
        least = self._least_mean()
        return [_expect(known, least) if known.calls else None for known in self.models]

    def _least_mean(self) -> float:
        """Return the least mean: what nobody knows may be as fast as the best that is known."""
        means = [known.mean for known in self.models if known.answers > 0.5]
        return min(means or [known.mean for known in self.models if known.answers > 0], default=0.0)


def _posterior(known: Known, least: float) -> tuple[float, float, float, float]:
    """Return the parameters k, mu, a, b of the normal-inverse-gamma distribution of a model's logarithms."""
    n = known.answers
    k = 0.5 + n
    mu = (0.5 * least + n * known.mean) / k
    return k, mu, 2 + n / 2, 0.2 + (known.spread + 0.5 * n * (known.mean - least) ** 2 / k) / 2


def _draw(known: Known, least: float, random: Random) -> float:
    k, mu, a, b = _posterior(known, least)
    variance = b / random.gammavariate(a, 1.0)
    mean = random.gauss(mu, math.sqrt(variance / k))
    p = max(1e-9, random.betavariate(1 + known.ok, 0.1 + known.failed))
    return _ratio(_exp(mean + variance / 2), p, known)


def _expect(known: Known, least: float) -> Expected:
    _, mu, a, b = _posterior(known, least)
    seconds = _exp(mu + b / (a - 1) / 2)
    p = (1 + known.ok) / (1.1 + known.ok + known.failed)
    return Expected(seconds=seconds, success=p, until_answer=_ratio(seconds, p, known))


def _ratio(seconds: float, p: float, known: Known) -> float:
    failing = known.failing if known.failed > 0.1 else seconds
    return seconds + (1 - p) / p * failing


def _exp(value: float) -> float:
    return math.exp(min(value, 20.0))
