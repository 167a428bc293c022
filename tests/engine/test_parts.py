"""``uses``: another workflow as a part of the run."""

from __future__ import annotations

import sqlite3
import textwrap

import pytest

pytestmark = pytest.mark.integration


def paths(project):
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        return dict(connection.execute("SELECT path, state FROM pieces").fetchall())


async def test_part_gets_only_its_inputs_and_gives_its_outputs(project):
    project.write(
        "part.yaml",
        """
        flowcraft: 1
        inputs: {word: string}
        stages:
          inner: {run: "steps:note", with: {word: "<${{ inputs.word }}>"}}
        outputs: {result: "${{ inner }}"}
        """,
    )

    result = await project.run("""
        stages:
          part: {each: [a, b], uses: ./part.yaml, with: {word: "${{ item }}"}}
        outputs: {all: "${{ part }}", first: "${{ part[0].result }}"}
    """)

    assert result.outputs == {"all": [{"result": "<a>"}, {"result": "<b>"}], "first": "<a>"}
    assert set(paths(project)) == {"part[0]", "part[0]/inner", "part[1]", "part[1]/inner"}


async def test_failure_inside_a_part_goes_on_there_on_resume(project):
    project.write(
        "part.yaml",
        f"""
        flowcraft: 1
        stages:
          good: {{run: "steps:note", with: {{word: good}}}}
          flaky: {{needs: [good], run: "steps:fail_until", with: {{path: "{project.path}/now"}}}}
        """,
    )
    failed = await project.run("stages: {part: {uses: ./part.yaml}}")
    project.write("now", "")
    done = await project.resume(failed.run)

    assert failed.state == "failed"
    assert "part/flaky" in failed.error
    assert done.outputs == {"part": {"flaky": "at last"}}
    assert project.marks().count("good") == 1


async def test_failure_inside_a_part_can_be_let_pass(project):
    project.write("part.yaml", 'flowcraft: 1\nstages:\n  bad: {run: "steps:fail"}\n')

    result = await project.run("""
        stages:
          part: {uses: ./part.yaml, on_error: continue}
          behind: {run: "steps:note", with: {word: "[${{ part }}]"}}
    """)

    assert result.state == "done"
    assert result.outputs == {"behind": "[]"}


async def test_retry_of_a_part_repeats_all_of_it(project):
    stages = '  one: {run: "steps:note", with: {word: one}}\n  bad: {needs: [one], run: "steps:fail"}\n'
    project.write("part.yaml", f"flowcraft: 1\nstages:\n{stages}")

    result = await project.run("stages: {part: {uses: ./part.yaml, retry: {max: 1, backoff: 1ms}}}")

    assert result.state == "failed"
    assert project.marks() == ["one", "failed", "one", "failed"]
    assert set(paths(project)) == {"part~1/one", "part~1/bad", "part~1", "part~2/one", "part~2/bad"}


async def test_workflow_that_uses_itself_ends_at_depth_ten(project):
    result = await project.run("""
        stages:
          again: {uses: ./flow.yaml}
    """)

    assert result.state == "failed"
    assert "deeper than 10" in result.error


REPORT = """
    stages:
      a: {prompt: hi}
      b: {needs: [a], run: "steps:fail_until", with: {path: ready}}
    outputs: {model: "${{ run.stages.a.model }}", state: "${{ run.stages.a.state }}"}
"""


@pytest.mark.parametrize("used", [False, True])
async def test_outputs_of_a_resumed_run_tell_which_model_answered_before(project, used):
    flow = REPORT
    if used:
        project.write("part.yaml", "flowcraft: 1\n" + textwrap.dedent(REPORT))
        flow = "stages: {part: {uses: part.yaml}}"
    failed = await project.ask(flow, "seen")
    (project.path / "ready").touch()

    async with project.open(llm={"default_model": "fake:one"}, providers={"fake": {}}) as again:
        result = await again.resume(failed.run)

    told = result.outputs["part"] if used else result.outputs
    assert told == {"model": "one", "state": "done"}


@pytest.mark.parametrize("annotation", ["str", "int", "'list[str]'", "dict", "Literal['a']", "'str | int'"])
async def test_null_in_a_parameter_that_does_not_take_it_fails_the_stage(project, annotation):
    project.steps(f"from typing import Any, Literal, Optional\ndef f(x: {annotation}):\n    return 'called'\n")

    result = await project.run(NULL)

    assert result.state == "failed"
    assert "steps:f: the parameter 'x' takes no null" in result.error


@pytest.mark.parametrize(
    "annotation", ["Any", "Optional[str]", "'str | None'", "Literal['a', None]", "'Unknown'", "str = None"]
)
async def test_null_in_a_parameter_that_takes_it_arrives(project, annotation):
    project.steps(f"from typing import Any, Literal, Optional\ndef f(x: {annotation}):\n    return repr(x)\n")

    assert (await project.run(NULL)).outputs == {"a": "None"}


NULL = """
    inputs: {x: any}
    stages: {a: {run: "steps:f", with: {x: "${{ inputs.x }}"}}}
"""
