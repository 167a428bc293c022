"""Runs that nobody looks after are found by looks at the database alone, and gone on with once."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace

import pytest

from flowcraft.app import runs as app_runs
from flowcraft.engine import ProcessRow
from flowcraft.engine.lease import Vigil, this_process
from flowcraft.engine.runs.lookout import Lookout
from flowcraft.errors import WorkflowError
from flowcraft.events import RunStarted, Said, StageStarted

pytestmark = pytest.mark.integration

ELSEWHERE = ProcessRow(id="elsewhere", host="far", boot="other", namespace="other", pid=7, started="1")


@pytest.fixture
def quick(monkeypatch):
    """Time that passes by hand."""
    now = [0.0]
    monkeypatch.setattr("flowcraft.engine.runs.lookout.Vigil", lambda: Vigil(lambda: now[0]))
    return now


def test_counter_stands_still_after_a_lease_of_looks_and_not_of_time():
    now = [0.0]
    vigil = Vigil(lambda: now[0])
    seen = []
    for now[0] in (0.0, 2.0, 4.0, 3600.0, 3602.0, 3603.0):  # an hour in which this process itself was stopped
        seen.append(vigil.stands_still("one", 5))
    assert seen == [False, False, False, False, False, True]
    assert not vigil.stands_still("one", 6)


async def left_by(project, owner, workflow='stages: {one: {run: "steps:note", with: {word: one}}}'):
    """Return a run that stands in the database as ``owner`` left it behind the end of its work."""
    result = await project.run(workflow)
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        connection.execute("DELETE FROM pieces")
        connection.execute("DELETE FROM events WHERE kind = 'run.finished'")
        connection.execute("UPDATE runs SET state = 'running', owner = ?, ended = NULL", (owner,))
    return result.run


async def test_run_of_a_process_elsewhere_is_left_only_when_that_does_not_beat(project, quick):
    run = await left_by(project, "elsewhere")
    async with project.open() as flow:
        store = flow.engine.store
        store.join(ELSEWHERE)
        lookout = Lookout(store, flow.engine.owner.id)
        found = []
        for step in range(12):
            quick[0] = 2.0 * step
            if step < 5:
                store.beat(ELSEWHERE)
            found.append([one.run for one in lookout.look()])
        known = store.process("elsewhere")

    assert found == [[]] * 9 + [[run]] * 3
    assert known is None


async def test_run_of_a_live_process_here_is_never_left(project, quick):
    await left_by(project, "beside")
    async with project.open() as flow:
        beside = replace(this_process(), id="beside")
        flow.engine.store.join(beside)
        lookout = Lookout(flow.engine.store, flow.engine.owner.id)
        for step in range(20):
            quick[0] = 2.0 * step
            flow.engine.store.beat(beside)
            assert (list(lookout.look()), lookout.watching) == ([], True)


async def test_run_that_nobody_has_begun_is_left_after_a_lease(project, quick):
    run = await left_by(project, "")
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        connection.execute("UPDATE runs SET state = 'queued', epoch = 0")
    async with project.open() as flow:
        lookout = Lookout(flow.engine.store, flow.engine.owner.id)
        found = []
        for step in range(6):
            quick[0] = 2.0 * step
            found.append([one.run for one in lookout.look()])

    assert found == [[]] * 5 + [[run]]


async def attended(project, *flows, ends=1):
    """Let each of ``flows`` attend until so many runs have ended; return how they did."""
    ended, results = asyncio.Event(), []

    def take(result):
        results.append((result.run, result.state))
        if len(results) == ends:
            ended.set()

    tasks = [asyncio.ensure_future(flow.attend(every=0.02, on_result=take)) for flow in flows]
    await asyncio.wait_for(ended.wait(), 60)
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return results


async def test_runs_of_a_dead_process_are_gone_on_with_once_by_several_who_attend(project):
    workflow = 'stages: {one: {run: "steps:note", with: {word: one}}}'
    runs = [(await project.run(workflow)).run for _ in range(8)]
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        connection.execute("DELETE FROM pieces")
        connection.execute("UPDATE runs SET state = 'running', owner = 'gone', ended = NULL")
    project.events.clear()

    async with project.open() as one, project.open() as two, project.open() as three:
        results = await attended(project, one, two, three, ends=8)

    assert sorted(results) == [(run, "done") for run in sorted(runs)]
    assert sorted(event.run for event in project.events if isinstance(event, RunStarted)) == sorted(runs)
    assert project.marks() == ["one"] * 16
    told = {event.message for event in project.events if isinstance(event, Said)}
    assert told == {"the process, which carried the run out, is gone: taken over"}


async def test_run_that_loses_every_process_is_left_to_people(project):
    run = await left_by(project, "gone")
    async with project.open() as flow:
        for _ in range(app_runs.LOST_AT_MOST):  # taken over and lost before anything was finished
            await flow.runs.resume(run, attended=True)
            with sqlite3.connect(project.path / "flowcraft.db") as connection:
                connection.execute("DELETE FROM pieces")
                connection.execute("UPDATE runs SET state = 'running', owner = 'gone', ended = NULL")
        told = asyncio.Event()
        flow.subscribe(lambda event: told.set() if isinstance(event, Said) and "left to people" in event.message else None)
        task = asyncio.ensure_future(flow.attend(every=0.02))
        await asyncio.wait_for(told.wait(), 60)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        state = flow.engine.find(run).state
        by_hand = await flow.resume(run)

    assert (state, by_hand.state) == ("running", "done")


HELD = """
import asyncio
async def held():
    await asyncio.sleep(600)
