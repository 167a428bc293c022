"""Order: references and ``needs`` make the graph; skips and failures as the language page says."""

from __future__ import annotations

import pytest

from flowcraft.events import StageFinished, StageStarted

pytestmark = pytest.mark.integration


async def test_stage_starts_when_what_it_mentions_is_done(project):
    result = await project.run("""
        stages:
          last: {run: "steps:note", with: {word: "${{ first }}${{ second }}"}}
          second: {run: "steps:note", with: {word: "${{ first }}b"}}
          first: {run: "steps:note", with: {word: a}}
    """)

    assert result.state == "done"
    assert project.marks() == ["a", "ab", "aab"]
    assert result.outputs == {"last": "aab"}


async def test_needs_orders_without_data(project):
    await project.run("""
        stages:
          two: {needs: [one], run: "steps:note", with: {word: two}}
          one: {run: "steps:note", with: {word: one}}
    """)

    assert project.marks() == ["one", "two"]


async def test_stages_that_nothing_orders_run_at_the_same_time(project):
    project.steps("""
        import asyncio
        MET = asyncio.Event()
        async def wait():
            await asyncio.wait_for(MET.wait(), 60)
        async def meet():
            MET.set()
    """)

    result = await project.run("""
        stages:
          waits: {run: "steps:wait"}
          meets: {run: "steps:meet"}
    """)

    assert result.state == "done"


async def test_skipped_stage_is_null_and_blocks_nothing(project):
    result = await project.run(
        """
        inputs: {wanted: boolean}
        stages:
          skipped: {when: inputs.wanted, run: "steps:note", with: {word: never}}
          behind: {needs: [skipped], run: "steps:note", with: {word: "<${{ skipped }}>"}}
        outputs: {skipped: "${{ skipped }}", behind: "${{ behind }}"}
    """,
        wanted=False,
    )

    assert result.outputs == {"skipped": None, "behind": "<>"}
    assert result.stages["skipped"]["state"] == "skipped"
    reasons = {event.stage: event.reason for event in project.events if isinstance(event, StageFinished)}
    assert reasons["skipped"] == "when: inputs.wanted"


async def test_after_a_failure_nothing_new_starts_and_what_runs_is_kept(project):
    project.steps("""
        import asyncio
        FAILED = asyncio.Event()
        async def slow():
            await asyncio.wait_for(FAILED.wait(), 60)
            return "kept"
        async def fail():
            FAILED.set()
            raise ValueError("broken")
        async def behind():
            return "never"
    """)

    result = await project.run("""
        stages:
          slow: {run: "steps:slow"}
          bad: {run: "steps:fail"}
          behind: {needs: [slow], run: "steps:behind"}
    """)

    assert result.state == "failed"
    assert "bad" in result.error
    assert "ValueError: broken" in result.error
    assert result.stages["slow"]["state"] == "done"
    assert result.stages["behind"]["state"] == "pending"
    assert "behind" not in {event.stage for event in project.events if isinstance(event, StageStarted)}


async def test_failed_run_goes_on_from_the_failed_stage_on_resume(project):
    workflow = f"""
        stages:
          before: {{run: "steps:note", with: {{word: before}}}}
          flaky: {{needs: [before], run: "steps:fail_until", with: {{path: "{project.path}/now"}}}}
          behind: {{run: "steps:note", with: {{word: "${{{{ flaky }}}}"}}}}
    """
    failed = await project.run(workflow)
    again = await project.resume(failed.run)
    project.write("now", "")
    done = await project.resume(failed.run)

    assert (failed.state, again.state, done.state) == ("failed", "failed", "done")
    assert done.outputs == {"behind": "at last"}
    assert project.marks().count("before") == 1
    assert project.marks().count("try") == 3


async def test_failure_with_continue_is_null_and_stands_on_resume(project):
    workflow = f"""
        stages:
          bad: {{run: "steps:fail", on_error: continue}}
          flaky: {{needs: [bad], run: "steps:fail_until", with: {{path: "{project.path}/now"}}}}
        outputs: {{bad: "${{{{ bad }}}}", state: "${{{{ run.stages.bad.state }}}}", error: "${{{{ run.stages.bad.error }}}}"}}
    """
    failed = await project.run(workflow)
    project.write("now", "")
    done = await project.resume(failed.run)

    assert done.state == "done"
    assert done.outputs["bad"] is None
    assert done.outputs["state"] == "failed"
    assert "ValueError: cannot failed" in done.outputs["error"]
    assert project.marks().count("failed") == 1
