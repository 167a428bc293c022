"""The rules of "Trust" and "Checks"."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from flowcraft.cli.app import build

pytestmark = pytest.mark.integration

TRAPPED = """
import pathlib
pathlib.Path(__file__).with_name('ran').touch()
def f(x: str = '') -> int:
    return 1
class Shape: ...
"""
PART = """
    flowcraft: 1
    inputs: {shape: "trapped:Shape", other: "[trapped:Shape] | null"}
    stages: {a: {prompt: "${{ json(inputs) }}"}}
"""
FLOW = """
    flowcraft: 1
    inputs: {shape: 'trapped:Shape = {"a": 1}'}
    mcp: {server: {command: touch, args: [ran]}}
    stages:
      a: {run: "trapped:f", with: {x: hello}}
      b: {shell: touch ran}
      d: {uses: part.yaml, with: {shape: {a: 1}, other: "${{ inputs.shape }}"}}
      c: {prompt: hello, output: "trapped:Shape", tools: ["trapped:f", mcp:server]}
"""


@pytest.mark.parametrize("command", ["validate", "graph", "plan"])
def test_checking_runs_nothing_of_the_file(place, command):
    place.write("trapped.py", TRAPPED)
    place.write("part.yaml", PART)
    path = place.write("flow.yaml", FLOW)
    app = build()
    known = {one.name or one.callback.__name__ for one in app.registered_commands}
    if command not in known:
        pytest.skip(f"there is no command '{command}' yet")

    result = CliRunner().invoke(app, [command, str(path)])

    assert "Traceback" not in result.output
    assert not (place.path / "ran").exists()
    assert "trapped" not in sys.modules


@pytest.mark.parametrize(
    ("annotation", "wrong"),
    [
        ("str", "1"),
        ("int", "a"),
        ("float", "a"),
        ("bool", "a"),
        ("list[int]", "[a]"),
        ("Optional[int]", "a"),
        ("Literal['a', 'b']", "c"),
    ],
)
def test_signatures_are_read_from_the_source(place, annotation, wrong):
    place.steps(f"raise SystemExit\ndef f(x: {annotation}): ...\n")

    told = place.refused(f'stages: {{a: {{run: "steps:f", with: {{x: {wrong}}}}}}}\n')
    assert told.startswith("the parameter 'x'")


@pytest.mark.parametrize("annotation", ["Any", "dict", "Path", "dict[str, int]", "'Unknown'"])
def test_other_annotations_take_anything(place, annotation):
    place.steps(f"def f(x: {annotation}): ...\n")

    place.load('stages: {a: {run: "steps:f", with: {x: [1, {a: b}]}}}\n')


@pytest.mark.parametrize(
    "source", ["from elsewhere import f\n", "@decorated\ndef f(a, b): ...\n", "f = print\n", "from elsewhere import *\n"]
)
def test_of_other_functions_only_the_existence_is_checked(place, source):
    place.write("other.py", source)

    place.load('stages: {a: {run: "other:f", with: {x: 1}}}\n')


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("steps:nobody", "module 'steps' has no 'nobody'"),
        ("nowhere:f", "there is no module 'nowhere', neither beside the workflow file nor installed"),
        ("json.nowhere:f", "there is no module 'json.nowhere'"),
        ("broken:f", "module 'broken' is not valid Python"),
    ],
)
def test_missing_functions_are_errors_at_load(place, target, told):
    place.write("broken.py", "def f(:\n")

    assert place.refused(f'stages: {{a: {{run: "{target}"}}}}\n').startswith(told)


def test_all_problems_come_in_one_go_each_at_its_place(place):
    problems = place.problems("""
        inputs: {a: strng}
        stages:
          b: {prompt: "${{ nobody }}", timeout: 5}
          c: {each: b.x, run: "steps:nobody"}
    """)

    assert [problem.line for problem in problems] == [3, 5, 5, 6, 6]
    assert str(problems[1]).startswith(f"{place.path}/flow.yaml:5:20: unknown name 'nobody'")
    assert set(str(problems[1]).split("\n")[-1].replace("|", "").strip()) == {"^"}


def test_a_constant_condition_is_a_warning(place):
    assert place.warnings("stages: {a: {prompt: hello, when: 1 > 2}}\n") == ["the condition is always false"]
