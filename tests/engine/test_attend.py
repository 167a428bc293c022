"""Waiting runs go on: whoever ends a segment looks once more behind it, and one task attends to all that wait."""

from __future__ import annotations

import asyncio
import textwrap
import time
from dataclasses import replace

import pytest

from flowcraft.engine import Answer
from flowcraft.engine.runs.segment import Segment
from flowcraft.errors import StoreError
from flowcraft.events import RunStarted, Said

pytestmark = pytest.mark.integration

GATE = """
    stages:
      gate: {approve: Go on?, timeout: 1h}
      behind: {needs: [gate], run: "steps:note", with: {word: behind}}
"""


def segments(project):
    return [event.segment for event in project.events if isinstance(event, RunStarted)]


async def test_answer_before_the_segment_ends_is_found_by_who_ends_it(project):
    """The first order: answered while the run is running still, so that who answers begins nothing."""
    async with project.open() as flow:
        store = flow.engine.store
        write, answered = store.write, []

        def write_and_answer(batch):
            # Just before the run becomes waiting, and in no other moment.
            if any(one.state is not None and one.state.state == "waiting" for one in batch) and not answered:
                answered.append(store.answer(batch[-1].run, "gate", 1, Answer(choice="approve", by="me"), time.time()))
            return write(batch)

        store.write = write_and_answer
        result = await project.run(GATE, flow)

    assert (answered, result.state, segments(project)) == ([True], "done", [1, 2])
    assert project.marks() == ["behind"]


async def test_answer_behind_the_end_of_the_segment_is_found_by_who_answers(project):
    """The second order: the run waits already, so that who answers begins its next segment."""
    async with project.open() as flow:
        result = await project.run(GATE, flow)
        await flow.approve(result.run, choice="approve")
        rows = [flow.engine.find(result.run).state]
        done = await flow.resume(result.run)

    assert (rows, done.state, segments(project)) == (["waiting"], "done", [1, 2])


async def test_answer_between_the_end_and_the_last_look_is_taken_once(project):
    """Both see it: the epoch lets one of them begin."""
    async with project.open() as flow, project.open() as other:
        store, due, resumed = flow.engine.store, flow.engine.store.due, []

        def answer_and_look(run, now):
            if not resumed:
                resumed.append(None)
                store.answer(run, "gate", 1, Answer(choice="approve", by="me"), time.time())
                # Somebody else goes on with it at this very moment.
                resumed.append(asyncio.run(other.resume(run)).state)
            return due(run, now)

        store.due = answer_and_look
        result = await project.run(GATE, flow)

    assert resumed[1] == "done"
    assert result.state == "waiting"
    assert project.marks() == ["behind"]


async def test_attend_goes_on_with_what_is_answered_here_and_elsewhere(project):
    ended = asyncio.Event()
    results = []

    def take(result):
        results.append(result)
        if len(results) == 2:
            ended.set()

    async with project.open() as flow, project.open() as elsewhere:
        runs = [(await project.run(GATE, flow)).run for _ in range(3)]
        attending = asyncio.ensure_future(flow.attend(every=0.02, on_result=take))
        await flow.approve(runs[0], choice="approve")
        await elsewhere.approve(runs[1], choice="approve")
        await asyncio.wait_for(ended.wait(), 60)
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)
        left = [one.run for one in flow.approvals()]

    assert {result.run: result.state for result in results} == {runs[0]: "done", runs[1]: "done"}
    assert left == [runs[2]]


async def test_attend_lets_deadlines_pass_that_were_set_before_a_restart(project):
    async with project.open() as flow:
        run = (await project.run(GATE, flow)).run
    ended = asyncio.Event()
    results = []
    async with project.open() as flow:
        flow.engine.desk = replace(flow.engine.desk, now=lambda: time.time() + 3601)
        attending = asyncio.ensure_future(flow.attend(every=60, on_result=lambda result: (results.append(result), ended.set())))
        await asyncio.wait_for(ended.wait(), 60)
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)

    assert [(result.run, result.error) for result in results] == [(run, "stage gate: nobody answered within 3600 s")]


