"""What policies share by way of the database: spending, limits and answers, each as in memory, and across connections."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft.errors import StoreError
from flowcraft.llm.ports import Caller, Hold, KeptAnswer, Spending, SpendingLine, SpendingStore, Want
from flowcraft.llm.sharing.limits import pace
from flowcraft.llm.sharing.stores import MemoryAnswers, MemoryLimits, MemorySpending
from flowcraft.storage import Database, SqlAnswers, SqlLimits, SqlSpending

pytestmark = pytest.mark.integration


def line(amount: float, limit: float = 10.0, scope: str = "day:2026-11-21", unit: str = "usd") -> SpendingLine:
    return SpendingLine(scope=scope, unit=unit, amount=amount, limit=limit)


@pytest.fixture(params=["memory", "sql"])
def both(request: pytest.FixtureRequest, database: Database) -> Callable[[type, type], object]:
    return lambda memory, sql: memory() if request.param == "memory" else sql(database)


def test_all_lines_are_taken_or_none(both) -> None:
    store = both(MemorySpending, SqlSpending)
    assert store.reserve([line(6), line(1, 2, unit="calls")]) is None
    full = store.reserve([line(1, 2, unit="calls"), line(5)])
    assert full == Spending(scope="day:2026-11-21", unit="usd", spent=6.0, limit=10.0)
    assert [(row.unit, row.spent) for row in store.spending()] == [("calls", 1.0), ("usd", 6.0)]
    assert store.reserve([line(4), line(1, 2, unit="calls")]) is None
    assert store.reserve([line(0.0001)]) is not None


def test_settling_goes_both_ways_and_past_the_limit(both) -> None:
    store = both(MemorySpending, SqlSpending)
    store.reserve([line(6)])
    store.settle([line(-2)])
    assert store.spending()[0].spent == 4.0
    store.settle([line(20)])
    assert store.spending()[0].spent == 24.0
    assert store.reserve([line(0.1)]) is not None


def test_sums_of_tenths_fill_a_budget_to_the_last(both) -> None:
    store = both(MemorySpending, SqlSpending)
    assert [store.reserve([line(0.1, 1.0)]) is None for _ in range(12)] == [True] * 10 + [False] * 2


def test_the_limit_that_was_last_asked_for_is_shown(both) -> None:
    store = both(MemorySpending, SqlSpending)
    store.reserve([line(1, 10)])
    store.reserve([line(1, 5)])
    assert store.spending() == [Spending(scope="day:2026-11-21", unit="usd", spent=2.0, limit=5.0)]
    assert store.reserve([line(1, 1, unit="calls"), line(1, 2.5)]) is not None
    assert store.spending() == [Spending(scope="day:2026-11-21", unit="usd", spent=2.0, limit=2.5)]


@settings(max_examples=30, deadline=None)
@given(
    amounts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), min_size=1, max_size=40),
    limit=st.integers(0, 200),
)
def test_never_more_than_the_limit_is_taken_in_whatever_order(amounts, limit) -> None:
    store: SpendingStore = MemorySpending()
    held: list[tuple[int, int]] = []
    done = 0
    for amount, actual in amounts:
        if store.reserve([line(amount, limit)]) is None:
            held.append((amount, min(actual, amount)))
        assert sum(row.spent for row in store.spending()) <= limit
        if len(held) > 3:
            reserved, used = held.pop(0)
            store.settle([line(used - reserved, limit)])
            done += used
    # Exact to the last: what was settled, and the reservations of the calls that are still under way.
    assert sum(row.spent for row in store.spending()) == done + sum(reserved for reserved, _ in held)


def test_two_connections_share_one_budget(database: Database, path: Path) -> None:
    other = Database(f"sqlite:///{path}", timeout=30)
    stores = [SqlSpending(database), SqlSpending(other)]

    def caller(number: int) -> bool:
        return stores[number % 2].reserve([line(1, 70)]) is None

    with ThreadPoolExecutor(16) as threads:
        taken = sum(threads.map(caller, range(200)))
    assert taken == 70
    assert stores[0].spending()[0].spent == 70
    other.close()


def test_what_was_spent_long_ago_is_forgotten_but_for_runs_that_are_known(database: Database, path: Path) -> None:
    now = [1_700_000_000.0]
    store = SqlSpending(database, clock=lambda: now[0])
    old = ["day:2023-11-14", "key:ann:2023-11-14", "run:known", "run:label"]
    assert store.reserve([line(1, scope=scope) for scope in old]) is None
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO runs (id) VALUES ('known')")
    connection.close()
    now[0] += 89 * 86_400
    assert store.reserve([line(1, scope="day:later")]) is None
    assert [row.scope for row in store.spending()] == ["day:2023-11-14", "day:later", *old[1:]]
    now[0] += 2 * 86_400
    assert store.reserve([line(1, scope="day:last")]) is None
    store.settle([line(-1, scope="day:2023-11-14")])
    assert [row.scope for row in store.spending()] == ["day:last", "day:later", "run:known"]


def test_requests_and_tokens_are_earned_back(both) -> None:
    store = both(MemoryLimits, SqlLimits)
    wants = [Want(name="m", requests=pace(6), tokens=pace(60))]
    assert store.take(Caller(id="a", tokens=0, since=0), wants, 100.0) is None
    assert store.take(Caller(id="b", tokens=0, since=0), wants, 100.0) == Hold(name="m", unit="requests", seconds=10.0)
    store.give_back(wants, 1, 0)
    assert store.take(Caller(id="b", tokens=55, since=0), wants, 100.0) is None
    store.give_back(wants, 1, 0)
    held = store.take(Caller(id="c", tokens=6, since=0), wants, 100.0)
    assert held is not None
    assert (held.unit, held.seconds) == ("tokens", pytest.approx(60.0))
    assert store.take(Caller(id="c", tokens=6, since=0), wants, 160.1) is None


def test_nothing_is_taken_of_one_limit_where_another_has_no_room(both) -> None:
    store = both(MemoryLimits, SqlLimits)
    free, full = Want(name="free", requests=pace(1)), Want(name="full", concurrent=1)
    assert store.take(Caller(id="a", tokens=0, since=0), [full], 1.0) is None
    assert store.take(Caller(id="b", tokens=0, since=1), [free, full], 2.0) == Hold(name="full", unit="concurrent", seconds=0.0)
    store.leave("a")
    assert store.take(Caller(id="b", tokens=0, since=1), [free, full], 2.0) is None


def test_places_are_freed_by_time_and_turns_are_kept(both) -> None:
    store = both(MemoryLimits, SqlLimits)
    wants = [Want(name="m", concurrent=2)]
    for name in ("a", "b"):
        assert store.take(Caller(id=name, tokens=0, since=0), wants, 0.0) is None
    assert store.take(Caller(id="c", tokens=0, since=1), wants, 1.0) is not None
    store.leave("a")
    assert store.take(Caller(id="d", tokens=0, since=2), wants, 2.0) is not None, "c has waited for longer"
    assert store.take(Caller(id="d", tokens=0, since=2), wants, 3.1) is None, "c asks no more"
    store.renew(["d"], 20.0)
    assert store.take(Caller(id="e", tokens=0, since=3), wants, 31.0) is None, "b was killed, d goes on"
    assert store.take(Caller(id="f", tokens=0, since=4), wants, 31.0) is not None


def test_answers_are_kept_replaced_and_forgotten(both) -> None:
    store = both(MemoryAnswers, SqlAnswers)
    store.put("k", "{}", 1.0, 10.0)
    assert store.get("k", 5.0) == KeptAnswer(response="{}", created=1.0)
    assert store.get("k", 10.0) is None
    assert store.get("other", 5.0) is None
    store.put("k", '"новое 🙂"', 6.0, 20.0)
    assert store.get("k", 15.0) == KeptAnswer(response='"новое 🙂"', created=6.0)


def test_expired_answers_leave_the_database(database: Database, path: Path) -> None:
    store = SqlAnswers(database)
    for number in range(5):
        store.put(str(number), "{}", 1.0, 10.0 + number)
    store.put("last", "{}", 12.0, 100.0)
    with sqlite3.connect(path) as connection:
        keys = [row[0] for row in connection.execute("SELECT key FROM answers ORDER BY key")]
    connection.close()
    assert keys == ["3", "4", "last"]


def test_a_damaged_row_is_no_answer_and_a_damaged_sum_is_told(database: Database, path: Path) -> None:
    answers, spending = SqlAnswers(database), SqlSpending(database)
    answers.put("k", "{}", 1.0, 10.0)
    spending.reserve([line(1)])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE answers SET response = x'ff'")
        connection.execute("UPDATE spending SET spent = 'much'")
    connection.close()
    assert answers.get("k", 2.0) is None
    answers.put("k", "[]", 2.0, 10.0)
    assert answers.get("k", 3.0) == KeptAnswer(response="[]", created=2.0)
    with pytest.raises(StoreError, match="table spending"):
        spending.spending()