"""


async def test_run_that_is_interrupted_with_who_attends_goes_on_with_who_attends_next(project):
    project.steps(HELD)
    run = await left_by_held(project)
    async with project.open() as flow:
        begun = asyncio.Event()
        flow.subscribe(lambda event: begun.set() if isinstance(event, StageStarted) else None)
        task = asyncio.ensure_future(flow.attend(every=0.02))
        await asyncio.wait_for(begun.wait(), 60)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        state = flow.engine.find(run).state
    project.steps("def held(): return 'over'")
    project.forget()
    async with project.open() as flow:
        results = await attended(project, flow)

    assert (state, results) == ("interrupted", [(run, "done")])


async def left_by_held(project):
    async with project.open() as flow:
        begun = asyncio.Event()
        flow.subscribe(lambda event: begun.set() if isinstance(event, StageStarted) else None)
        task = asyncio.ensure_future(project.run('stages: {one: {run: "steps:held"}}', flow))
        await asyncio.wait_for(begun.wait(), 60)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        (row,) = flow.engine.store.list()
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        connection.execute("UPDATE runs SET state = 'running', owner = 'gone'")
    return row.id


async def test_run_that_a_person_interrupted_is_left_to_people(project):
    project.steps(HELD)
    run = await left_by_held(project)
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        connection.execute("UPDATE runs SET state = 'interrupted', owner = ''")
    async with project.open() as flow:
        task = asyncio.ensure_future(flow.attend(every=0.02))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        row = flow.engine.find(run)

    assert (row.state, row.segment) == ("interrupted", 1)


LAST = """
    stages: {one: {run: "steps:note", with: {word: one}}, gate: {needs: [one], approve: Go on?}}
    finally: {last: {run: "steps:note", with: {word: "${{ run.state }}:${{ one }}"}}}
"""


async def test_cancel_that_ended_behind_the_wish_is_carried_out_by_who_resumes(project):
    async with project.open() as flow:
        run = (await project.run(LAST, flow)).run
        flow.engine.want_cancel(run)  # and its process is killed here
    project.forget()
    said = []
    async with project.open() as flow:
        flow.subscribe(lambda event: said.append(event.message) if isinstance(event, Said) else None)
        result = await flow.resume(run)
        row = flow.engine.find(run)

    assert (result.state, row.state, row.wanted) == ("cancelled", "cancelled", "")
    assert project.marks() == ["one", "cancelled:one"]
    assert said == ["the run is to be cancelled: nothing begins but what 'finally' holds"]


async def test_cancel_that_ended_behind_the_wish_is_carried_out_by_who_attends(project):
    async with project.open() as flow:
        run = (await project.run(LAST, flow)).run
        flow.engine.want_cancel(run)
    project.forget()
    async with project.open() as flow:
        results = await attended(project, flow)

    assert results == [(run, "cancelled")]
    assert project.marks() == ["one", "cancelled:one"]


async def test_wish_that_is_told_at_each_beat_does_not_end_the_last_word(project):
    project.steps(
        (project.path / "steps.py").read_text()
        + "\nimport asyncio\nasync def slowly(word):\n    await asyncio.sleep(0.2)\n    note(word)\n"
    )
    async with project.open() as flow:
        run = (await project.run(LAST.replace('last: {run: "steps:note"', 'last: {run: "steps:slowly"'), flow)).run
        flow.engine.want_cancel(run)
        begun = []

        def watch(event):
            if isinstance(event, StageStarted) and event.stage.startswith("finally"):
                begun.append(asyncio.get_running_loop().run_in_executor(None, flow.engine.owner.beat))

        flow.subscribe(watch)
        result = await flow.resume(run)
        await asyncio.gather(*begun)

    assert (result.state, len(begun)) == ("cancelled", 1)
    assert project.marks() == ["one", "cancelled:one"]


async def test_wish_to_cancel_stays_where_it_cannot_be_carried_out_here(project, monkeypatch):
    monkeypatch.setenv("SOME_NAME", "some value")
    async with project.open() as flow:
        run = (await project.run("    env: [SOME_NAME]" + LAST, flow)).run
    monkeypatch.delenv("SOME_NAME")
    project.forget()
    async with project.open() as flow:
        with pytest.raises(WorkflowError, match="SOME_NAME"):
            await flow.cancel(run)
        wanted = flow.engine.find(run).wanted
    monkeypatch.setenv("SOME_NAME", "some value")
    async with project.open() as flow:
        result = await flow.resume(run)

    assert (wanted, result.state) == ("cancel", "cancelled")
    assert project.marks() == ["one", "cancelled:one"]


async def test_run_that_has_begun_and_cannot_be_carried_out_is_not_left_running(project):
    """Nobody would go on with it as long as this process lives."""
    async with project.open() as flow:
        run = (await project.run(LAST, flow)).run
        await flow.approve(run, "gate", choice="approve")

        def broken():
            raise ZeroDivisionError("a sink of a plugin")

        flow.runs._open_sinks = broken
        with pytest.raises(ZeroDivisionError):
            await flow.resume(run)
        state = flow.engine.find(run).state

    assert state == "interrupted"
