"""Loops over stages in a list of groups, killed (-9) at any moment: the run ends the same, nothing saved is repeated."""

from __future__ import annotations

import random

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.usefixtures("forked")]

LOOPS = """
flowcraft: 1
inputs: {chapters: "[string] = [\\"a\\", \\"b\\", \\"c\\", \\"d\\"]"}
stages:
  before: {run: "steps:work", with: {name: before}}
  chapters:
    each: inputs.chapters
    parallel: 2
    stages:
      plan: {run: "steps:work", with: {name: "chapters[${{ index }}]/plan", value: "${{ before }}${{ item }}"}}
      text:
        until: text.check == iteration and iteration == 3
        max: 4
        stages:
          draft:
            run: "steps:work"
            with:
              name: "chapters[${{ index }}]/text#${{ iteration }}/draft"
              value: "${{ plan }} after <${{ text.draft }}>"
          check:
            needs: [draft]
            run: "steps:work"
            with: {name: "chapters[${{ index }}]/text#${{ iteration }}/check", value: "${{ iteration }}"}
            output: integer
outputs: {chapters: "${{ chapters }}", tries: "${{ run.stages.chapters.tries }}"}
finally:
  last: {run: "steps:work", with: {name: "finally[1]/last", value: "${{ run.state }}"}}
"""
STARTS = 1 + 4 * (1 + 3 * 2) + 1
MARKS = 2 * STARTS
"""Each function leaves one mark when it starts and one when it ends."""

MOMENTS = sorted(random.Random(5).sample(range(1, MARKS - 1), 30))


def looping(folder, steps):
    folder.write("steps.py", steps)
    folder.write("loops.yaml", LOOPS)
    return folder


@pytest.fixture
def loops(folder, steps):
    return looping(folder, steps)


@pytest.fixture(scope="module")
def whole(steps, new_folder):
    """The outputs of a run that nobody disturbed."""
    folder = looping(new_folder("whole"), steps)
    ended = folder.flowcraft("run", "loops.yaml", "--json")
    assert ended.code == 0, ended.err
    assert sum(folder.starts().values()) == STARTS
    assert set(folder.starts().values()) == {1}
    return ended.json["outputs"]


def test_the_loops_went_round_as_often_as_they_say(whole):
    assert [chapter["text"]["check"] for chapter in whole["chapters"]] == [3, 3, 3, 3]


@pytest.mark.parametrize("marks", MOMENTS)
def test_loop_killed_at_a_moment_ends_the_same_and_repeats_nothing_saved(loops, whole, marks):
    process = loops.start("run", "loops.yaml", "--json", HELD_AT=str(MARKS))
    loops.wait_for(lambda: len(loops.lines()) >= marks or process.poll() is not None)
    assert process.poll() is None, "the process had ended before the moment came"
    loops.kill(process)
    (run,) = loops.runs()
    saved, before = loops.saved(run), loops.starts()

    ended = loops.flowcraft("runs", "resume", run, "--json")

    assert ended.code == 0, ended.err
    assert ended.json["state"] == "done"
    assert ended.json["outputs"] == whole
    after = loops.starts()
    assert len(after) == STARTS
    for name, count in after.items():
        assert count <= before[name] + 1, name
        if name in saved:
            assert count == before[name], f"{name} was saved and started again"
