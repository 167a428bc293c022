"""Older calls folded into hours: nothing is lost, nothing counted twice, whoever writes, reads or dies meanwhile."""

from __future__ import annotations

import itertools
import logging
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft.attempts import Attempt, Usage
from flowcraft.llm.knowledge.statistics import WINDOW, Statistics
from flowcraft.llm.ports import CallRecord, ModelStatistics
from flowcraft.storage import Database, SqlCallStore
from flowcraft.storage.hours import AT_ONCE, ERROR, Hours

pytestmark = pytest.mark.integration

numbers = itertools.count()


def call(model: str = "m", *, stage: str = "a", task: str = "t", **changed: Any) -> CallRecord:
    attempt = Attempt(**{"model": model, "provider": "p", "seconds": 1.0, **changed})
    return CallRecord(id=f"id-{next(numbers)}", attempt=attempt, stage=stage, task=task)


def counted(store: SqlCallStore, **labels: str) -> dict[str, Any]:
    """What never depends on how calls are kept."""
    return {
        f"{found.provider}:{found.model}": (found.calls, found.successes, found.errors, found.errors_by_class, found.usd)
        for found in store.statistics(**labels)
    }


def rows(path: Path, table: str = "calls") -> int:
    with sqlite3.connect(path) as other:
        (number,) = other.execute(f"SELECT count(*) FROM {table}").fetchone()
    other.close()
    return int(number)


def sums(path: Path) -> list[Any]:
    """Every sum there is, of hours and rows together."""
    names = ("seconds", "input", "cached", "cache_write", "output", "reasoning", "audio", "usd")
    told = ", ".join(f"sum({name})" for name in names)
    parts = ", ".join(names)
    both = f"SELECT model, 1 AS calls, {parts} FROM calls UNION ALL SELECT model, calls, {parts} FROM call_hours"
    with sqlite3.connect(path) as other:
        found = other.execute(f"SELECT model, sum(calls), {told} FROM ({both}) GROUP BY model ORDER BY model").fetchall()
    other.close()
    return found


