"""Ten thousand calls to a server that fails in every way: tasks, threads, sockets and memory are as before."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flowcraft.errors import LLMError
from flowcraft.manager import LLMManager
from flowcraft.settings import load_settings
from flowcraft_openai.client import load

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.no_cover]

CALLS = 10_000
WARM = 4_000
"""Calls after which everything that fills up to some size is full: statistics, pools, windows."""
AT_ONCE = 48
GOOD = "a short answer of some words, with голос 🙂"
SERVER = f"""
import sys
from random import Random
from flowcraft.testing import Fault, FaultServer, Reply

random = Random(4)
good = Reply({GOOD!r})
hangs = [Fault.hang(place) for place in ("connect", "headers", "chunk")]
faults = [
    Fault.rate_limit(0.01), Fault.failure(500), Fault.of_status(503), Fault.bad_request(), Fault.garbage(),
    Fault.empty_body(), Fault.error_in_answer(), *(Fault.cut(place) for place in ("connect", "headers", "chunk", "character")),
]

def draw(request):
    drawn = random.random()
    return good if drawn < 0.8 else random.choice(hangs if drawn < 0.81 else faults)

with FaultServer() as server:
    server.script("a", draw)
    server.script("b", draw)
    server.script("c", good)
    print(server.url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a server in a process of its own: its threads, sockets and memory are not ours."""
    command = [sys.executable, "-c", SERVER]
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate(timeout=120)


def managed(url: str, folder: Path) -> LLMManager:
    page = {
        "storage": f"sqlite:///{folder}/calls.db",
        "llm": {
            "model_roles": {"primary": ["a"], "duplicate": ["b"], "reserve": ["c"]},
            "timeout": 3.0,
            "deadline": 30.0,
            "retry_attempts": 0,
            "continuation": "fail",
        },
        "providers": {"local": {"type": "openai", "base_url": url, "timeouts": {"first_token": 3.0, "idle": 3.0}}},
    }
    file = folder / "settings.yaml"
    file.write_text(json.dumps(page))
    return LLMManager(load_settings(file, environ={}, cwd=folder))


class Crowd:
    """So many callers at once, each with its next question as soon as it has its answer; every other one reads a stream."""

    def __init__(self, manager: LLMManager, url: str) -> None:
        self._manager = manager
        self._port = int(url.rpartition(":")[2].partition("/")[0])
        self.told: Counter[str] = Counter()
        self.peak = 0

    async def ask(self, calls: int) -> None:
        left = iter(range(calls))
        await asyncio.gather(*(self._caller(left) for _ in range(AT_ONCE)))

    async def _caller(self, left: Iterator[int]) -> None:
        for number in left:
            if number % 200 == 0:
                self.peak = max(self.peak, self.sockets())
            try:
                text = await self._answer(number)
            except LLMError as error:
                self.told[type(error).__name__] += 1
            else:
                assert text == GOOD
                self.told["answered"] += 1

    async def _answer(self, number: int) -> str:
        chain = self._manager.llm()
        if number % 2:
            return (await chain.chat("how are you?")).text
        async with chain.stream("how are you?") as stream:
            async for _ in stream:
                pass
        assert stream.response is not None
        return stream.response.text

    def sockets(self) -> int:
        """Return how many connections to the server this process has."""
        here = psutil.Process().net_connections("tcp")
        return sum(1 for connection in here if connection.raddr and connection.raddr.port == self._port)


def held() -> dict[str, Any]:
    """Return what this process holds: tasks, threads, open files, objects, memory."""
    gc.collect()
    process = psutil.Process()
    return {
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "files": process.num_fds(),
        "objects": len(gc.get_objects()),
        "memory": process.memory_info().rss,
    }


async def test_ten_thousand_calls_leave_nothing_behind(url: str, tmp_path: Path) -> None:
    load()  # the SDK takes a second or more, in which no call is to be late
    bare = held()
    manager = managed(url, tmp_path)
    crowd = Crowd(manager, url)
    await crowd.ask(1)
    await crowd.ask(WARM - 1)
    before = held()
    await crowd.ask(CALLS - WARM)
    after = held()
    assert crowd.told.total() == CALLS
    # A stream that was cut or hung after its first word has failed; nearly all others are answered by one of three models.
    assert crowd.told["answered"] > 0.8 * CALLS
    assert crowd.peak <= 1.1 * AT_ONCE  # one that was given up may close while the next opens
    assert crowd.sockets() <= AT_ONCE
    assert after["tasks"] == before["tasks"] == bare["tasks"]
    assert after["threads"] <= before["threads"]
    assert after["objects"] - before["objects"] < CALLS - WARM  # not one for each call
    assert after["memory"] - before["memory"] < 16e6
    await manager.aclose()
    assert crowd.sockets() == 0
    assert held()["files"] <= bare["files"]
