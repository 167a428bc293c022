"""The order of the models within a role, asked anew for every answer."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from flowcraft.llm.base import Link
from flowcraft.llm.knowledge.ratings import Ratings
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.llm.policies.fallback import Order
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.chat import Scope


def fastest(statistics: Statistics, random: Random) -> Order:
    """Put first what one draw from the knowledge of models' times takes for the fastest (Thompson sampling).

    By the calls of the answer's stage where they are enough, else of its task, else by all calls.
    """

    async def order(links: Sequence[Link], scope: Scope) -> Sequence[Link]:
        await statistics.refresh()
        models = [(link.info.provider, link.info.model) for link in links]
        known = statistics.speed(models, scope.stage, scope.task)
        return [links[place] for place in known.drawn(random)]

    return order


async def cheapest(links: Sequence[Link], scope: Scope) -> Sequence[Link]:
    """Put models with the least price first; a price that is not known comes last. Output counts three times."""
    return sorted(links, key=lambda link: _or_last(price_of(link.info)))


def best(statistics: Statistics) -> Order:
    """Put the strongest models first, by judges' verdicts; a model that was never judged is taken for the mean."""

    async def order(links: Sequence[Link], scope: Scope) -> Sequence[Link]:
        await statistics.refresh()
        ids = [link.info.id for link in links]
        return [links[place] for place in by_strength(statistics.ratings, ids, scope.stage, scope.task)]

    return order


def by_strength(ratings: Ratings, ids: Sequence[str], stage: str, task: str) -> list[int]:
    """Return the places of models, the strongest first; equal ones as they are listed."""
    known = ratings.strengths(ids, stage=stage, task=task)
    mean = sum(known.values()) / len(known) if known else 0.0
    return sorted(range(len(ids)), key=lambda place: -known.get(ids[place], mean))


def price_of(info: ModelInfo) -> float | None:
    """Return USD per million tokens, as if three of four were of the answer; None where it is not known."""
    return None if info.price is None else info.price.input + 3 * info.price.output


def _or_last(value: float | None) -> float:
    return float("inf") if value is None else value
