"""One stage: lists, retries, time-outs, types, and what a value may be."""

from __future__ import annotations

import json
import sqlite3

import pytest

from flowcraft.events import GoFailed, Said, StageFinished

pytestmark = pytest.mark.integration


async def test_each_keeps_the_order_of_its_input(project):
    project.steps("""
        import asyncio
        async def late(number):
            await asyncio.sleep(0.02 if number == 1 else 0)
            return number * 10
    """)

    result = await project.run("""
        stages:
          items: {each: [1, 2, 3], parallel: 3, run: "steps:late", with: {number: "${{ item }}"}}
    """)

    assert result.outputs == {"items": [10, 20, 30]}


async def test_parallel_bounds_how_many_elements_run_at_a_time(project):
    project.steps("""
        import asyncio
        NOW = PEAK = 0
        THREE = asyncio.Event()
        async def work():
            global NOW, PEAK
            NOW += 1
            PEAK = max(PEAK, NOW)
            if PEAK >= 3:
                THREE.set()
            await asyncio.wait_for(THREE.wait(), 60)
            await asyncio.sleep(0.001)
            NOW -= 1
            return PEAK
    """)

    result = await project.run(
        """
        inputs: {many: integer}
        stages:
          items: {each: [1, 2, 3, 4, 5, 6, 7, 8], parallel: "${{ inputs.many }}", run: "steps:work"}
    """,
        many=3,
    )

    assert max(result.outputs["items"]) == 3


@pytest.mark.parametrize(("each", "expected"), [("inputs.none", []), ("[]", [])])
async def test_each_over_nothing_is_an_empty_list(project, each, expected):
    result = await project.run(
        f"""
        inputs: {{none: "[string] | null = null"}}
        stages:
          items: {{each: {each}, run: "steps:note", with: {{word: "${{{{ item }}}}"}}}}
    """
    )

    assert result.outputs == {"items": expected}
    (ended,) = [event for event in project.events if isinstance(event, StageFinished)]
    assert ended.state == "done", "nothing is reused"
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        kinds = [kind for (kind,) in connection.execute("SELECT kind FROM events WHERE stage = 'items' ORDER BY sequence")]
    assert kinds == ["stage.started", "stage.finished"]


async def test_each_over_what_is_no_list_fails_and_says_so(project):
    result = await project.run(
        """
        inputs: {thing: any}
        stages:
          items: {each: inputs.thing, run: "steps:note", with: {word: "${{ item }}"}}
    """,
        thing={"a": 1},
    )

    assert result.state == "failed"
    assert "each: a list is needed, not an object" in result.error


@pytest.mark.parametrize("broken", ["each: inputs.thing", "when: inputs.thing.a > 'x' and inputs.thing.a.b > 1"])
async def test_list_or_condition_that_fails_is_let_pass_by_continue(project, broken):
    result = await project.run(
        f"""
        inputs: {{thing: any}}
        stages:
          odd:
            {broken}
            run: steps:note
            with: {{word: a}}
            on_error: continue
          behind: {{run: "steps:note", with: {{word: "[${{{{ odd }}}}]"}}}}
    """,
        thing={"a": 1},
    )

    assert result.outputs == {"behind": "[]"}
    assert result.stages["odd"]["state"] == "failed"


async def test_when_that_mentions_item_is_asked_per_element(project):
    result = await project.run("""
        stages:
          items: {each: [1, 2, 3], when: item != 2, run: "steps:note", with: {word: "w${{ item }}"}}
    """)

    assert result.outputs == {"items": ["w1", None, "w3"]}


async def test_failed_element_with_continue_is_null_and_told(project):
    project.steps("""
        def pick(number):
            if number == 2:
                raise ValueError("no two")
            return number
    """)

    result = await project.run("""
        stages:
          items: {each: [1, 2, 3], parallel: 2, run: "steps:pick", with: {number: "${{ item }}"}, on_error: continue}
    """)

    assert result.state == "done"
    assert result.outputs == {"items": [1, None, 3]}
    (error,) = result.stages["items"]["errors"]
    assert error.startswith("[1] steps:pick: ValueError: no two")
    assert "steps.py:4" in error


async def test_retry_repeats_the_body_and_tells_each_go(project):
    project.steps("""
        TRIES = []
        def third():
            TRIES.append(1)
            if len(TRIES) < 3:
                raise ValueError(f"go {len(TRIES)}")
            return len(TRIES)
    """)

    result = await project.run("""
        stages:
          flaky: {run: "steps:third", retry: {max: 2, backoff: 1ms}}
    """)

    assert result.outputs == {"flaky": 3}
    goes = [event for event in project.events if isinstance(event, GoFailed)]
    assert [(event.go, "ValueError: go" in event.error) for event in goes] == [(1, True), (2, True)]


