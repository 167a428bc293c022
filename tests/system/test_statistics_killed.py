"""What is known of calls outlives kill -9, but for the last batch: whatever is older than a second is in the database."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time

import pytest

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


def times(folder):
    return [float(line) for line in folder.lines() if line]


@pytest.mark.parametrize("seconds", [2.5, 3.0, 3.5])
def test_calls_older_than_a_second_are_kept_when_the_process_is_killed(folder, seconds):
    script = folder.write("calling.py", CALLING)
    process = subprocess.Popen([sys.executable, str(script), str(folder.database), str(folder.log)], env=folder.env)
    try:
        folder.wait_for(
            lambda: ((made := times(folder)) != [] and time.time() - made[0] > seconds) or process.poll() is not None
        )
        killed = time.time()
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()

    made = times(folder)
    old = sum(moment < killed - 1 for moment in made)
    with sqlite3.connect(folder.database) as connection:
        (kept,) = connection.execute("SELECT count(*) FROM calls WHERE outcome = 'ok' AND stage = 'review'").fetchone()
        (intact,) = connection.execute("PRAGMA integrity_check").fetchone()

    assert process.returncode == -signal.SIGKILL
    assert old > 20
    assert old <= kept <= len(made) + 1
    assert intact == "ok"
