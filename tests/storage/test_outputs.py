"""Outputs of stages with ``cache`` in the table of their own, which all processes share."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import func, select

from flowcraft.engine.ports import KeptOutput
from flowcraft.storage import Database, SqlRunStore
from flowcraft.storage.tables import outputs

pytestmark = pytest.mark.integration


def output(run="r1", result='"a"'):
    return KeptOutput(run=run, path="one", result=result)


def rows(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(outputs)).scalar_one()


def test_what_is_kept_is_found_by_its_key_while_it_is_young_enough(store: SqlRunStore) -> None:
    store.keep_output("key", output(), 100.0, 200.0)

    assert store.kept_output("key", 99.0) == output()
    assert store.kept_output("key", 100.0) is None
    assert store.kept_output("other", 0.0) is None


def test_the_last_output_of_a_key_counts(store: SqlRunStore, database: Database) -> None:
    store.keep_output("key", output(), 100.0, 200.0)
    store.keep_output("key", output("r2", '"b"'), 101.0, 201.0)

    assert store.kept_output("key", 0.0) == output("r2", '"b"')
    assert rows(database) == 1


def test_what_has_expired_is_swept_with_the_next_output(store: SqlRunStore, database: Database) -> None:
    store.keep_output("old", output(), 100.0, 200.0)
    store.keep_output("young", output(), 150.0, 250.0)
    store.keep_output("new", output(), 200.0, 300.0)

    assert store.kept_output("old", 0.0) is None
    assert rows(database) == 2


@pytest.mark.parametrize("text", ["\N{SNOWMAN} \N{GRINNING FACE}", "a\\u0000b", "x" * 1_000_000])
def test_odd_and_long_text_comes_back_as_it_was(store: SqlRunStore, text: str) -> None:
    store.keep_output("key", output(result=f'"{text}"'), 100.0, 200.0)

    assert store.kept_output("key", 0.0) == output(result=f'"{text}"')


@pytest.mark.parametrize("damage", [{"result": "{"}, {"result": b"\xff\xfe"}, {"run": 5}])
def test_a_damaged_row_counts_as_none_and_is_replaced(store: SqlRunStore, database: Database, damage: dict) -> None:
    store.keep_output("key", output(), 100.0, 200.0)
    with database.write() as connection:
        connection.exec_driver_sql(f"UPDATE outputs SET {next(iter(damage))} = ?", (next(iter(damage.values())),))

    found = store.kept_output("key", 0.0)

    assert found is None or found.run == "5"  # SQLite makes text of a number in a column of text
    store.keep_output("key", output("r3"), 101.0, 201.0)
    assert store.kept_output("key", 0.0) == output("r3")


def test_many_threads_that_keep_the_same_key_leave_one_row(store: SqlRunStore, database: Database) -> None:
    errors: list[BaseException] = []

    def keep(number: int) -> None:
        try:
            for turn in range(10):
                store.keep_output("key", output(f"r{number}"), 100.0 + turn, 300.0)
                assert store.kept_output("key", 0.0) is not None
        except BaseException as error:  # told by the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert rows(database) == 1
