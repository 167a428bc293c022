"""What judges' verdicts say of models: how strong each is, and which of two can no longer win."""

from __future__ import annotations

import math
import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flowcraft.llm.ports import VerdictRecord

PRIOR = 0.5
"""Ties that two models which met are taken to have had besides: who won always, or never, stays finite."""
ROUNDS = 2000
EXACT = 1e-9
"""The fit ends after so many rounds, or once no strength changes by more than this share."""

LOSS = math.log(0.9 / 0.5)
WIN = math.log(0.1 / 0.5)
"""What one verdict says for "it wins a tenth of its pairs" against "it wins half": the log of the likelihoods' ratio."""
KEPT = 1000
"""Verdicts of one pair and stage that a test at a new level looks back on."""

_SCORES = {"first": 1.0, "tie": 0.5, "second": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """A model's verdicts; a tie is half a win and half a loss."""

    wins: float = 0.0
    losses: float = 0.0


class _Table:
    """The verdicts under one label, and the strengths that follow from them."""

    def __init__(self) -> None:
        self.wins: dict[str, float] = defaultdict(float)
        self.pairs: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._strengths: dict[str, float] | None = None

    def add(self, first: str, second: str, score: float) -> None:
        self.wins[first] += score
        self.wins[second] += 1 - score
        self.pairs[first][second] += 1
        self.pairs[second][first] += 1
        self._strengths = None

    def tally(self, model: str) -> Tally:
        wins = self.wins.get(model, 0.0)
        return Tally(wins=wins, losses=sum(self.pairs[model].values()) - wins if model in self.pairs else 0.0)

    def strengths(self) -> Mapping[str, float]:
        if self._strengths is None:
            self._strengths = _fit(self.wins, self.pairs)
        return self._strengths


def _fit(wins: Mapping[str, float], pairs: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the strengths of Bradley and Terry's model by the MM algorithm (Hunter 2004, Annals of Statistics 32).

    The geometric mean of strengths is 1 among all models that are connected by verdicts.
    """
    models = sorted(pairs)
    against = {model: [(other, number + PRIOR) for other, number in sorted(pairs[model].items())] for model in models}
    won = {model: wins[model] + PRIOR / 2 * len(against[model]) for model in models}
    groups = _connected(models, pairs)
    strengths = dict.fromkeys(models, 1.0)
    for _ in range(ROUNDS):
        fitted = {
            model: won[model] / sum(number / (strengths[model] + strengths[other]) for other, number in against[model])
            for model in models
        }
        for group in groups:
            mean = math.exp(sum(math.log(fitted[model]) for model in group) / len(group))
            for model in group:
                fitted[model] /= mean
        change = max(abs(fitted[model] / strengths[model] - 1) for model in models)
        strengths = fitted
        if change < EXACT:
            break
    return strengths


def _connected(models: Iterable[str], pairs: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Return the groups of models within which verdicts lead from each to each, in a fixed order."""
    groups: list[list[str]] = []
    seen: set[str] = set()
    for model in models:
        reached, waiting = set(), [model]
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                reached.add(one)
                waiting += pairs[one]
        if reached:
            groups.append(sorted(reached))
    return groups


class Ratings:
    """Strengths of models from verdicts: over all, by stage and by task. Safe to share by threads.

    A rating is the natural logarithm of a strength: of two models ``a`` wins with probability
    ``1 / (1 + exp(rating(b) - rating(a)))``. Only ratings under one label can be compared. Models are ``provider:model``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[tuple[str, str], _Table] = {}

    def add(self, verdict: VerdictRecord) -> None:
        """Take one verdict; one that did not come about says nothing."""
        score = _SCORES.get(verdict.winner)
        if score is None or verdict.first == verdict.second:
            return
        with self._lock:
            for label in _labels(verdict.stage, verdict.task):
                self._tables.setdefault(label, _Table()).add(verdict.first, verdict.second, score)

    def rating(self, model_id: str, *, stage: str = "", task: str = "") -> float | None:
        """Return a model's rating in a stage, else for a task, else over all; None if it was never judged there."""
        return self._under(_labels(stage, task)[0], [model_id]).get(model_id)

    def strengths(self, model_ids: Iterable[str], *, stage: str = "", task: str = "") -> Mapping[str, float]:
        """Return ratings that can be compared: of the stage, else of the task, else over all.

        It is the first of these in which every one of the models was judged that was ever judged at all.
        """
        ids = list(model_ids)
        overall = self._under(("", ""), ids)
        for label in _labels(stage, task):
            found = self._under(label, ids)
            if found.keys() == overall.keys():
                return found
        return overall

    def record(self, model_id: str, stage: str | None = None, task: str | None = None) -> Tally:
        """Return a model's wins and losses, in one stage, or for one task, if given."""
        with self._lock:
            table = self._tables.get(_labels(stage or "", task or "")[0])
            return Tally() if table is None else table.tally(model_id)

    def wins(self, model_id: str, stage: str | None = None, task: str | None = None) -> float:
        """Return how often a model won, a tie for half, in one stage, or for one task, if given."""
        return self.record(model_id, stage, task).wins

    def _under(self, label: tuple[str, str], model_ids: Iterable[str]) -> dict[str, float]:
        with self._lock:
            table = self._tables.get(label)
            known = {} if table is None else table.strengths()
            return {model: math.log(known[model]) for model in model_ids if model in known}


def _labels(stage: str, task: str) -> list[tuple[str, str]]:
    """Return the labels that verdicts count under, the narrowest first."""
    return [*([("stage", stage)] if stage else []), *([("task", task)] if task else []), ("", "")]


class _Test:
    """The sequential test whether either of a pair wins too seldom, at one level."""

    def __init__(self, level: float) -> None:
        # One loss is the least that anything can be said by.
        self._alarm = max(math.log(1 / level), LOSS)
        self._sums = [0.0, 0.0]
        self.out: int | None = None

    def add(self, score: float) -> None:
        for place, won in enumerate((score, 1 - score)):
            total = self._sums[place] + won * WIN + (1 - won) * LOSS
            self._sums[place] = min(self._alarm, max(-2 * self._alarm, total))
            if self._sums[place] >= self._alarm:
                self.out = place
            elif self.out == place and self._sums[place] <= 0:
                self.out = None


class _Pair:
    def __init__(self) -> None:
        self.scores: deque[float] = deque(maxlen=KEPT)
        self.tests: dict[float, _Test] = {}

    def add(self, score: float) -> None:
        self.scores.append(score)
        for test in self.tests.values():
            test.add(score)

    def at(self, level: float) -> _Test:
        if level not in self.tests:
            test = self.tests[level] = _Test(level)
            for score in self.scores:
                test.add(score)
        return self.tests[level]


class Standing:
    """Which of two models can no longer win, by stage. Safe to share by threads.

    For each of the two a sequential probability ratio test (Wald 1945) sums the log likelihood ratio of "it wins a tenth of
    the pairs" to "it wins half of them"; a tie counts half. At ``log(1/level)``, where the sum stops, the model cannot win;
    once it has fallen to 0 it may again. It stops at twice that below 0 as well, so that a good record is soon outlived when
    the balance changes. In simulation, with level 0.05 and a tenth of the pairs asked still, a model was out for 99 % of a
    thousand tasks if it wins a twentieth of its pairs, for 90 % if a fifth, 27 % if a third, 5 % if two fifths, 0.5 % if half.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pairs: dict[tuple[str, str, str], _Pair] = {}

    def add(self, verdict: VerdictRecord) -> None:
        """Take one verdict; one that did not come about says nothing."""
        score = _SCORES.get(verdict.winner)
        if score is None or verdict.first == verdict.second:
            return
        low, high = sorted((verdict.first, verdict.second))
        with self._lock:
            pair = self._pairs.setdefault((verdict.stage, low, high), _Pair())
            pair.add(score if verdict.first == low else 1 - score)

    def out(self, first: str, second: str, *, stage: str, level: float) -> str:
        """Return which of two models cannot win at this significance level; empty if both may. Level 0: both always may."""
        low, high = sorted((first, second))
        with self._lock:
            pair = self._pairs.get((stage, low, high))
            place = None if pair is None or level <= 0 else pair.at(level).out
        return "" if place is None else (low, high)[place]
