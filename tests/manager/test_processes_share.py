"""Budgets, rate limits and the cache across real processes on one database, against a real server."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft.llm.sharing.limits import pace
from flowcraft.plugin import Usage
from flowcraft.storage import Database
from flowcraft.testing import Fault, FaultServer, Reply

pytestmark = [pytest.mark.integration, pytest.mark.slow]

WORKER = """
import asyncio, json, sys
import flowcraft.storage.limits
from flowcraft import LLMManager
from flowcraft.errors import BudgetExceeded

callers, calls, question = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if len(sys.argv) > 4:
    flowcraft.storage.limits.PLACE_LASTS = float(sys.argv[4])


async def main():
    answered = refused = cached = 0
    usd = 0.0
    async with LLMManager("settings.yaml") as models:
        async def caller(number):
            nonlocal answered, refused, usd, cached
            for call in range(calls):
                try:
                    answer = await models.llm().chat(question or f"{number} {call}")
                except BudgetExceeded:
                    refused += 1
                    return
                answered += 1
                cached += answer.cached
                usd += answer.usd or 0.0

        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(*(caller(number) for number in range(callers)))
    print(json.dumps({"answered": answered, "refused": refused, "usd": usd, "cached": cached}), flush=True)


asyncio.run(main())
"""

SETTINGS = """
storage: sqlite:///flowcraft.db
llm: {{default_model: "local:m", timeout: 300, params: {{max_tokens: 50}}, {llm}}}
providers:
  local:
    type: openai
    base_url: {url}
    api_key: none
    models: {{m: {{price: {{input: 1, output: 2}}}}}}
