"""What differs between two values, two texts and two runs."""

from __future__ import annotations

import pytest

from flowcraft.app import FlowCraft
from flowcraft.app.comparing.values import asked_differs, changes, differ, unified

pytestmark = pytest.mark.unit

FLOW = """
flowcraft: 1
inputs: {topic: string = tea, count: integer = 3}
stages:
  numbers: {run: "steps:numbers", with: {count: "${{ inputs.count }}"}}
  notes: {each: numbers, prompt: "Note ${{ item }} about ${{ inputs.topic }}"}
  wide: {when: "len(notes) > 3", prompt: "Wide: ${{ notes }}"}
  report:
    stages:
      draft: {prompt: "Merge ${{ notes }}", output: {text: string}}
outputs: {text: "${{ report.draft.text }}"}
"""
STEPS = "def numbers(count: int) -> list[int]:\n    return list(range(count))\n"


def told(before, after):
    return [(change.kind, change.path, change.before, change.after) for change in changes(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("changed", "a", 1, 2)]),
        ({"a": 1}, {"a": True}, [("changed", "a", 1, True)]),
        ({"a": 1}, {"a": 1.0}, [("changed", "a", 1, 1.0)]),
        ({"a": {"b c": [1]}}, {"a": {"b c": [2]}}, [("changed", 'a["b c"][0]', 1, 2)]),
        ({"a": None}, {}, [("removed", "a", None, None)]),
        ({}, {"a": None}, [("added", "a", None, None)]),
        ([1, 2, 3], [0, 1, 2, 3], [("added", "[0]", None, 0)]),
        ([1, 2, 3], [1, 3], [("removed", "[1]", 2, None)]),
        ([{"x": 1}, {"x": 2}], [{"x": 1}, {"x": 9}], [("changed", "[1].x", 2, 9)]),
        ([], [], []),
        (None, None, []),
        ([], None, [("changed", "", [], None)]),
        ("a", ["a"], [("changed", "", "a", ["a"])]),
    ],
)
def test_values_differ_by_the_paths_of_their_fields(before, after, expected):
    assert told(before, after) == expected


def test_texts_of_some_length_differ_by_their_lines():
    (change,) = changes({"text": "one\ntwo\nthree"}, {"text": "one\n2\nthree"})

    assert change.diff.splitlines()[2:] == ["@@ -1,3 +1,3 @@", " one", "-two", "+2", " three"]


def test_an_element_put_in_front_of_ten_thousand_is_one_change():
    before = [f"element {number}" for number in range(10_000)]

    assert told(before, ["new", *before]) == [("added", "[0]", None, "new")]


def test_values_that_lie_very_deep_are_compared_as_a_whole():
    def nested(value):
        for _ in range(900):
            value = [value]
        return value

    (change,) = changes(nested(1), nested(2))

    assert change.path == "[0]" * 50


def test_texts_of_very_many_lines_are_compared_by_their_ends():
    before = "\n".join(f"{number}" for number in range(150_000))
    after = before.replace("\n70000\n", "\nother\n")

    assert unified(before, after, "text").splitlines()[2:] == ["@@ -70001,1 +70001,1 @@", "-70000", "+other"]


def test_what_is_asked_differs_by_parts_in_the_order_of_their_weight():
    old = {"params": {"seed": 1}, "prompt": "a", "tools": []}
    new = {"params": {"seed": 2}, "prompt": "b", "output": "string"}

    parts = asked_differs(old, new)

    assert parts == {"prompt": ("a", "b"), "output": (None, "string"), "params.seed": (1, 2)}
    assert differ(list(parts)) == "the prompt, the type that it must return and 'params.seed' differ"
    assert differ(["code"]) == "the code differs"


@pytest.fixture
def flow_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steps.py").write_text(STEPS)
    path = tmp_path / "flow.yaml"
    path.write_text(FLOW)
    return path


async def test_two_runs_of_the_same_differ_in_nothing_but_what_was_spent(flow_file):
    async with FlowCraft() as flow:
        first = await flow.run(flow_file)
        second = await flow.run(flow_file)

        found = flow.diff(first.run, second.run)

    assert found.same
    assert not found.fork
    assert [(stage.stage, stage.changed) for stage in found.stages] == [
        ("numbers", False),
        ("notes", False),
        ("wide", False),
        ("report", False),
        ("report/draft", False),
    ]
    assert found.data()["same"] is True
    assert (found.before.calls, found.after.calls) == (4, 4)


async def test_a_fork_says_what_differs_and_what_was_taken_over(flow_file):
    edited = flow_file.with_name("edited.yaml")
    edited.write_text(FLOW.replace("Merge", "Blend"))
    async with FlowCraft() as flow:
        first = await flow.run(flow_file)
        second = await flow.fork(first.run, file=edited, inputs={"count": 5})

        found = flow.diff(first.run, second.run)

    assert found.fork == second.run
    assert not found.same
    assert [(change.path, change.before, change.after) for change in found.inputs] == [("count", 3, 5)]
    assert list(found.files) == ["edited.yaml"]
    assert '-      draft: {prompt: "Merge' in found.files["edited.yaml"]
    assert [change.path for change in found.outputs] == ["text"]
    stages = {stage.stage: stage for stage in found.stages}
    assert (stages["notes"].after.reused, stages["notes"].after.pieces) == (3, 5)
    assert [(change.kind, change.path) for change in stages["notes"].output] == [("added", "notes[3]"), ("added", "notes[4]")]
    assert stages["wide"].facts == ("state",)
    assert (stages["wide"].before.state, stages["wide"].after.state) == ("skipped", "done")
    (asked,) = stages["report/draft"].asked
    assert asked.parts == ("prompt",)
    assert "-Merge [" in asked.diff
    assert [change.path for change in stages["report/draft"].output] == ["report/draft.text"]
    assert stages["numbers"].asked[0].parts == ("with.count",)
    assert found.after.calls == 2 + 1 + 1
    assert found.before.calls == 4


async def test_a_stage_of_one_run_alone_and_changed_code_are_told(flow_file):
    async with FlowCraft() as flow:
        first = await flow.run(flow_file)
        flow_file.write_text(FLOW.replace("  wide:", "  tall:"))
        flow_file.with_name("steps.py").write_text(STEPS.replace("return", "count += 0\n    return"))
        second = await flow.fork(first.run, file=flow_file)

        found = flow.diff(first.run, second.run)

    stages = {stage.stage: stage for stage in found.stages}
    assert stages["wide"].after is None
    assert stages["tall"].before is None
    assert [asked.parts for asked in stages["numbers"].asked] == [("code",)]
    assert stages["numbers"].output == ()


async def test_what_was_set_by_hand_in_place_of_a_group_is_its_output(flow_file):
    async with FlowCraft() as flow:
        first = await flow.run(flow_file)
        second = await flow.fork(first.run, outputs={"report": {"draft": {"text": "mine"}}})

        found = flow.diff(first.run, second.run)

    stages = {stage.stage: stage for stage in found.stages}
    assert [(change.kind, change.path, change.after) for change in stages["report"].output] == [
        ("added", "report", {"draft": {"text": "mine"}})
    ]


async def test_an_export_stands_for_its_run(flow_file, tmp_path):
    async with FlowCraft() as flow:
        first = await flow.run(flow_file)
        second = await flow.run(flow_file, {"topic": "coffee"})
        file = flow.export(first.run, tmp_path / "first.sqlite")

        assert flow.diff(file, second.run) == flow.diff(first.run, second.run)
        assert flow.diff(first.run, second.run).outputs
