"""Verdicts are known at once, saved soon, and those of other processes count too."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest

from flowcraft.attempts import Attempt
from flowcraft.errors import StoreError
from flowcraft.llm.knowledge.statistics import MOST_OWN, REREAD, Statistics
from flowcraft.llm.ports import CallRecord, ModelStatistics, VerdictRecord

pytestmark = pytest.mark.unit


class Memory:
    """A VerdictStore in memory, shared as a database would be."""

    def __init__(self) -> None:
        self.rows: list[VerdictRecord] = []
        self.added = threading.Event()
        self.failing = False

    def add(self, verdicts: Sequence[VerdictRecord]) -> None:
        if self.failing:
            raise StoreError("disk full")
        known = {row.id for row in self.rows}
        self.rows += [verdict for verdict in verdicts if verdict.id not in known]
        self.added.set()

    def latest(self, most: int, after: int = 0) -> tuple[int, Iterable[VerdictRecord]]:
        return len(self.rows), self.rows[after:][-most:]


class Calls:
    """A CallStore of which nobody reads."""

    def add(self, records: Sequence[CallRecord]) -> None:
        pass

    def latest(self, most: int, after: int = 0) -> tuple[int, Iterable[CallRecord]]:
        return after, []

    def statistics(self, stage: str | None = None, task: str | None = None) -> Iterable[ModelStatistics]:
        return []


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def verdict(id: str, winner: str = "first") -> VerdictRecord:
    return VerdictRecord(id=id, time=1.0, first="p:a", second="p:b", winner=winner, stage="s")  # type: ignore[arg-type]


async def test_a_verdict_counts_at_once_and_is_saved_by_the_thread() -> None:
    store = Memory()
    statistics = Statistics(verdicts=store)
    statistics.judged(verdict("1"))
    assert statistics.ratings.wins("p:a") == 1
    assert store.added.wait(60)
    assert store.rows == [verdict("1")]
    statistics.close()


async def test_own_verdicts_count_once_and_those_of_others_too() -> None:
    store, clock = Memory(), Clock()
    one, other = Statistics(verdicts=store, clock=clock), Statistics(verdicts=store, clock=clock)
    await other.refresh()
    one.judged(verdict("1"))
    one.flush()
    other.judged(verdict("2", "second"))
    other.flush()
    await other.refresh()
    assert other.ratings.wins("p:a") == 0  # not yet: what others saved is read every few seconds
    clock.now += REREAD
    for statistics in (one, other, one, other):
        await statistics.refresh()
        assert (statistics.ratings.wins("p:a"), statistics.ratings.wins("p:b")) == (1, 1)
    for statistics in (one, other):
        statistics.close()


async def test_own_verdicts_count_once_however_many_calls_come_between() -> None:
    store, clock = Memory(), Clock()
    statistics = Statistics(Calls(), verdicts=store, clock=clock)
    statistics.judged(verdict("1"))
    for number in range(MOST_OWN + 1):
        attempt = Attempt(model="a", provider="p", outcome="ok", started=1.0, seconds=1.0)
        statistics.record(CallRecord(id=str(number), attempt=attempt))
    statistics.flush()
    await statistics.refresh()
    assert statistics.ratings.wins("p:a") == 1
    statistics.close()


def test_two_threads_that_read_at_once_count_a_verdict_once() -> None:
    both = threading.Barrier(2)

    class Slow(Memory):
        def latest(self, most: int, after: int = 0) -> tuple[int, Iterable[VerdictRecord]]:
            found = super().latest(most, after)
            both.wait(60)
            return found

    store = Slow()
    store.rows.append(verdict("1"))
    statistics = Statistics(verdicts=store)
    threads = [threading.Thread(target=statistics.all) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statistics.ratings.wins("p:a") == 1


async def test_a_later_process_knows_what_earlier_ones_found_out() -> None:
    store = Memory()
    first = Statistics(verdicts=store)
    for number in range(6):
        first.judged(verdict(str(number)))
    first.close()
    later = Statistics(verdicts=store)
    await later.refresh()
    assert later.standing.out("p:a", "p:b", stage="s", level=0.05) == "p:b"
    assert later.ratings.rating("p:a") == first.ratings.rating("p:a")


async def test_a_store_that_fails_loses_nothing_once_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    store = Memory()
    store.failing = True
    statistics = Statistics(verdicts=store)
    with caplog.at_level(logging.WARNING, "flowcraft"):
        statistics.judged(verdict("1"))
        statistics.flush()
    assert "disk full" in caplog.text
    store.failing = False
    statistics.close()
    assert store.rows == [verdict("1")]


async def test_without_a_store_verdicts_live_in_memory() -> None:
    statistics = Statistics()
    statistics.judged(verdict("1"))
    statistics.judged(replace(verdict("2"), winner="tie"))
    await statistics.refresh()
    assert statistics.ratings.wins("p:a", "s") == 1.5
