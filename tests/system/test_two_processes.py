"""Two processes on one database: each runs its own, and one takes over what the other left."""

from __future__ import annotations

import signal

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.no_cover, pytest.mark.usefixtures("forked")]

SLOW = """
flowcraft: 1
inputs: {count: integer = 30, seconds: number = 0.3}
stages:
  numbers: {run: "steps:numbers", with: {count: "${{ inputs.count }}"}, output: "[integer]"}
  items:
    each: numbers
    parallel: 2
    run: steps:work
    with: {name: "items[${{ index }}]", seconds: "${{ inputs.seconds }}"}
"""


@pytest.fixture
def slow(twelve):
    twelve.write("slow.yaml", SLOW)
    return twelve


def pids(folder, word="start"):
    return [int(line.split()[2]) for line in folder.lines() if line.startswith(word)]


def test_each_process_carries_out_only_its_own_run(slow):
    first = slow.start("run", "slow.yaml", "-i", "seconds=0.05", "--json")
    second = slow.start("run", "slow.yaml", "-i", "seconds=0.05", "--json")
    ended = [slow.finish(first), slow.finish(second)]

    assert [one.code for one in ended] == [0, 0]
    assert len({one.json["run"] for one in ended}) == 2
    assert pids(slow).count(first.pid) == pids(slow).count(second.pid) == 31


def test_run_of_a_killed_process_is_finished_by_another(slow):
    first = slow.start("run", "slow.yaml", "--json")
    slow.wait_for(lambda: len(slow.lines()) > 10, first)
    (run,) = slow.runs()
    second = slow.start("run", "twelve.yaml", "--json")
    slow.kill(first)
    assert slow.finish(second).code == 0

    third = slow.flowcraft("runs", "resume", run, "--json")

    assert third.code == 0, third.err
    assert third.json["state"] == "done"
    assert third.json["outputs"]["items"] == [f"<items[{index}]>" for index in range(30)]


def test_run_of_a_live_process_is_not_taken(twelve):
    twelve.write("gate.py", "import pathlib, time\ndef wait():\n    while not pathlib.Path('go').exists(): time.sleep(0.01)\n")
    twelve.write(
        "held.yaml",
        'flowcraft: 1\nstages: {a: {run: "steps:work", with: {name: a}}, b: {needs: [a], run: "gate:wait"}}\n',
    )
    first = twelve.start("run", "held.yaml", "--json")
    twelve.wait_for(lambda: twelve.starts()["a"] == 1, first)
    (run,) = twelve.runs()

    refused = twelve.flowcraft("runs", "resume", run)
    twelve.write("go", "")

    assert refused.code == 1
    assert "alive" in refused.err
    assert twelve.finish(first).code == 0
    assert twelve.starts() == {"a": 1}


def test_stopped_process_does_nothing_more_than_finish_what_was_in_flight(slow, stop):
    first = slow.start("run", "slow.yaml", "-i", "count=60", "--json")
    slow.wait_for(lambda: len(slow.lines()) > 6, first)
    (run,) = slow.runs()
    stop(first.pid, slow.database)
    begun = pids(slow).count(first.pid)

    second = slow.flowcraft("runs", "resume", run, "--json")
    first.send_signal(signal.SIGCONT)
    fenced = slow.finish(first)

    assert second.code == 0, second.err
    assert "waiting" in second.err
    assert second.json["outputs"]["items"] == [f"<items[{index}]>" for index in range(60)]
    assert fenced.code == 1
    assert "another process owns run" in fenced.err
    assert pids(slow).count(first.pid) == begun
    assert slow.flowcraft("runs", "show", run, "--json").json["state"] == "done"


def test_cancel_reaches_the_process_that_owns_the_run(slow):
    first = slow.start("run", "slow.yaml", "-i", "seconds=1", "--json")
    slow.wait_for(lambda: len(slow.lines()) > 3, first)
    (run,) = slow.runs()

    cancelled = slow.flowcraft("runs", "cancel", run)

    assert cancelled.code == 0, cancelled.err
    ended = slow.finish(first)
    assert ended.code == 1
    assert ended.json["state"] == "cancelled"


def test_cancel_ends_a_run_whose_process_is_gone(slow):
    first = slow.start("run", "slow.yaml", "--json")
    slow.wait_for(lambda: len(slow.lines()) > 3, first)
    (run,) = slow.runs()
    slow.kill(first)

    assert slow.flowcraft("runs", "cancel", run).code == 0
    assert slow.flowcraft("runs", "resume", run).code == 1


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_cleanly_and_tells_how_to_go_on(slow, sign):
    first = slow.start("run", "slow.yaml", "-i", "seconds=0.05")
    slow.wait_for(lambda: len(slow.lines()) > 8, first)
    first.send_signal(sign)
    ended = slow.finish(first)
    (run,) = slow.runs()

    assert ended.code == 130
    assert f"flowcraft runs resume {run}" in ended.err
    assert "Traceback" not in ended.err
    assert slow.flowcraft("runs", "show", run, "--json").json["state"] == "interrupted"
    resumed = slow.flowcraft("runs", "resume", run, "--json")
    assert resumed.code == 0
    assert resumed.json["outputs"]["items"] == [f"<items[{index}]>" for index in range(30)]


CACHED = """
flowcraft: 1
stages:
  items:
    each: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    parallel: 3
    run: "steps:work"
    with: {name: "items[${{ item }}]", seconds: 0.05, value: "${{ item }}"}
    cache: 1h
"""


def test_what_one_process_keeps_another_takes_over_also_while_both_run(folder, steps):
    folder.write("steps.py", steps)
    folder.write("cached.yaml", CACHED)
    both = [folder.start("run", "cached.yaml", "--json") for _ in range(2)]
    ended = [folder.finish(process) for process in both]

    later = folder.flowcraft("run", "cached.yaml", "--json")

    assert [one.code for one in (*ended, later)] == [0, 0, 0]
    assert all(one.json["outputs"] == {"items": list(range(12))} for one in (*ended, later))
    assert later.json["stages"]["items"]["origin"] == "cache"
    assert set(folder.starts().values()) <= {1, 2}, "each element is done once, or by both at the same time"


def test_killed_while_outputs_are_kept_every_one_of_them_is_whole(folder, steps):
    folder.write("steps.py", steps)
    folder.write("cached.yaml", CACHED)
    process = folder.start("run", "cached.yaml")
    folder.wait_for(lambda: sum(line.startswith("end") for line in folder.lines()) >= 5, process)
    folder.kill(process)
    before = folder.starts()

    ended = folder.flowcraft("run", "cached.yaml", "--json")

    assert ended.code == 0, ended.err
    assert ended.json["outputs"] == {"items": list(range(12))}
    again = [name for name, count in (folder.starts() - before).items() if count and before[name]]
    assert len(again) <= 3, "what had been kept was done again"
