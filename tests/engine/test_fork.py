"""Forks: what is unchanged is taken over from another run, the rest is carried out."""

from __future__ import annotations

import textwrap

import pytest

from flowcraft.events import StageFinished

pytestmark = pytest.mark.integration

CHAIN = """
    inputs: {word: string = "a"}
    stages:
      one: {run: "steps:note", with: {word: "${{ inputs.word }}"}}
      two: {run: "steps:note", with: {word: "${{ one }}2"}}
      three: {run: "steps:note", with: {word: "${{ two }}3"}}
      beside: {run: "steps:note", with: {word: b}}
"""


async def fork(project, run, text=None, flow=None, **changes):
    """Fork ``run``, with ``text`` as its edited file."""
    if text is not None:
        changes["file"] = project.write("edited.yaml", "flowcraft: 1\n" + textwrap.dedent(text))
    if flow is not None:
        return await flow.fork(run, **changes)
    async with project.open() as opened:
        return await opened.fork(run, **changes)


def news(project, before=()):
    return project.marks()[len(before) :]


def shown(project):
    return {event.stage: (event.state, event.reason) for event in project.events if isinstance(event, StageFinished)}


async def test_fork_without_changes_carries_nothing_out(project):
    done = await project.run(CHAIN)
    before = project.marks()
    project.events.clear()

    again = await fork(project, done.run)

    assert again.state == "done"
    assert again.run != done.run
    assert again.outputs == done.outputs
    assert news(project, before) == []
    assert shown(project) == dict.fromkeys(("one", "two", "three", "beside"), ("reused", f"from run {done.run}"))


async def test_chosen_stage_is_done_anew_and_what_stays_equal_behind_it_is_not(project):
    done = await project.run(CHAIN)
    before = project.marks()

    again = await fork(project, done.run, stage="one")

    assert again.outputs == done.outputs
    assert news(project, before) == ["a"]


async def test_edited_stage_and_what_depends_on_its_changed_value_run_again(project):
    done = await project.run(CHAIN)
    before = project.marks()

    again = await fork(project, done.run, CHAIN.replace("${{ one }}2", "${{ one }}x"))

    assert again.outputs == {"three": "ax3", "beside": "b"}
    assert news(project, before) == ["ax", "ax3"]


async def test_other_inputs_run_what_depends_on_them_again(project):
    done = await project.run(CHAIN)
    before = project.marks()

    again = await fork(project, done.run, inputs={"word": "c"})

    assert again.outputs == {"three": "c23", "beside": "b"}
    assert news(project, before) == ["c", "c2", "c23"]
