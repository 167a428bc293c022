"""What is counted, what is kept, and what it is worth."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from flowcraft.attempts import Attempt, Usage
from flowcraft.errors import StoreError
from flowcraft.llm.base import Link
from flowcraft.llm.knowledge.statistics import BATCH, REREAD, Statistics, percentile
from flowcraft.llm.ordering import fastest
from flowcraft.llm.ports import CallRecord, ModelStatistics
from flowcraft.plugin import ModelInfo
from flowcraft.plugin.chat import Scope

pytestmark = pytest.mark.unit


class Memory:
    """A CallStore in memory, shared as a database would be."""

    def __init__(self) -> None:
        self.rows: list[CallRecord] = []
        self.batches: list[int] = []
        self.failing = False
        self.added = threading.Event()

    def add(self, records: Sequence[CallRecord]) -> None:
        if self.failing:
            raise OSError("disk full")
        self.rows += records
        self.batches.append(len(records))
        self.added.set()

    @classmethod
    def forgetful(cls) -> Memory:
        memory = cls()
        memory.rows = deque(maxlen=0)  # type: ignore[assignment]
        memory.batches = deque(maxlen=0)  # type: ignore[assignment]
        return memory

    def latest(self, per_model: int = 1000, after: int = 0) -> tuple[int, Iterable[CallRecord]]:
        return len(self.rows), self.rows[after:]

    def statistics(self, stage: str | None = None, task: str | None = None) -> Sequence[ModelStatistics]:
        return [
            ModelStatistics(model="z", provider="p", calls=len(self.rows)),
            ModelStatistics(model="a", provider="p", calls=1),
        ]


def call(id: int, model: str = "m", seconds: float = 1.0, outcome: str = "ok", stage: str = "", **attempt: Any) -> CallRecord:
    made = Attempt(model=model, provider="p", seconds=seconds, outcome=outcome, **attempt)
    return CallRecord(id=str(id), attempt=made, stage=stage)


def test_the_figures_of_a_model() -> None:
    statistics = Statistics()
    for number in range(1, 101):
        statistics.record(call(number, seconds=number, usage=Usage(output=10), usd=0.5, first_token=number / 10))
    statistics.record(call(101, outcome="RateLimited"))
    statistics.record(call(102, outcome="cancelled"))
    (known,) = statistics.all()
    assert known == ModelStatistics(
        model="m",
        provider="p",
        calls=102,
        successes=100,
        errors=1,
        errors_by_class={"RateLimited": 1},
        last_response_time=100,
        p50=50,
        p95=95,
        p99=99,
        ttft=5,
        tokens_per_second=1000 / 5050,
        usd=50,
    )


def test_percentiles_of_few_values() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3], 0.99) == 3
    assert percentile([1, 2], 0.5) == 1
    assert percentile([1, 2, 3], 0.5) == 2


def test_figures_of_one_stage_are_those_of_its_calls() -> None:
    statistics = Statistics()
    statistics.record(call(1, seconds=1, stage="review", usd=1.0))
    statistics.record(call(2, seconds=9, stage="merge"))
    statistics.record(call(3, model="other", stage="merge"))
    (known,) = statistics.all("review")
    assert (known.calls, known.p50, known.usd) == (1, 1, 1.0)


def test_percentiles_are_those_of_the_last_thousand_calls() -> None:
    statistics = Statistics()
    for number in range(3000):
        statistics.record(call(number, seconds=100 if number < 2000 else 1, outcome="ok" if number % 2 else "ProviderTimeout"))
    (known,) = statistics.all()
    assert (known.calls, known.p99, statistics.median("p", "m")) == (3000, 1, 1)


def test_skips_and_offline_answers_are_not_counted() -> None:
    statistics = Statistics(store := Memory())
    statistics.record(call(1, outcome="skipped"))
    statistics.record(call(2, offline=True))
    statistics.close()
    assert store.rows == []
    assert Statistics().all() == []


def test_what_was_recorded_is_known_at_once_and_saved_by_the_thread() -> None:
    statistics = Statistics(store := Memory())
    statistics.record(call(1, seconds=7))
    assert statistics.median("p", "m") == 7
    assert store.added.wait(60)
    assert [record.id for record in store.rows] == ["1"]
    statistics.close()


def test_a_full_batch_is_saved_without_waiting() -> None:
    statistics = Statistics(store := Memory())
    for number in range(BATCH):
        statistics.record(call(number))
    assert store.added.wait(60)
    statistics.close()
    assert len(store.rows) == BATCH


def test_closing_saves_the_rest_and_later_records_too() -> None:
    statistics = Statistics(store := Memory())
    statistics.record(call(1))
    statistics.close()
    assert len(store.rows) == 1
    statistics.record(call(2))
    statistics.close()
    statistics.close()
    assert len(store.rows) == 2


def test_statistics_that_nobody_closes_lose_nothing() -> None:
    statistics = Statistics(store := Memory())
    statistics.record(call(1))
    del statistics
    gc.collect()
    assert len(store.rows) == 1


def test_with_a_store_the_store_tells_after_what_waits_was_saved() -> None:
    statistics = Statistics(Memory())
    statistics.record(call(1))
    assert [(known.model, known.calls) for known in statistics.all()] == [("a", 1), ("z", 1)]
    statistics.close()


def test_what_other_processes_saved_counts_and_ones_own_counts_once() -> None:
    time = [0.0]
    store = Memory()
    mine, other = Statistics(store, clock=lambda: time[0]), Statistics(store)
    other.record(call(1, seconds=10))
    other.close()
    assert mine.median("p", "m") == 10
    mine.record(call(2, seconds=20))
    mine.flush()
    other.record(call(3, seconds=30))
    other.flush()
    assert mine.median("p", "m") == 10
    time[0] += REREAD
    assert mine.median("p", "m") == 20
    mine.close()
    other.close()


def test_a_store_that_fails_is_tried_again_and_complained_about_once(caplog: Any) -> None:
    store = Memory()
    store.failing = True
    statistics = Statistics(store)
    with caplog.at_level(logging.WARNING, "flowcraft"):
        statistics.record(call(1))
        statistics.flush()
        statistics.flush()
    assert [record.getMessage() for record in caplog.records] == ["call records cannot be saved for now: disk full"]
    store.failing = False
    statistics.close()
    assert len(store.rows) == 1


async def test_a_store_that_cannot_be_read_keeps_nobody_from_answering(staged: Any, caplog: Any) -> None:
    class Unreadable(Memory):
        def latest(self, per_model: int = 1000, after: int = 0) -> Any:
            raise StoreError("disk full")

    statistics = Statistics(Unreadable())
    with caplog.at_level(logging.WARNING, "flowcraft"):
        assert await fastest(statistics, Random(1))(links("ab"), Scope()) == links("ab")
    assert "call records cannot be read for now: disk full" in caplog.text
    statistics.close()


def links(models: str) -> list[Link]:
    return [Link(llm=None, info=ModelInfo(model=model, provider="p")) for model in models]


@pytest.mark.slow
@pytest.mark.no_cover
def test_memory_does_not_grow_with_the_number_of_calls() -> None:
    statistics = Statistics(Memory.forgetful())
    models = [("p", "a"), ("p", "b"), ("p", "c")]

    def record(calls: int) -> tuple[int, int]:
        for number in range(calls):
            made = call(number, model="abc"[number % 3], seconds=0.1 + number % 97, stage=f"stage {number % 7}")
            statistics.record(replace(made, id=f"{number} of {calls}", task=f"task {number % 5000}"))
            if number % 100 == 0:
                statistics.speed(models, "stage 1", f"task {number % 5000}")
        statistics.flush()
        gc.collect()
        # What tracemalloc would count, at a tenth of its cost: small blocks, and what lists and dicts take beyond them.
        return sys.getallocatedblocks(), sum(map(sys.getsizeof, gc.get_objects()))

    blocks, bytes_ = record(20_000)
    more_blocks, more_bytes = record(100_000)
    statistics.close()
    assert more_blocks - blocks < 5_000  # of 260,000 that twenty thousand calls leave
    assert more_bytes - bytes_ < 80_000  # of 4 MB
