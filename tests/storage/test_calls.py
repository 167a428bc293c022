from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from flowcraft.attempts import Attempt, Usage
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.llm.ports import LOST, CallRecord, ModelStatistics
from flowcraft.storage import Database, SqlCallStore

pytestmark = pytest.mark.integration

numbers = itertools.count()


def call(model: str = "m", *, stage: str = "a", run: str = "r", **changed: object) -> CallRecord:
    attempt = Attempt(**{"model": model, "provider": "p", "seconds": 1.0, **changed})
    return CallRecord(id=f"id-{next(numbers)}", attempt=attempt, stage=stage, task="t", run=run, path=f"{stage}/call[1]")


def only(found: list[ModelStatistics]) -> ModelStatistics:
    (one,) = found
    return one


def test_records_come_back_as_they_were_after_a_restart(call_store: SqlCallStore, database: Database, path: Path) -> None:
    usage = Usage(input=1, cached=2, cache_write=3, output=4, reasoning=5, audio=6)
    records = [
        call(message="тише 🦆", outcome="RateLimited", usage=usage, usd=0.5, first_token=0.2, wait=3.0, offline=True, role="x"),
        call("other", stage="b"),
        call("other", streamed=True, estimated=True),
    ]
    call_store.add(records)
    database.close()
    again = Database(f"sqlite:///{path}")
    last, found = SqlCallStore(again).latest()
    assert list(found) == records
    assert last == 3
    again.close()


def test_what_is_stored_already_is_left(call_store: SqlCallStore) -> None:
    records = [call(), call()]
    call_store.add(records[:1])
    call_store.add(records)
    assert list(call_store.latest()[1]) == records


def test_nothing_is_fine_and_skips_are_no_calls(call_store: SqlCallStore) -> None:
    call_store.add([])
    call_store.add([call(outcome="skipped")])
    assert call_store.latest() == (0, [])
    assert call_store.statistics() == []


def test_the_latest_of_each_model_come_oldest_first(call_store: SqlCallStore) -> None:
    records = [call(model) for model in ("a", "b", "a", "a", "b", "a")]
    call_store.add(records)
    last, found = call_store.latest(per_model=2)
    assert (last, list(found)) == (6, [records[1], records[3], records[4], records[5]])


def test_the_latest_behind_a_row_are_only_the_new_ones(call_store: SqlCallStore) -> None:
    call_store.add([call(), call()])
    last, _ = call_store.latest()
    assert call_store.latest(after=last) == (last, [])
    new = call("b")
    call_store.add([new])
    assert call_store.latest(after=last) == (last + 1, [new])


def test_statistics_count_outcomes_and_sum_costs(call_store: SqlCallStore) -> None:
    call_store.add(
        [
            call(usd=0.5, usage=Usage(output=30), seconds=2.0, first_token=0.5),
            call(usd=0.25, usage=Usage(output=30), seconds=1.0, first_token=0.1),
            call(outcome="RateLimited", seconds=0.01),
            call(outcome="RateLimited", seconds=0.01),
            call(outcome="ProviderTimeout", seconds=60.0),
            call(outcome="cancelled", seconds=9.0),
        ]
    )
    assert only(call_store.statistics()) == ModelStatistics(
        model="m",
        provider="p",
        calls=6,
        successes=2,
        errors=3,
        errors_by_class={"ProviderTimeout": 1, "RateLimited": 2},
        last_response_time=1.0,
        p50=1.0,
        p95=2.0,
        p99=2.0,
        ttft=0.1,
        tokens_per_second=20.0,
        usd=0.75,
    )


def test_a_model_that_never_answered_has_no_times(call_store: SqlCallStore) -> None:
    call_store.add([call(outcome="ProviderTimeout", seconds=60.0)])
    found = only(call_store.statistics())
    assert (found.calls, found.successes, found.errors) == (1, 0, 1)
    assert (found.last_response_time, found.p50, found.p99, found.ttft, found.tokens_per_second, found.usd) == (None,) * 6


def test_percentiles_are_those_of_the_last_thousand_calls(call_store: SqlCallStore) -> None:
    call_store.add([call(seconds=1000.0) for _ in range(500)])
    call_store.add([call(seconds=float(number)) for number in range(1, 1001)])
    found = only(call_store.statistics())
    assert (found.calls, found.p50, found.p95, found.p99) == (1500, 500.0, 950.0, 990.0)


def test_statistics_of_one_stage(call_store: SqlCallStore) -> None:
    call_store.add([call(seconds=1.0), call(stage="b", seconds=3.0), call("other", stage="b", seconds=5.0)])
    assert [(found.model, found.calls, found.p50) for found in call_store.statistics("b")] == [("m", 1, 3.0), ("other", 1, 5.0)]
    assert call_store.statistics("none") == []


def test_the_same_model_at_two_providers_is_two(call_store: SqlCallStore) -> None:
    call_store.add([call(provider="a"), call(provider="b")])
    assert [(found.provider, found.calls) for found in call_store.statistics()] == [("a", 1), ("b", 1)]


def test_when_a_model_is_late_is_known_after_a_restart(call_store: SqlCallStore) -> None:
    whole = [call(seconds=float(number)) for number in range(1, 21)]
    lost = [call(seconds=0.1, outcome="cancelled", message=LOST, streamed=True) for _ in range(30)]
    streams = [call(seconds=60.0, streamed=True, first_token=0.5) for _ in range(20)]
    call_store.add([*whole, *lost, *streams])
    statistics = Statistics(call_store)
    asyncio.run(statistics.refresh())
    assert statistics.late_after("p", "m", streamed=False) == 19.0
    assert statistics.late_after("p", "m", streamed=True) == 0.5
