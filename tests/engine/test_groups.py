"""Groups: stages in place, which see the names around them."""

from __future__ import annotations

import json
import sqlite3

import pytest

pytestmark = pytest.mark.integration


def pieces(project):
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        found = connection.execute("SELECT path, state, result FROM pieces").fetchall()
    return {path: (state, json.loads(result)) for path, state, result in found}


async def test_group_sees_the_names_around_it_and_gives_the_object_of_its_stages(project):
    result = await project.run(
        """
        inputs: {word: string}
        stages:
          before: {run: "steps:note", with: {word: "${{ inputs.word }}"}}
          both:
            stages:
              one: {run: "steps:note", with: {word: "${{ before }}1"}}
              two: {run: "steps:note", with: {word: "${{ one }}2"}}
          after: {run: "steps:note", with: {word: "${{ both.two }}3"}}
        outputs: {both: "${{ both }}", after: "${{ after }}"}
        """,
        word="a",
    )

    assert result.outputs == {"both": {"one": "a1", "two": "a12"}, "after": "a123"}
    assert project.marks() == ["a", "a1", "a12", "a123"]
    assert {"both", "both/one", "both/two"} < set(pieces(project))
    assert result.stages["both"]["state"] == "done"


async def test_group_waits_for_what_its_stages_mention(project):
    """Two groups and a stage of the file: the order comes from what stands inside."""
    result = await project.run("""
        stages:
          last:
            stages:
              deep: {stages: {inner: {run: "steps:note", with: {word: "${{ middle.x }}!"}}}}
          middle: {stages: {x: {run: "steps:note", with: {word: "${{ first }}?"}}}}
          first: {run: "steps:note", with: {word: start}}
    """)

    assert project.marks() == ["start", "start?", "start?!"]
    assert result.outputs == {"last": {"deep": {"inner": "start?!"}}}


async def test_nested_each_gives_item_and_index_of_the_nearest_stage_around(project):
    result = await project.run("""
        stages:
          rows:
            each: [[a, b], [c]]
            stages:
              name: {run: "steps:note", with: {word: "row${{ index }}"}}
              cells:
                each: item
                run: "steps:note"
                with: {word: "${{ item }}${{ index }}"}
    """)

    assert result.outputs == {
        "rows": [{"name": "row0", "cells": ["a0", "b1"]}, {"name": "row1", "cells": ["c0"]}],
    }
    assert {"rows[0]/cells[1]", "rows[1]/cells[0]", "rows[0]/name", "rows[1]"} < set(pieces(project))


async def test_when_inside_an_outer_each_skips_one_stage(project):
    await project.run("""
        stages:
          rows:
            each: [1, 2]
            stages:
              odd: {when: item == 1, run: "steps:note", with: {word: "odd${{ item }}"}}
              told: {run: "steps:note", with: {word: "${{ run.stages.odd.state }}"}}
    """)

    assert project.marks() == ["odd1", "done", "skipped"]
    assert pieces(project)["rows[1]/odd"][0] == "skipped"


async def test_group_takes_the_keys_of_flow(project):
    result = await project.run("""
        stages:
          skipped: {when: "false", stages: {x: {run: "steps:note", with: {word: never}}}}
          tried: {retry: {max: 1, backoff: 1ms}, on_error: continue, stages: {x: {run: "steps:fail", with: {word: twice}}}}
          slow: {timeout: 50ms, on_error: continue, stages: {x: {run: "asyncio:sleep", with: {delay: 60}}}}
          behind: {needs: [tried, slow, skipped], run: "steps:note", with: {word: "[${{ tried }}${{ slow }}${{ skipped }}]"}}
    """)

    assert result.state == "done"
    assert project.marks() == ["twice", "twice", "[]"]
    assert result.stages["slow"]["error"] == "timed out after 0.05 s"
    assert {"tried~1/x", "tried~2/x"} < set(pieces(project))


async def test_failure_inside_a_group_goes_on_there_on_resume(project):
    path = project.path / "now"
    failed = await project.run(f"""
        stages:
          group:
            each: [a, b]
            stages:
              good: {{run: "steps:note", with: {{word: "good-${{{{ item }}}}"}}}}
              flaky: {{needs: [good], when: item == 'b', run: "steps:fail_until", with: {{path: "{path}"}}}}
    """)
    path.touch()
    done = await project.resume(failed.run)

    assert failed.error.startswith("stage group[1]/flaky: ")
    assert done.outputs == {"group": [{"good": "good-a", "flaky": None}, {"good": "good-b", "flaky": "at last"}]}
    assert project.marks() == ["good-a", "good-b", "try", "try"]


async def test_what_a_group_spends_is_told_of_it(project):
    result = await project.ask(
        """
        stages:
          group: {stages: {ask: {prompt: hello}}}
          told: {run: "steps:note", with: {word: "${{ run.stages.group.model }}"}}
        """,
        "answer",
    )

    assert result.outputs == {"told": "one"}
    assert result.stages["group"]["calls"] == 1