async def test_attend_survives_a_run_that_cannot_go_on_here(project, monkeypatch):
    monkeypatch.setenv("TOKEN_FOR_TEST", "tok-123456789")
    workflow = 'env: [TOKEN_FOR_TEST]\nstages: {gate: {approve: Go?}, a: {needs: [gate], run: "steps:note", with: {word: a}}}\n'
    async with project.open() as flow:
        lost = (await project.run(workflow, flow)).run
    monkeypatch.delenv("TOKEN_FOR_TEST")
    ended = asyncio.Event()
    async with project.open() as flow:
        good = (await project.run(GATE, flow)).run
        attending = asyncio.ensure_future(flow.attend(every=0.02, on_result=lambda result: ended.set()))
        await flow.approve(lost, choice="approve")
        await flow.approve(good, choice="approve")
        await asyncio.wait_for(ended.wait(), 60)
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)
        state = flow.engine.find(lost).state

    assert state == "waiting"
    told = [event.message for event in project.events if isinstance(event, Said) and event.level == "warning"]
    assert [f"run {lost} cannot go on here" in message for message in told] == [True]


async def test_attend_outlives_a_database_that_is_locked_and_a_run_that_cannot_go_on(project):
    ended = asyncio.Event()
    results, said = [], []
    async with project.open() as flow:
        flow.subscribe(lambda event: said.append(event.message) if isinstance(event, Said) else None)
        path = project.write("flow.yaml", "flowcraft: 1\n" + textwrap.dedent(GATE))
        broken, sound = (await flow.run(path)).run, (await flow.run(path)).run
        resume, due_runs = flow.runs.resume, flow.engine.store.due_runs
        locked = [True]

        async def resumed(run, **how):
            if run == broken:
                raise ZeroDivisionError("a fault")
            return await resume(run, **how)

        def looked(now):
            if locked:
                locked.pop()
                raise StoreError("the database is locked")
            return due_runs(now)

        flow.runs.resume, flow.engine.store.due_runs = resumed, looked
        attending = asyncio.ensure_future(
            flow.attend(every=0.01, on_result=lambda result: [results.append(result.run), ended.set()])
        )
        await flow.approve(broken, choice="approve")
        await flow.approve(sound, choice="approve")
        await ended.wait()
        alive = not attending.done()
        attending.cancel()
        await asyncio.wait([attending])

    assert (alive, results) == (True, [sound])
    assert said[0] == "the runs that somebody must look after cannot be looked up: the database is locked"
    assert f"run {broken} cannot go on here: ZeroDivisionError: a fault" in said


HELD = """
import asyncio
async def held():
    await asyncio.sleep(600)
"""


async def test_cancel_reaches_who_goes_on_with_the_run_at_this_very_moment(project):
    """Who resumes has looked at the run before, and begins its next segment behind the wish."""
    project.steps(HELD)
    async with project.open() as flow, project.open() as other:
        workflow = 'stages: {gate: {approve: Go on?}, held: {needs: [gate], run: "steps:held"}}'
        run = (await project.run(workflow, flow)).run
        await flow.approve(run, "gate", choice="approve")
        take_over, going = other.engine.take_over, []

        def late(*arguments):
            going.append(flow.engine.want_cancel(run).state)
            return take_over(*arguments)

        other.engine.take_over = late
        result = await asyncio.wait_for(other.resume(run), 60)
        row = await flow.runs._cancelled(flow.engine.find(run), None, None)

    assert (going, row.state, result.state) == (["waiting"], "cancelled", "cancelled")


async def test_cancel_between_the_beginning_of_a_segment_and_its_first_step_counts(project, monkeypatch):
    class Cancelled(Segment):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.cancel()  # as the thread that beats may do

    monkeypatch.setattr("flowcraft.engine.runs.engine.Segment", Cancelled)
    result = await project.run('stages: {one: {run: "steps:note", with: {word: one}}}')

    assert (result.state, project.marks()) == ("cancelled", [])
