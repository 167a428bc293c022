"""What is known of calls outlives kill -9, but for the last batch: whatever is older than a second is in the database."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from flowcraft.llm.knowledge.statistics import PAUSE

pytestmark = [pytest.mark.system, pytest.mark.slow]

CALLING = """
import asyncio, os, sys, time
from flowcraft import LLMManager
from flowcraft.settings import Settings
from flowcraft.testing import FakeProvider

class Fake(FakeProvider):
    def __init__(self, config=None, *, section="", timeouts=None):
        super().__init__(section=section, timeouts=timeouts)

async def main():
    settings = Settings(storage=f"sqlite:///{sys.argv[1]}", llm={"default_model": "fake:one"})
    log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with LLMManager(settings) as manager:
        manager.register_provider("fake", Fake)
        chain = manager.llm(stage="review")
        while True:
            await chain.chat("hi")
            os.write(log, f"{time.time()}\\n".encode())
            await asyncio.sleep(0.002)

asyncio.run(main())
"""


def kept(folder):
    """How many calls are in the database, as anybody else sees it."""
    if not folder.database.exists():
        return 0
    with sqlite3.connect(folder.database, timeout=60) as connection:
        made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'calls'").fetchone()
        query = "SELECT count(*) FROM calls WHERE outcome = 'ok' AND stage = 'review'"
        return connection.execute(query).fetchone()[0] if made else 0


@pytest.mark.parametrize("after", [0.0, 0.2, 0.4])
def test_calls_are_kept_as_they_are_made_whenever_the_process_is_killed(folder, after):
    """They wait for others for half a second, and are seen by all from then on: a kill loses those alone that waited."""
    script = folder.write("calling.py", CALLING)
    process = subprocess.Popen([sys.executable, str(script), str(folder.database), str(folder.log)], env=folder.env)
    try:
        folder.wait_for(lambda: len(folder.lines()) > 20 or process.poll() is not None)
        made = len(folder.lines())
        folder.wait_for(lambda: kept(folder) >= made or process.poll() is not None)
        time.sleep(after)  # anywhere between two batches: the moment is what is tried, nothing is waited for
        seen = kept(folder)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()

    with sqlite3.connect(folder.database) as connection:
        (intact,) = connection.execute("PRAGMA integrity_check").fetchone()

    assert process.returncode == -signal.SIGKILL
    assert 20 < made <= seen <= kept(folder) <= len(folder.lines()) + 1
    assert intact == "ok"
    assert PAUSE < 1, "docs/statistics.md: no call that is older than a second is lost"