EIGHTHS = st.integers(0, 80).map(lambda number: number / 8)
CALLS = st.lists(
    st.builds(
        call,
        st.sampled_from(["m", "n", "ü:🦆"]),
        stage=st.sampled_from(["", "a", "b"]),
        task=st.sampled_from(["", "t"]),
        provider=st.sampled_from(["p", "q"]),
        outcome=st.sampled_from(["ok", "ok", "cancelled", "RateLimited"]),
        seconds=EIGHTHS,
        started=st.sampled_from([-5.0, 0.0, 3599.0, 3600.0, 1.7e9, 1e300]),
        first_token=st.none() | EIGHTHS,
        usd=st.none() | EIGHTHS,
        usage=st.builds(
            Usage, **dict.fromkeys(("input", "cached", "cache_write", "output", "reasoning", "audio"), st.integers(0, 9))
        ),
    ),
    max_size=60,
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    database = Database(f"sqlite:///{path}")
    assert SqlCallStore(database).statistics() == []
    database.close()
    return path


@settings(max_examples=60, deadline=None)
@given(batches=st.lists(CALLS, max_size=4), kept=st.integers(1, 5), most=st.integers(1, 30))
def test_sums_are_the_same_with_and_without_folding(empty: Path, batches: list[list[CallRecord]], kept: int, most: int) -> None:
    folder = tempfile.mkdtemp(dir=empty.parent)
    paths = [Path(shutil.copy(empty, f"{folder}/{name}.db")) for name in ("plain", "folded")]
    plain, folded = (Database(f"sqlite:///{path}") for path in paths)
    stores = SqlCallStore(plain), SqlCallStore(folded)
    hours = Hours(folded, kept=kept)
    for batch in batches:
        for store in stores:
            store.add(batch)
        while hours.fold(most):
            pass
    assert sums(paths[1]) == sums(paths[0])
    for labels in ({}, {"stage": "a"}, {"task": "t"}, {"stage": "", "task": ""}):
        assert counted(stores[1], **labels) == counted(stores[0], **labels)
    for found in stores[1].statistics():
        with folded.read() as connection:
            left = connection.exec_driver_sql(
                "SELECT count(*) FROM calls WHERE model = ? AND provider = ?", (found.model, found.provider)
            ).scalar_one()
        assert min(kept, found.calls) <= left <= 2 * kept
    plain.close()
    folded.close()


def only(found: Sequence[ModelStatistics]) -> ModelStatistics:
    (one,) = found
    return one


@pytest.fixture
def busy(call_store: SqlCallStore) -> SqlCallStore:
    """A thousand quick calls of stage `rare`, then three thousand of stage `often`, in two hours."""
    drawn = random.Random(1)
    times = [drawn.lognormvariate(0, 0.6) for _ in range(4000)]
    made = [call(seconds=seconds, stage="rare" if number < 1000 else "often") for number, seconds in enumerate(times)]
    timed = [
        replace(one.attempt, started=number * 1.8, first_token=0.25, usage=Usage(output=10))
        for number, one in zip(itertools.count(), made)
    ]
    call_store.add([replace(one, attempt=attempt) for one, attempt in zip(made, timed, strict=True)])
    return call_store


def test_older_calls_are_folded_as_others_are_added(busy: SqlCallStore, path: Path) -> None:
    assert rows(path) == 4000 - AT_ONCE
    busy.add([call()])
    assert (rows(path), rows(path, "call_hours")) == (WINDOW, 3)
    for _ in range(20):
        busy.add([call() for _ in range(WINDOW // 4)])
        assert WINDOW <= rows(path) <= 3 * WINDOW
    assert only(busy.statistics()).calls == 4001 + 5 * WINDOW


def test_percentiles_of_the_last_thousand_calls_stay_exact(busy: SqlCallStore, database: Database) -> None:
    before = only(busy.statistics())
    while Hours(database).fold():
        pass
    assert only(busy.statistics()) == before


def test_figures_of_a_stage_that_is_folded_are_known_nearly(busy: SqlCallStore, database: Database, path: Path) -> None:
    drawn = random.Random(1)
    times = sorted(drawn.lognormvariate(0, 0.6) for _ in range(1000))
    while Hours(database, kept=500).fold():
        pass
    assert rows(path) == 500
    found = only(busy.statistics("rare"))
    for told, share in ((found.p50, 500), (found.p95, 950), (found.p99, 990)):
        assert told == pytest.approx(times[share - 1], rel=ERROR)
    assert found.ttft == pytest.approx(0.25, rel=ERROR)
    assert found.tokens_per_second == pytest.approx(10_000 / sum(times))
    last = random.Random(1)
    assert found.last_response_time == [last.lognormvariate(0, 0.6) for _ in range(1000)][-1]
    assert found.calls == 1000


def test_a_reader_learns_of_every_last_call_though_others_are_folded(database: Database, path: Path) -> None:
    time = [0.0]
    other = Database(f"sqlite:///{path}")
    writing, reader = SqlCallStore(database), Statistics(SqlCallStore(other), clock=lambda: time[0])
    learned: list[CallRecord] = []
    reader._add = learned.append  # type: ignore[method-assign]
    made: list[CallRecord] = []
    for size in (10, 2500, 900, 1, 3000, 700):
        batch = [call(seconds=float(number)) for number in range(size)]
        made += batch
        writing.add(batch)
        Hours(database).fold()
        time[0] += 10
        before = len(learned)
        reader.reread()
        assert learned[before:] == batch[-WINDOW:]
    assert rows(path) < len(made)
    assert only(writing.statistics()).calls == len(made)
    reader.close()
    other.close()


def test_calls_are_kept_though_older_ones_cannot_be_folded(busy: SqlCallStore, path: Path, caplog: Any) -> None:
    with sqlite3.connect(path) as other:
        other.execute("UPDATE calls SET seconds = 'soon' WHERE number = (SELECT min(number) FROM calls)")
        other.execute("UPDATE call_hours SET times = '[]'")
    other.close()
    before = rows(path)
    with caplog.at_level(logging.WARNING, "flowcraft"):
        for _ in range(3):
            busy.add([call() for _ in range(WINDOW)])
    assert rows(path) == before + 3 * WINDOW
    (told,) = caplog.messages
    assert told.startswith("older calls cannot be folded into hours for now: the database is damaged: table calls, row ")


FOLDING = """
import sys
from flowcraft.storage import Database
from flowcraft.storage.hours import Hours
hours = Hours(Database(f"sqlite:///{sys.argv[1]}", timeout=60), kept=100)
print("ready", flush=True)
for line in sys.stdin:
    folded = some = hours.fold(37)
    while some and line == "all\\n":
        some = hours.fold(37)
        folded += some
    print(folded, flush=True)
"""


@pytest.fixture
def folding(path: Path) -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", FOLDING, str(path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_two_processes_fold_nothing_twice(busy: SqlCallStore, path: Path, folding: Any) -> None:
    busy.add([call("other")])
    before, unfolded = sums(path)[0][1:], rows(path)
    processes = [folding(), folding()]
    for process in processes:
        process.stdin.write("all\n")
        process.stdin.flush()
    busy.add([call("other") for _ in range(50)])
    folded = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(folded) == unfolded + 50 - rows(path) > 500
    assert sums(path)[0][1:] == pytest.approx(before)


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_folds_loses_nothing(busy: SqlCallStore, path: Path, folding: Any) -> None:
    before, left = sums(path)[0][1:], [rows(path)]
    for after in range(8):
        process = folding()
        for _ in range(1 + after % 3):
            process.stdin.write("some\n")
            process.stdin.flush()
            assert process.stdout.readline() == "37\n"
        process.stdin.write("some\n")
        process.stdin.flush()
        time.sleep(0.0005 * after)  # anywhere in a step: the moment is what is tried, nothing is waited for
        process.send_signal(signal.SIGKILL)
        process.wait()
        left.append(rows(path))
        assert sums(path)[0][1:] == pytest.approx(before)
        assert left[-2] - left[-1] in (37 * (1 + after % 3), 37 * (2 + after % 3)), "of each step all or nothing"
