"""``finally``: runs last, whatever happened before."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from flowcraft.events import StageFinished, StageStarted

pytestmark = pytest.mark.integration

NOTIFY = """
    finally:
      notify:
        run: "steps:note"
        with: {word: "${{ run.state }}:${{ run.error }}:${{ one }}"}
"""


def pieces(project):
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        return dict(connection.execute("SELECT path, state FROM pieces").fetchall())


async def test_runs_last_after_success(project):
    result = await project.run('    stages: {one: {run: "steps:note", with: {word: first}}}\n' + NOTIFY)

    assert result.state == "done"
    assert result.outputs == {"one": "first"}
    assert project.marks() == ["first", "done::first"]
    assert result.stages["finally/notify"]["state"] == "done"


async def test_runs_last_after_a_failure_and_sees_what_did_not_end_as_null(project):
    result = await project.run('    stages: {one: {run: "steps:fail", with: {word: bad}}}\n' + NOTIFY)

    assert result.state == "failed"
    assert result.error.startswith("stage one: ")
    assert project.marks()[0] == "bad"
    assert " ".join(project.marks()[1:]).startswith("failed:stage one: steps:fail: ValueError: cannot bad")
    assert project.marks()[-1].endswith(":")


async def test_lies_below_its_number_and_runs_again_when_the_run_ends_again(project):
    path = project.path / "now"
    failed = await project.run(f"""
        stages: {{one: {{run: "steps:fail_until", with: {{path: "{path}"}}}}}}
        finally: {{last: {{run: "steps:note", with: {{word: "${{{{ run.state }}}}"}}}}}}
    """)
    path.touch()
    done = await project.resume(failed.run)

    assert (failed.state, done.state) == ("failed", "done")
    assert project.marks() == ["try", "failed", "try", "done"]
    assert {"finally[1]", "finally[1]/last", "finally[2]", "finally[2]/last"} < set(pieces(project))


async def test_a_done_run_whose_finally_fails_is_failed(project):
    result = await project.run("""
        stages: {one: {run: "steps:note", with: {word: a}}}
        finally: {last: {run: "steps:fail"}, other: {run: "steps:note", with: {word: other}}}
    """)

    assert result.state == "failed"
    assert result.error.startswith("finally: stage finally[1]/last: steps:fail: ValueError")


async def test_a_failure_in_finally_does_not_hide_the_first_one(project):
    result = await project.run("""
        stages: {one: {run: "steps:fail", with: {word: first}}}
        finally: {last: {run: "steps:fail", with: {word: second}}}
    """)

    assert result.state == "failed"
    assert result.error.index("cannot first") < result.error.index("finally: ") < result.error.index("cannot second")


async def test_runs_after_a_cancel(project):
    project.steps(
        (project.path / "steps.py").read_text()
        + "\nimport asyncio\nasync def wait():\n    note('wait')\n    await asyncio.sleep(60)\n"
    )
    flow, started = project.open(), asyncio.Event()
    flow.subscribe(lambda event: started.set() if isinstance(event, StageStarted) else None)
    async with flow:
        task = asyncio.ensure_future(
            project.run(
                """
        stages: {one: {run: "steps:wait"}}
        finally: {last: {run: "steps:note", with: {word: "${{ run.state }}"}}}
                """,
                flow,
            )
        )
        await started.wait()
        (row,) = flow.engine.store.list()
        await flow.cancel(row.id)
        result = await task

    assert result.state == "cancelled"
    assert [mark for mark in project.marks() if mark != "wait"] == ["cancelled"]


async def test_its_stages_mention_each_other_and_run_stages(project):
    result = await project.run("""
        stages:
          one: {when: "false", run: "steps:note", with: {word: a}}
          two: {run: "steps:note", with: {word: b}}
        finally:
          first: {run: "steps:note", with: {word: "${{ run.stages.one.state }}-${{ run.stages.two.state }}"}}
          second: {run: "steps:note", with: {word: "<${{ first }}>"}}
    """)

    assert result.state == "done"
    assert project.marks() == ["b", "skipped-done", "<skipped-done>"]
    assert result.outputs == {"one": None, "two": "b"}


async def test_stopped_while_it_runs_it_goes_on_with_the_state_that_was_recorded(project):
    """The failed stage gets no other go: the run had ended, and only its end is left to do."""
    path = project.path / "now"
    failed = await project.run(f"""
        stages: {{one: {{run: "steps:fail_until", with: {{path: "{path}"}}}}}}
        finally:
          first: {{run: "steps:note", with: {{word: "${{{{ run.state }}}}"}}}}
          second: {{needs: [first], run: "steps:note", with: {{word: end}}}}
    """)
    with sqlite3.connect(project.path / "flowcraft.db") as connection:  # as a kill behind the first stage leaves it
        connection.execute("DELETE FROM pieces WHERE path = 'finally[1]/second'")
        connection.execute("DELETE FROM events WHERE kind = 'run.finished'")
        connection.execute("UPDATE runs SET state = 'interrupted'")
    path.touch()

    again = await project.resume(failed.run)

    assert again.state == "failed"
    assert project.marks() == ["try", "failed", "end", "end"]


async def test_its_stages_are_told_below_it(project):
    await project.run('    stages: {one: {run: "steps:note", with: {word: a}}}\n' + NOTIFY)

    told = [event.stage for event in project.events if isinstance(event, StageFinished)]
    assert told == ["one", "finally[1]/notify"]


CANCELLED = """
    inputs: {path: string}
    stages:
      one: {run: "steps:note", with: {word: first}}
      each_one: {each: ["a", "b"], run: "steps:note", with: {word: "${{ item }}"}}
      group: {stages: {inner: {run: "steps:note", with: {word: inner}}}}
      two: {needs: [one, each_one, group], run: "steps:stop_here", with: {path: "${{ inputs.path }}"}}
      three: {needs: [two], run: "steps:note", with: {word: never}}
    finally:
      last:
        run: "steps:note"
        with:
          word: "${{ run.state }}:${{ one }}:${{ each_one[1] }}:${{ group.inner }}:${{ two }}:${{ run.stages.three.state }}"
      after: {needs: [last], run: "steps:stop_here", with: {path: "${{ inputs.path }}2"}}
