"""What all tests have in common: their order, and how processes are stopped."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each worker begin with its share of the slow tests: the last that runs, while all others are idle, is a quick one.

    At first xdist gives each worker one part of the list; later, who is idle takes tests from the end of another one's part.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = iter([item for item in items if not item.get_closest_marker("slow")])
    ordered: list[pytest.Item] = []
    for number in range(workers):
        part = len(items) // workers - len(slow[number::workers])
        ordered += [*slow[number::workers], *islice(quick, max(part, 0))]
    items[:] = [*ordered, *quick]


@pytest.fixture
def stop() -> Callable[[int, Path], None]:
    """Stop a process (SIGSTOP), not in the midst of a write: it would keep the lock of its database, and hold all others up."""

    def stopped(process: int, database: Path) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            os.kill(process, signal.SIGSTOP)
            while Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "T":
                time.sleep(0.001)
            if is_free(database):
                return
            os.kill(process, signal.SIGCONT)
            time.sleep(0.001)
        raise TimeoutError(f"{database} was being written to whenever process {process} was stopped")

    return stopped


def is_free(database: Path) -> bool:
    """Say whether nobody writes to a database."""
    connection = sqlite3.connect(database, timeout=0, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return False
    finally:
        connection.close()
    return True
