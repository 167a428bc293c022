"""Why models are asked in the order in which they are: what is known of each, and what follows from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from random import Random

from flowcraft.llm.base import Link
from flowcraft.llm.chain import Chain, ChainLabels
from flowcraft.llm.composer import ChainSpec, Workshop, cast
from flowcraft.llm.judging import fit
from flowcraft.llm.knowledge.ratings import Ratings
from flowcraft.llm.knowledge.speed import Basis, Expected, Knowledge, Known
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.llm.ordering import by_strength, price_of
from flowcraft.llm.rules import AdaptiveRules, OrderName
from flowcraft.plugin.capabilities import ModelInfo, Price
from flowcraft.plugin.chat import Scope

DRAWS = 1000
"""How often ``fastest`` is drawn to say how likely each model is to come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """One model of a chain as it is seen when its turn is decided.

    ``obstacle`` is why it would be skipped, empty if it would be asked. ``basis`` says which ``calls`` the expected
    ``seconds`` and the share of ``success`` rest on: those of the stage, the task, or all; they are None without calls.
    ``first`` is the share of 1,000 draws in which it comes first of those of its role that can be asked, None where nothing
    is drawn. ``rating`` is the natural logarithm of its strength by verdicts; a tie is half a win and half a loss.
    """

    role: str
    model: str
    provider: str
    obstacle: str = ""
    offline: bool = False
    basis: Basis = "all"
    calls: int = 0
    seconds: float | None = None
    success: float | None = None
    first: float | None = None
    price: Price | None = None
    rating: float | None = None
    wins: float = 0.0
    losses: float = 0.0
    why: str = ""

    @property
    def id(self) -> str:
        """``provider:model``."""
        return f"{self.provider}:{self.model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """In which order a chain asks its models, and why.

    ``tier`` is what the chain is called; ``contestants`` and ``judge`` are those of best of two, ``escalation`` are the
    models that answer where a cheap one is not sure.
    """

    tier: str = ""
    stage: str = ""
    task: str = ""
    strategy: str = "single"
    order: OrderName = "listed"
    models: tuple[Considered, ...] = ()
    contestants: tuple[str, ...] = ()
    judge: str = ""
    escalation: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    why: str = ""


class Reasons:
    """Puts the links of a chain in their order, as an answer would at ``now`` (the loop's clock), and says why."""

    def __init__(self, statistics: Statistics, order: OrderName, *, stage: str, task: str, require: frozenset[str], now: float):
        self._statistics = statistics
        self._order = order
        self._stage = stage
        self._task = task
        self._require = require
        self._now = now

    def of(self, links: Sequence[Link]) -> tuple[Considered, ...]:
        """Return every link in its turn, role after role; offline ones last."""
        found: list[Considered] = []
        behind = sorted(links, key=lambda link: link.info.offline)
        for (_, offline), role in groupby(behind, key=lambda link: (link.role, link.info.offline)):
            found += self._role(list(role), ordered=not offline)
        return tuple(found)

    def _role(self, links: list[Link], *, ordered: bool) -> list[Considered]:
        known = self._statistics.speed([(link.info.provider, link.info.model) for link in links], self._stage, self._task)
        open_to = [not self._obstacle(link) for link in links]
        firsts, places = _drawn(known, open_to) if self._order == "fastest" and ordered else ([], list(range(len(links))))
        if ordered and self._order == "cheapest":
            prices = [price_of(link.info) for link in links]
            places.sort(key=lambda place: (prices[place] is None, prices[place] or 0.0))
        elif ordered and self._order == "best":
            places = by_strength(self._statistics.ratings, [link.info.id for link in links], self._stage, self._task)
        strengths = self._statistics.ratings.strengths([link.info.id for link in links], stage=self._stage, task=self._task)
        seen = [
            self._seen(link, known, model, expected, strengths.get(link.info.id))
            for link, model, expected in zip(links, known.models, known.expected(), strict=True)
        ]
        if firsts and len(links) > 1:
            seen = [one if one.obstacle else replace(one, first=share) for one, share in zip(seen, firsts, strict=True)]
        rated = bool(strengths)
        return [replace(seen[place], why=_why(seen[place], self._order, len(links), rated)) for place in places]

    def _seen(self, link: Link, known: Knowledge, model: Known, expected: Expected | None, rating: float | None) -> Considered:
        info = link.info
        tally = _tally(self._statistics.ratings, info.id, self._stage, self._task)
        return Considered(
            role=link.role,
            model=info.model,
            provider=info.provider,
            obstacle=self._obstacle(link),
            offline=info.offline,
            basis=known.basis,
            calls=model.calls,
            seconds=expected.seconds if expected is not None and model.answers > 0 else None,
            success=model.success,
            price=info.price,
            rating=rating,
            wins=tally[0],
            losses=tally[1],
        )

    def _obstacle(self, link: Link) -> str:
        if lacks := link.info.capabilities.lacks(self._require):
            return f"it cannot do: {', '.join(sorted(lacks))}"
        if link.llm is None:
            return link.skip or "its provider is not configured"
        return link.health.blocked(self._now) if link.health is not None else ""


def explained(chain: Chain, spec: ChainSpec, shop: Workshop, now: float) -> Decision:
    """Return how the chain that was made of ``spec`` goes about its next answer. ``now`` is of the loop's clock."""
    labels, policies = chain.labels, spec.policies
    reasons = Reasons(shop.statistics, policies.order, stage=labels.stage, task=labels.task, require=spec.require, now=now)
    models = reasons.of(_priced(chain.links, shop))
    contestants, seats, instead = cast(chain.links, spec, shop)
    may = {link.info.id: link.info for link in contestants}
    pair = [may[one.id] for one in models if not one.obstacle and one.id in may][:2]
    judge = fit(seats, pair, Scope(stage=labels.stage, task=labels.task), now) if len(pair) == 2 else None
    decision = Decision(
        tier=labels.tier,
        stage=labels.stage,
        task=labels.task,
        strategy=policies.strategy,
        order=policies.order,
        models=models,
        contestants=tuple(info.id for info in pair) if len(pair) == 2 else (),
        judge=judge.name if judge is not None else "",
        escalation=tuple(one.id for one in reasons.of(_priced(instead, shop)) if not one.offline),
        notes=(
            *chain.notes,
            *_unheard(shop.statistics, labels),
            *_spared(shop.statistics, pair, policies.adaptive, labels.stage),
        ),
    )
    return replace(decision, why=_summary(decision))


def _priced(links: Sequence[Link], shop: Workshop) -> list[Link]:
    return [replace(link, info=shop.prices.priced(link.info)) for link in links]


def _unheard(statistics: Statistics, labels: ChainLabels) -> list[str]:
    named = {"stage": labels.stage, "task": labels.task}
    unheard = statistics.unheard(labels.stage, labels.task)
    return [
        f"no call of {basis} {named[basis]!r} is known yet; if that is not its name, nothing here is about it"
        for basis in unheard
    ]


def _spared(statistics: Statistics, pair: Sequence[ModelInfo], rules: AdaptiveRules, stage: str) -> list[str]:
    """Return which contestant is mostly left out, as best of two does it."""
    ids = [info.id for info in pair]
    weak = statistics.standing.out(ids[0], ids[1], stage=stage, level=rules.level) if len(ids) == 2 else ""
    if not weak or rules.explore >= 1:
        return []
    strong = ids[0] if weak == ids[1] else ids[1]
    where = f" in stage {stage}" if stage else ""
    return [f"{weak} is left out but for {_percent(rules.explore)} of answers: it seldom wins against {strong}{where}"]


def _summary(decision: Decision) -> str:
    """Return in one sentence who is asked first, and by what."""
    asked = [one for one in decision.models if not one.obstacle]
    if not asked:
        return "no model of this chain can be asked now"
    first = asked[0]
    if first.offline:
        return "no real model can be asked now: the built-in offline model answers"
    rivals = [one for one in asked if one.role == first.role and not one.offline]
    if decision.order == "listed" or len(rivals) < 2:
        alone = f"it is the only model of {first.role or 'its role'} that can be asked"
        return f"{first.id} is asked first: " + (alone if len(rivals) < 2 else "models are asked as listed")
    if decision.order == "fastest" and first.first is not None:
        if not any(one.calls for one in rivals):
            return f"{first.id} is asked first: it is listed first, and nothing is known of their times yet"
        return f"{first.id} is mostly asked first ({_percent(first.first)} of draws): {first.why}"
    return f"{first.id} is asked first: {first.why}"


def _drawn(known: Knowledge, open_to: Sequence[bool]) -> tuple[list[float], list[int]]:
    """Return in which share of draws each model comes first of those that can be asked, and the places of all.

    These go by the mean of their ranks, those that cannot be asked behind. The draws are always the same: two looks at the
    same knowledge say the same.
    """
    count = len(known.models)
    firsts, ranks = [0] * count, [0] * count
    random = Random(0)  # noqa: S311 - a simulation, no secret
    for _ in range(DRAWS):
        drawn = known.drawn(random)
        firsts[next((place for place in drawn if open_to[place]), drawn[0])] += 1
        for rank, place in enumerate(drawn):
            ranks[place] += rank
    return [first / DRAWS for first in firsts], sorted(range(count), key=lambda place: (not open_to[place], ranks[place]))


def _tally(ratings: Ratings, id: str, stage: str, task: str) -> tuple[float, float]:
    """Return wins and losses under the narrowest label that has verdicts on the model."""
    for label in ((stage, ""), ("", task), ("", "")):
        tally = ratings.record(id, *label)
        if tally.wins or tally.losses:
            return tally.wins, tally.losses
    return 0.0, 0.0


def _why(one: Considered, order: OrderName, rivals: int, rated: bool) -> str:
    if one.obstacle:
        return f"skipped: {one.obstacle}"
    if one.offline:
        return "made-up answers, only where no real model answers"
    if rivals < 2:
        return f"the only model of {one.role}" if one.role else "the only model"
    if order == "fastest":
        return _why_fast(one)
    if order == "cheapest":
        if one.price is None:
            return "its price is not known"
        return f"{one.price.input:g} USD in, {one.price.output:g} USD out for a million tokens"
    if order == "best":
        if one.rating is None:
            return "no verdicts: taken for the mean of the others" if rated else "no verdicts yet: as listed"
        return f"rating {one.rating:+.2f} by {one.wins:g} wins and {one.losses:g} losses"
    return "as listed"


def _why_fast(one: Considered) -> str:
    if not one.calls:
        return "never called: it may be as fast as the best, so it is tried"
    by = f"by {one.calls:,} calls" + ("" if one.basis == "all" else f" of this {one.basis}")
    if one.seconds is None:
        return f"it has never answered yet, {by}"
    answered = "" if one.success is None or one.success > 0.995 else f", {_percent(one.success)} answered"
    return f"{_seconds(one.seconds)} expected{answered}, {by}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.2g} ms" if seconds < 0.01 else f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