"""


class Folder:
    """A working folder with settings and a database, a server, and the processes that use them."""

    def __init__(self, path: Path, server: FaultServer) -> None:
        self.path = path
        self.server = server
        self.started: list[subprocess.Popen[str]] = []

    def settings(self, llm: str) -> None:
        (self.path / "settings.yaml").write_text(SETTINGS.format(llm=llm, url=self.server.url), "utf-8")

    def start(self, callers: int, calls: int, question: str = "", *more: str) -> subprocess.Popen[str]:
        kept = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(callers), str(calls), question, *more],
            cwd=self.path,
            env={name: os.environ[name] for name in kept if name in os.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        return process

    def go(self, *processes: subprocess.Popen[str]) -> None:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def ended(self, process: subprocess.Popen[str]) -> Any:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return json.loads(out)

    def rows(self, query: str) -> list[Any]:
        connection = sqlite3.connect(self.path / "flowcraft.db", timeout=30)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def watch(self, processes: list[subprocess.Popen[str]], look: Callable[[], None]) -> list[Any]:
        """Let processes go on to their end, and look at the database meanwhile."""
        self.go(*processes)
        while any(process.poll() is None for process in processes):
            look()
            time.sleep(0.01)
        return [self.ended(process) for process in processes]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    database = Database(f"sqlite:///{tmp_path}/flowcraft.db")
    assert database.engine is not None
    database.close()
    with FaultServer() as server:
        server.script("m", Reply("hello there", delay=0.01, usage=Usage(input=5, output=20)))
        made = Folder(tmp_path, server)
        yield made
        for process in made.started:
            if process.poll() is None:
                process.kill()
            process.communicate()


COST = (5 * 1 + 20 * 2) / 1e6


def test_fifty_callers_in_each_of_two_processes_never_overspend(folder: Folder) -> None:
    limit = 0.0246
    folder.settings(f"budget: {{usd_per_day: {limit}, calls_per_day: 100000}}")
    highest = [0.0]

    def look() -> None:
        for (spent,) in folder.rows("SELECT spent FROM spending WHERE unit = 'usd'"):
            highest[0] = max(highest[0], spent)

    ended = folder.watch([folder.start(50, 1_000), folder.start(50, 1_000)], look)
    answered = sum(one["answered"] for one in ended)
    usd = sum(one["usd"] for one in ended)
    spent = dict(folder.rows("SELECT unit, spent FROM spending"))

    assert 0 < highest[0] <= limit + 1e-9, "reservations included, the limit was never passed"
    assert all(one["answered"] > 0 and one["refused"] == 50 for one in ended)
    assert answered == folder.server.count() == folder.rows("SELECT count(*) FROM calls")[0][0]
    assert spent["usd"] == pytest.approx(usd, abs=1e-12) == pytest.approx(answered * COST)
    assert spent["calls"] == answered
    # Nobody was refused while there was room: a call under way reserves less than 0.00007 USD more than it costs.
    assert usd > limit - 100 * 0.00007


def test_a_process_that_is_killed_leaves_no_more_than_its_calls_had_reserved(folder: Folder) -> None:
    folder.settings("budget: {calls_per_day: 25, usd_per_day: 1}")
    folder.server.script("m", Fault.hang())
    process = folder.start(20, 1)
    folder.go(process)
    folder.server.wait_until(lambda: folder.server.running() == 20)
    process.kill()
    process.communicate()
    spent = dict(folder.rows("SELECT unit, spent FROM spending"))
    assert spent["calls"] == 20
    assert 20 * 50 * 2 / 1e6 < spent["usd"] < 20 * 80 * 2 / 1e6

    folder.server.script("m", "hello")
    other = folder.start(20, 1)
    folder.go(other)
    assert folder.ended(other)["answered"] == 5


def test_two_processes_keep_to_the_requests_of_a_minute(folder: Folder) -> None:
    folder.settings("limits: {m: {requests_per_minute: 1200}}")
    processes = [folder.start(80, 1), folder.start(80, 1)]
    began = time.monotonic()
    folder.go(*processes)
    ended = [folder.ended(process) for process in processes]
    taken = time.monotonic() - began
    limit = pace(1200)

    assert [one["answered"] for one in ended] == [80, 80]
    # 120 may begin at once; each of the other 40 has to be earned.
    assert limit is not None
    assert taken >= (160 - 120) * limit.interval - 0.01
    waits = [wait for (wait,) in folder.rows("SELECT wait FROM calls")]
    assert sum(wait == 0 for wait in waits) < 160
    assert max(seconds for (seconds,) in folder.rows("SELECT seconds FROM calls")) < max(waits)


def test_two_processes_keep_to_the_tokens_of_a_minute(folder: Folder) -> None:
    folder.settings("limits: {m: {tokens_per_minute: 120000}}")
    folder.server.script("m", Reply("hello", usage=Usage(input=160, output=40)))
    processes = [folder.start(40, 1, "x" * 600), folder.start(40, 1, "x" * 600)]
    began = time.monotonic()
    folder.go(*processes)
    ended = [folder.ended(process) for process in processes]
    taken = time.monotonic() - began
    limit = pace(120_000)

    assert [one["answered"] for one in ended] == [40, 40]
    assert limit is not None
    assert taken >= (80 * 200 - 12_000 - 2 * 200) * limit.interval


def test_two_processes_keep_to_the_calls_at_a_time(folder: Folder) -> None:
    folder.settings("limits: {local: {concurrent: 3}}")
    processes = [folder.start(30, 1), folder.start(30, 1)]
    folder.go(*processes)

    assert [folder.ended(process)["answered"] for process in processes] == [30, 30]
    assert folder.server.peak <= 3
    assert folder.rows("SELECT count(*) FROM slots") == [(0,)]


def test_the_places_of_a_killed_process_free_themselves(folder: Folder) -> None:
    folder.settings("limits: {m: {concurrent: 2}}")
    folder.server.script("m", Fault.hang(), Fault.hang(), "hello")
    process = folder.start(2, 1, "", "1.5")
    folder.go(process)
    folder.server.wait_until(lambda: folder.server.running() == 2)
    process.kill()
    process.communicate()
    assert folder.rows("SELECT count(*) FROM slots") == [(2,)]

    other = folder.start(4, 1)
    folder.go(other)
    assert folder.ended(other)["answered"] == 4
    assert folder.rows("SELECT count(*) FROM slots") == [(0,)]


def test_two_processes_share_answers(folder: Folder) -> None:
    folder.settings("cache: 1h")
    first = folder.start(30, 2, "the same")
    folder.go(first)
    assert folder.ended(first) == {"answered": 60, "refused": 0, "usd": pytest.approx(COST), "cached": 59}
    second = folder.start(30, 2, "the same")
    folder.go(second)
    assert folder.ended(second) == {"answered": 60, "refused": 0, "usd": 0, "cached": 60}
    assert folder.server.count() == 1
    assert folder.rows("SELECT count(*) FROM calls") == [(1,)]