"""

STOP = """

import asyncio
async def stop_here(path):
    note(pathlib.Path(path).name)
    if not pathlib.Path(path).exists():
        pathlib.Path(path).touch()
        await asyncio.sleep(60)
    return "over"
"""


async def interrupted(project, carry, marks=5):
    """Carry a run out until it stops, and interrupt it there, as a process does that ends; return its id."""
    flow = project.open()
    async with flow:
        task = asyncio.ensure_future(carry(flow))
        while len(project.marks()) < marks:  # noqa: ASYNC110 - what functions note is a file
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (row,) = flow.engine.store.list()
    return row.id


async def test_runs_when_a_run_without_an_owner_is_cancelled_and_sees_what_was_finished(project):
    project.steps((project.path / "steps.py").read_text() + STOP)
    (project.path / "p2").touch()
    run = await interrupted(project, lambda flow: project.run(CANCELLED, flow, path=str(project.path / "p")))
    project.forget()
    assert sorted(project.marks()) == ["a", "b", "first", "inner", "p"]

    async with project.open() as flow:
        row = await flow.cancel(run)

    assert row.state == "cancelled"
    assert project.marks()[5:] == ["cancelled:first:b:inner::pending", "p2"]


async def test_goes_on_as_cancelled_when_that_is_interrupted_too(project):
    project.steps((project.path / "steps.py").read_text() + STOP)
    run = await interrupted(project, lambda flow: project.run(CANCELLED, flow, path=str(project.path / "p")))
    project.forget()
    await interrupted(project, lambda flow: flow.cancel(run), 7)
    project.forget()

    result = await project.resume(run)

    assert (result.state, result.outputs) == ("cancelled", None)
    assert project.marks()[5:] == ["cancelled:first:b:inner::pending", "p2", "p2"]


async def test_a_run_without_an_owner_and_without_a_last_word_is_cancelled_though_its_names_are_not_set(project, monkeypatch):
    monkeypatch.setenv("SOME_NAME", "some value")
    project.steps((project.path / "steps.py").read_text() + STOP)
    path = project.path / "p"
    workflow = f"""
        env: [SOME_NAME]
        stages: {{two: {{run: "steps:stop_here", with: {{path: "{path}"}}}}}}
    """
    run = await interrupted(project, lambda flow: project.run(workflow, flow), 1)
    monkeypatch.delenv("SOME_NAME")

    async with project.open() as flow:
        row = await flow.cancel(run)

    assert row.state == "cancelled"
