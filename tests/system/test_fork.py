"""``flowcraft runs fork`` as a user types it, and killed (-9): what was taken over stays, nothing is done twice."""

from __future__ import annotations

import random

import pytest

pytestmark = pytest.mark.system

FLOW = """
flowcraft: 1
inputs: {word: "string = \\"w\\""}
stages:
  numbers: {run: "steps:numbers", with: {count: 12}, output: "[integer]"}
  a: {run: "steps:work", with: {name: a, value: "${{ inputs.word }}a"}}
  items:
    each: numbers
    parallel: 3
    run: "steps:work"
    with: {name: "items[${{ index }}]", value: "${{ item }}EDIT"}
  b: {run: "steps:work", with: {name: b, value: "${{ a }}b"}}
  joined: {run: "steps:join", with: {parts: ["${{ items[3] }}", "${{ b }}"]}}
outputs: {joined: "${{ joined }}", items: "${{ items }}"}
"""
STARTS = 12 + 1
"""What starts in the fork: the elements, whose values are edited, and what joins them."""
MARKS = 2 * 12 + 1
"""So many marks do they leave."""
MOMENTS = sorted(random.Random(7).sample(range(1, MARKS - 1), 8))


@pytest.fixture
def forked(folder, steps):
    """A folder with a done run, its file edited since."""
    folder.write("steps.py", steps)
    folder.write("flow.yaml", FLOW.replace("EDIT", ""))
    ended = folder.flowcraft("run", "flow.yaml", "--json")
    assert ended.code == 0, ended.err
    folder.write("edited.yaml", FLOW.replace("EDIT", "x"))
    return folder, ended.json["run"], folder.starts()


def test_fork_of_an_edited_file_says_what_it_took_over(forked):
    folder, run, before = forked

    ended = folder.flowcraft("runs", "fork", run, "--file", "edited.yaml", "--json")

    assert ended.code == 0, ended.err
    assert ended.json["outputs"] == {"joined": "3x+wab", "items": [f"{number}x" for number in range(12)]}
    assert ended.json["stages"]["b"]["origin"] == f"fork:{run}"
    assert ended.json["stages"]["items"]["origin"] is None
    started = folder.starts() - before
    assert sum(started.values()) == STARTS
    assert not started["a"]
    assert not started["b"]
    shown = folder.flowcraft("runs", "show", ended.json["run"]).out
    assert f"a: reused: from run {run}" in shown
    assert "items: done" in shown
    pieces = folder.flowcraft("runs", "show", ended.json["run"], "--json").json["pieces"]
    origins = {piece["path"]: piece["origin"] for piece in pieces}
    assert (origins["b"], origins["items[0]"]) == (f"fork:{run}", None)


@pytest.mark.slow
@pytest.mark.parametrize("marks", MOMENTS)
def test_fork_killed_at_a_moment_goes_on_and_repeats_nothing_saved(forked, marks):
    folder, run, before = forked
    written = len(folder.lines())
    held = {"HELD_AT": str(written + MARKS)}
    process = folder.start("runs", "fork", run, "--file", "edited.yaml", "--json", **held)
    folder.wait_for(lambda: len(folder.lines()) - written >= marks or process.poll() is not None)
    assert process.poll() is None, "the process had ended before the moment came"
    folder.kill(process)
    fork = next(one for one in folder.runs() if one != run)
    saved, killed = folder.saved(fork), folder.starts() - before

    ended = folder.flowcraft("runs", "resume", fork, "--json")

    assert ended.code == 0, ended.err
    assert ended.json["outputs"] == {"joined": "3x+wab", "items": [f"{number}x" for number in range(12)]}
    after = folder.starts() - before
    assert not after["a"]
    assert not after["b"]
    for name, count in after.items():
        assert count <= killed[name] + 1, name
        if name in saved:
            assert count == killed[name], f"{name} was saved and started again"


def test_inputs_and_outputs_are_given_as_on_the_command_line_of_run(forked):
    folder, run, _ = forked
    folder.write("items.json", '["p", "q", "r", "s"]')

    ended = folder.flowcraft("runs", "fork", run, "-i", "word=v", "--set", "items=@items.json", "--set", 'b="y"', "--json")

    assert ended.code == 0, ended.err
    assert ended.json["outputs"] == {"joined": "s+y", "items": ["p", "q", "r", "s"]}
    assert ended.json["stages"]["items"]["origin"] == "set"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--from", "itms"], "unknown stage 'itms'; did you mean 'items'?"),
        (["--set", "b"], "--set: 'b' says no value; write --set stage=value, or stage=@file"),
        (["--set", "b=x", "--set", "b=y"], "--set: 'b' is set twice"),
        (["--set", "items=@nothing.json"], "the output of stage 'items': nothing.json cannot be read"),
        (["--set", "numbers=[1, two]"], "the output of stage 'numbers'"),
        (["-i", "wort=x"], "unknown input 'wort'; did you mean 'word'?"),
        (["--file", "nothing.yaml"], "nothing.yaml"),
    ],
)
def test_mistakes_are_told_and_nothing_begins(forked, arguments, told):
    folder, run, before = forked

    ended = folder.flowcraft("runs", "fork", run, *arguments)

    assert ended.code == 2
    assert told in ended.err
    assert "Traceback" not in ended.err
    assert folder.runs() == [run]
    assert folder.starts() == before
