"""Simulations of ``fastest``: models whose times are drawn, asked in the order that the library gives. Nothing sleeps."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from random import Random
from statistics import mean
from typing import Any

import pytest

from flowcraft.attempts import Attempt
from flowcraft.llm.base import Link
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.llm.ordering import fastest
from flowcraft.llm.ports import CallRecord
from flowcraft.manager import LLMManager
from flowcraft.plugin import ChatRequest, ModelInfo
from flowcraft.plugin.chat import Scope
from flowcraft.settings import Settings
from flowcraft.testing import FakeProvider
from flowcraft.testing.clock import run_virtual

pytestmark = pytest.mark.unit

MEANS = (0.2, 0.4, 0.8, 1.6)
SPREAD = 0.4
SEEDS = range(10)

Pick = Callable[[int], Any]
World = Callable[[int], Sequence[float]]


def steady(call: int) -> Sequence[float]:
    return MEANS


def turning(call: int) -> Sequence[float]:
    """The best turns ten times slower."""
    return (2.0, *MEANS[1:]) if call >= 1000 else MEANS


def overtaken(call: int) -> Sequence[float]:
    """The second turns four times as fast as the best."""
    return (0.2, 0.05, *MEANS[2:]) if call >= 1000 else MEANS


def drawn(random: Random, mean_seconds: float) -> float:
    return mean_seconds * math.exp(random.gauss(-SPREAD * SPREAD / 2, SPREAD))


class Game:
    """Calls, one after the other, to models whose times are drawn; what they took is recorded as the library does.

    A call ``hangs`` with that chance: it takes ten times as long.
    """

    def __init__(self, seed: int, world: World, hangs: float = 0.0) -> None:
        self.statistics = Statistics()
        self.links = [Link(llm=None, info=ModelInfo(model=str(model), provider="p"), role="primary") for model in range(4)]
        self.world = world
        self.hangs = hangs
        self.random = Random(seed)
        self.order = fastest(self.statistics, Random(seed + 1000))
        self.picks: list[int] = []
        self.taken = 0.0

    async def ours(self) -> int:
        return int((await self.order(self.links, Scope()))[0].info.model)

    def play(self, model: int, seconds: float | None = None) -> float:
        expected = self.world(len(self.picks))[model]
        taken = drawn(self.random, expected) if seconds is None else seconds
        taken *= 10 if self.random.random() < self.hangs else 1
        attempt = Attempt(model=str(model), provider="p", role="primary", seconds=taken)
        self.statistics.record(CallRecord(id=str(len(self.picks)), attempt=attempt))
        self.picks.append(model)
        self.taken += expected
        return taken

    async def go(self, calls: int) -> Game:
        for _ in range(calls):
            self.play(await self.ours())
        return self

    def over_oracle(self) -> float:
        return self.taken / sum(min(self.world(call)) for call in range(len(self.picks)))


async def last_sample_wins(game: Game, calls: int) -> Game:
    """The rule that many programs have: whichever model's last answer was the quickest."""
    last = dict.fromkeys(range(len(game.links)), 0.0)
    for _ in range(calls):
        model = min(last, key=last.__getitem__)
        last[model] = game.play(model)
    return game


async def round_robin(game: Game, calls: int) -> Game:
    for call in range(calls):
        game.play(call % len(game.links))
    return game


@pytest.mark.no_cover
async def test_it_stays_within_five_percent_of_always_knowing_the_best() -> None:
    ours = mean([(await Game(seed, steady).go(3000)).over_oracle() for seed in SEEDS])
    assert ours <= 1.05


async def test_when_the_best_turns_slow_it_goes_to_the_next_best_within_fifty_calls() -> None:
    needed = []
    for seed in SEEDS:
        game = await Game(seed, turning).go(1060)
        right = [pick == 1 for pick in game.picks[1000:]]
        needed.append(next(after for after in range(50) if sum(right[after : after + 10]) >= 8) + 10)
    assert mean(needed) <= 50


@pytest.mark.parametrize(
    "world", [steady, overtaken, turning], ids=["one call in a hundred hangs", "overtaken", "turning slow"]
)
@pytest.mark.no_cover
async def test_it_beats_the_last_sample_and_taking_turns(world: World) -> None:
    hanging = 0.01
    ours = mean([(await Game(seed, world, hanging).go(3000)).taken for seed in SEEDS])
    last = mean([(await last_sample_wins(Game(seed, world, hanging), 3000)).taken for seed in SEEDS])
    turns = mean([(await round_robin(Game(seed, world, hanging), 3000)).taken for seed in SEEDS])
    assert ours < 0.95 * last < last < turns


@pytest.mark.parametrize(("seconds", "within"), [(2.0, 300), (20.0, 1500)])
async def test_a_model_that_was_slow_once_is_tried_again(seconds: float, within: int) -> None:
    tried = []
    for seed in SEEDS:
        game = Game(seed, steady)
        for model in range(4):
            game.play(model, seconds if model == 0 else None)
        await game.go(within)
        tried.append(next((call for call, pick in enumerate(game.picks[4:], 1) if pick == 0), math.inf))
    assert max(tried) < within


@pytest.mark.no_cover
async def test_a_model_that_nobody_asked_for_long_is_found_when_it_has_become_the_best() -> None:
    needed = []
    for seed in SEEDS:
        game = await Game(seed, overtaken).go(3000)
        right = [pick == 1 for pick in game.picks[1000:]]
        needed.append(next(after for after in range(1990) if sum(right[after : after + 10]) >= 8))
    assert mean(needed) < 1000


SETTINGS = {"llm": {"model_roles": {"primary": [f"fake:{model}" for model in range(4)]}, "order": "fastest"}}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_real_chain_in_virtual_time_stays_as_close(streamed: bool) -> None:
    over = [run_virtual(_asked(seed, streamed)) for seed in SEEDS[:3]]
    assert mean(over) <= 1.08


async def _asked(seed: int, streamed: bool, calls: int = 600) -> float:
    random = Random(seed)
    asked: list[int] = []

    class Timed(FakeProvider):
        def __init__(self, config: Any = None, *, section: str = "", timeouts: Any = None) -> None:
            super().__init__(section=section, timeouts=timeouts)

        async def chat(self, model: str, request: ChatRequest) -> Any:
            asked.append(int(model))
            await asyncio.sleep(drawn(random, MEANS[int(model)]))
            return await super().chat(model, request)

        async def stream(self, model: str, request: ChatRequest) -> Any:
            asked.append(int(model))
            await asyncio.sleep(drawn(random, MEANS[int(model)]))
            async for event in super().stream(model, request):
                yield event

    async with LLMManager(Settings(**SETTINGS), statistics=Statistics()) as manager:
        manager.register_provider("fake", Timed)
        manager._workshop.random.seed(seed)
        chain = manager.llm()
        for _ in range(calls):
            if streamed:
                async with chain.stream("hi") as stream:
                    assert [event async for event in stream]
            else:
                await chain.chat("hi")
    return sum(MEANS[model] for model in asked) / (calls * MEANS[0])