async def test_retry_that_is_used_up_fails_with_the_last_error(project):
    result = await project.run("""
        stages:
          bad: {run: "steps:fail", retry: {max: 1, backoff: 1ms}}
    """)

    assert result.state == "failed"
    assert project.marks() == ["failed", "failed"]


async def test_timeout_ends_all_goes_of_a_stage(project):
    project.steps("""
        import asyncio
        async def hang():
            await asyncio.Event().wait()
    """)

    result = await project.run("""
        stages:
          hangs: {run: "steps:hang", timeout: 20ms, retry: 5}
    """)

    assert result.state == "failed"
    assert "timed out after 0.02 s" in result.error
    assert not [event for event in project.events if isinstance(event, GoFailed)]


async def test_synchronous_function_that_hangs_is_left_behind(project):
    project.steps("""
        import threading
        def hang():
            threading.Event().wait(600)
        def fine():
            return "fine"
    """)

    result = await project.run("""
        stages:
          hangs: {run: "steps:hang", timeout: 20ms, on_error: continue}
          behind: {needs: [hangs], run: "steps:fine"}
    """)

    assert result.outputs == {"behind": "fine"}
    assert "timed out" in result.stages["hangs"]["error"]


async def test_output_type_checks_what_a_function_returns(project):
    project.steps("""
        def good():
            return {"name": "a", "size": 3, "more": "dropped"}
        def bad():
            return {"name": 5}
    """)

    good = await project.run("""
        stages:
          typed: {run: "steps:good", output: {name: string, size: integer, note: string | null}}
    """)
    bad = await project.run("""
        stages:
          typed: {run: "steps:bad", output: {name: string, size: integer}}
    """)

    assert good.outputs["typed"]["name"] == "a"
    assert "more" not in good.outputs["typed"]
    assert bad.state == "failed"
    assert "name" in bad.error
    assert "size" in bad.error


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("object()", "is not JSON"),
        ("float('nan')", "Out of range"),
        ("'x' * 10_000_001", "10 MB"),
        ("{1: {2}}", "is not JSON"),
    ],
)
async def test_value_that_cannot_be_kept_fails_and_says_why(project, expression, told):
    project.steps(f"""
        def value():
            return {expression}
    """)

    result = await project.run("""
        stages:
          odd: {run: "steps:value"}
    """)

    assert result.state == "failed"
    assert told in result.error


async def test_pydantic_and_dataclasses_are_values(project):
    project.steps("""
        from dataclasses import dataclass
        from pydantic import BaseModel
        class Model(BaseModel):
            name: str
        @dataclass
        class Pair:
            left: int
            right: Model
        def value():
            return [Model(name="a"), Pair(1, Model(name="b"))]
    """)

    result = await project.run("""
        stages:
          models: {run: "steps:value"}
    """)

    assert result.outputs == {"models": [{"name": "a"}, {"left": 1, "right": {"name": "b"}}]}


async def test_failed_function_leaves_its_traceback_in_the_log(project):
    result = await project.run("""
        stages:
          bad: {run: "steps:fail"}
    """)

    (said,) = [event for event in project.events if isinstance(event, Said) and event.level == "error"]
    assert "Traceback" in said.details["traceback"]
    assert "Traceback" not in result.error


@pytest.mark.parametrize("first", ["here", "part"])
async def test_two_folders_may_both_have_steps(project, first):
    project.write("other/steps.py", "import shared\n\ndef where():\n    return shared.NAME\n")
    project.write("other/shared.py", "NAME = 'other'\n")
    project.write("shared.py", "NAME = 'here'\n")
    project.steps("import shared\n\ndef where():\n    return shared.NAME\n")
    project.write("other/part.yaml", 'flowcraft: 1\nstages:\n  there: {run: "steps:where"}\n')
    after = {"here": ("", "needs: [here], "), "part": ("needs: [part], ", "")}[first]

    result = await project.run(f"""
        stages:
          here: {{{after[0]}run: "steps:where"}}
          part: {{{after[1]}uses: ./other/part.yaml}}
          again: {{needs: [here, part], run: "steps:where"}}
        outputs: {{here: "${{{{ here }}}}", part: "${{{{ part.there }}}}", again: "${{{{ again }}}}"}}
    """)

    assert result.outputs == {"here": "here", "part": "other", "again": "here"}


async def test_text_of_every_kind_passes_unharmed(project):
    text = "Привет, 世界 🎉 \u202e \x00 \ud800"
    project.steps("""
        def echo(text):
            return {"text": text, "ключ": [text]}
    """)

    result = await project.run(
        """
        inputs: {text: string}
        stages:
          echo: {run: "steps:echo", with: {text: "${{ inputs.text }}"}}
    """,
        text=text,
    )

    assert result.outputs["echo"] == {"text": text, "ключ": [text]}
    json.dumps(result.outputs)
