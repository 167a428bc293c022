"""The order of the models within a role, asked anew for every answer."""

from __future__ import annotations

from collections.abc import Sequence

from flowcraft.llm.base import Link
from flowcraft.llm.policies.fallback import Order
from flowcraft.llm.statistics import Statistics
from flowcraft.plugin.chat import Scope


def fastest(statistics: Statistics) -> Order:
    """Put models with the least median time first; those without data stay behind them, as listed."""

    async def order(links: Sequence[Link], scope: Scope) -> Sequence[Link]:
        await statistics.refresh()
        medians = {link.info.id: statistics.median(link.info.provider, link.info.model) for link in links}
        return sorted(links, key=lambda link: _or_last(medians[link.info.id]))

    return order


async def cheapest(links: Sequence[Link], scope: Scope) -> Sequence[Link]:
    """Put models with the least price first; a price that is not known comes last. Output counts three times."""
    return sorted(links, key=lambda link: _or_last(_price(link)))


def _price(link: Link) -> float | None:
    price = link.info.price
    return None if price is None else price.input + 3 * price.output


def _or_last(value: float | None) -> float:
    return float("inf") if value is None else value
