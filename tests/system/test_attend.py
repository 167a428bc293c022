"""``flowcraft attend``: real processes that are killed at random moments; every run reaches its end, each piece once."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import threading
import time

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow]

LAST = """
flowcraft: 1
stages:
  a: {run: "steps:work", with: {name: a}}
  b: {needs: [a], run: "steps:work", with: {name: b, seconds: 60}}
finally:
  first: {run: "steps:work", with: {name: "${{ run.state }}:${{ a }}", seconds: 0.3}}
  second: {needs: [first], run: "steps:work", with: {name: second, seconds: 0.3}}
"""


def rows(folder):
    with sqlite3.connect(folder.database) as connection:
        return dict(connection.execute("SELECT id, state FROM runs").fetchall())


def ended(process, count):
    """What it tells of the next runs that end; it is killed if it says nothing, which ends the wait for it."""
    watch = threading.Timer(120, process.kill)
    watch.start()
    try:
        return {told["run"]: told for told in (json.loads(process.stdout.readline()) for _ in range(count))}
    finally:
        watch.cancel()


@pytest.mark.no_cover
def test_runs_of_killed_processes_reach_their_end_while_two_attend_that_are_killed_too(twelve, unbroken):
    """What was saved never starts again; what was under way starts once more for each kill."""
    chance = random.Random(5)
    runners = [twelve.start("run", "twelve.yaml", "-i", "count=40") for _ in range(3)]
    for runner in runners:
        twelve.wait_for(lambda: len(twelve.lines()) > chance.randrange(3, 60), runner)
        twelve.kill(runner)
    kills = 0
    for _ in range(4):
        attends = [twelve.start("attend", "--json") for _ in range(2)]
        time.sleep(chance.uniform(0.8, 2.5))
        for attending in attends:
            twelve.kill(attending)
        kills += 1
    first, second = (twelve.start("attend", "--json") for _ in range(2))
    twelve.wait_for(lambda: set(rows(twelve).values()) == {"done"})
    for attending in (first, second):
        assert "attending" in attending.stderr.readline()
        attending.send_signal(signal.SIGTERM)
    assert [twelve.finish(attending).code for attending in (first, second)] == [130, 130]
    for run in twelve.runs():
        shown = twelve.flowcraft("runs", "show", run, "--json").json
        assert shown["state"] == "done"
        assert shown["outputs"]["last"] == unbroken["last"]
        assert shown["outputs"]["joined"] == "+".join(f"item {n} of <a>b" for n in range(40))
    # Each of the three runs starts each piece once, and once more at most for each process that died with it.
    assert max(twelve.starts().values()) <= 3 * (1 + 1 + kills)


def test_who_attends_takes_a_killed_run_and_leaves_a_live_one(twelve):
    twelve.write("slow.yaml", 'flowcraft: 1\nstages: {one: {run: "steps:work", with: {name: slow, seconds: 8}}}\n')
    killed = twelve.start("run", "twelve.yaml", "-i", "count=100")
    twelve.wait_for(lambda: twelve.starts()["items[3]"] == 1, killed)
    (run,) = twelve.runs()
    twelve.kill(killed)
    live = twelve.start("run", "slow.yaml", "--json")
    twelve.wait_for(lambda: twelve.starts()["slow"] == 1, live)
    attending = twelve.start("attend", "--json")
    told = ended(attending, 1)
    assert twelve.finish(live).json["state"] == "done"
    attending.send_signal(signal.SIGINT)
    over = twelve.finish(attending)

    assert {name: one["state"] for name, one in told.items()} == {run: "done"}
    assert (over.code, over.out) == (130, "")
    assert f"{run}  process {killed.pid} on " in over.err
    assert "is gone: taken over" in over.err
    assert "is gone: taken over" in twelve.flowcraft("runs", "logs", run).out
    assert twelve.starts()["slow"] == 1


@pytest.mark.no_cover
@pytest.mark.parametrize("moment", range(6))
def test_cancel_that_is_killed_is_never_forgotten(folder, steps, moment):
    folder.write("steps.py", steps)
    folder.write("flow.yaml", LAST)
    runner = folder.start("run", "flow.yaml")
    folder.wait_for(lambda: folder.starts()["b"] == 1, runner)
    folder.kill(runner)
    (run,) = folder.runs()
    cancelling = folder.start("runs", "cancel", run)

    def wished():
        with sqlite3.connect(folder.database) as connection:
            return connection.execute("SELECT wanted = 'cancel' OR state = 'cancelled' FROM runs").fetchone()[0]

    folder.wait_for(wished, cancelling)
    time.sleep(random.Random(moment).uniform(0, 1.0))
    if cancelling.poll() is None:
        folder.kill(cancelling)
    resumed = folder.flowcraft("runs", "resume", run, "--json")

    assert resumed.code == 1, resumed.err
    assert rows(folder) == {run: "cancelled"}
    starts = folder.starts()
    assert (starts["a"], starts["b"]) == (1, 1), "nothing but 'finally' begins"
    assert 1 <= starts["cancelled:<a>"] <= 2
    assert 1 <= starts["second"] <= 2


def test_cancel_of_a_live_run_whose_process_is_killed_then_is_carried_out_by_who_attends(folder, steps, stop):
    folder.write("steps.py", steps)
    folder.write("flow.yaml", LAST)
    runner = folder.start("run", "flow.yaml")
    folder.wait_for(lambda: folder.starts()["b"] == 1, runner)
    (run,) = folder.runs()
    stop(runner.pid, folder.database)  # so that it does not hear of it
    cancelling = folder.start("runs", "cancel", run)

    def wished():
        with sqlite3.connect(folder.database) as connection:
            return connection.execute("SELECT wanted FROM runs").fetchone()[0] == "cancel"

    folder.wait_for(wished, cancelling)
    folder.kill(cancelling)  # before it takes a process that says nothing for dead, and the cancel for its own
    shown = folder.flowcraft("runs", "show", run)
    folder.kill(runner)
    attending = folder.start("attend", "--json")
    told = ended(attending, 1)
    folder.kill(attending)

    assert "to be cancelled" in shown.out
    assert told[run]["state"] == "cancelled"
    assert folder.starts() == {"a": 1, "b": 1, "cancelled:<a>": 1, "second": 1}
