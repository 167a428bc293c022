"""Durable: what is recorded is never done again, and a run goes on with what it started with."""

from __future__ import annotations

import sqlite3

import pytest

from flowcraft.errors import RunError, RunFenced, StoreError
from flowcraft.events import Said

pytestmark = pytest.mark.integration

FLAKY = """
    inputs: {{path: string = "{path}"}}
    stages:
      before: {{run: "steps:note", with: {{word: before}}}}
      flaky: {{needs: [before], run: "steps:fail_until", with: {{path: "${{{{ inputs.path }}}}"}}}}
"""


def change(project, statement, *values):
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        connection.execute(statement, values)
    connection.close()


async def failed_run(project):
    failed = await project.run(FLAKY.format(path=project.path / "now"))
    assert failed.state == "failed"
    project.write("now", "")
    return failed


async def test_edited_file_does_not_change_a_run(project):
    failed = await failed_run(project)
    project.write("flow.yaml", "this is no workflow any more")

    done = await project.resume(failed.run)

    assert done.outputs == {"flaky": "at last"}


async def test_mended_code_is_taken_and_said_once(project):
    failed = await project.run("""
        stages:
          before: {run: "steps:note", with: {word: before}}
          bad: {needs: [before], run: "steps:fail"}
    """)
    code = (project.path / "steps.py").read_text().replace('raise ValueError(f"cannot {word}")', "return 'mended'")
    project.forget()
    project.steps(code)
    project.events.clear()

    done = await project.resume(failed.run)

    assert done.outputs == {"bad": "mended"}
    assert project.marks().count("before") == 1
    assert [event.message for event in project.events if isinstance(event, Said)] == [
        "the code of before changed since it ran; what it finished stays finished"
    ]


async def test_another_question_at_a_recorded_place_is_run_diverged(project):
    failed = await failed_run(project)
    change(project, "UPDATE pieces SET what = 'other' WHERE path = 'before'")

    again = await project.resume(failed.run)

    assert again.state == "failed"
    assert "before asks for something else" in again.error


async def test_finished_run_cannot_be_resumed(project):
    done = await project.run('stages: {one: {run: "steps:note", with: {word: a}}}')

    with pytest.raises(RunError, match="is done"):
        await project.resume(done.run)


async def test_unknown_run_is_an_error_that_says_where_to_look(project):
    with pytest.raises(StoreError, match="runs list"):
        await project.resume("nothing")


async def test_run_is_found_by_the_beginning_of_its_id(project):
    failed = await failed_run(project)

    assert (await project.resume(failed.run[:-2])).run == failed.run


async def test_fenced_process_stops_all_it_does(project):
    """Somebody else raises the epoch while two elements are under way: neither is recorded, nothing more starts."""
    project.steps(f"""
        import asyncio, sqlite3
        STARTED = []
        def steal():
            with sqlite3.connect(r"{project.path}/flowcraft.db", timeout=30) as connection:
                connection.execute("UPDATE runs SET epoch = epoch + 1, owner = 'somebody'")
            connection.close()
        async def work(number):
            STARTED.append(number)
            if number == 2:
                await asyncio.to_thread(steal)
            return number
        def started():
            return STARTED
    """)
    with pytest.raises(RunFenced):
        await project.run("""
            stages:
              items: {each: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], run: "steps:work", with: {number: "${{ item }}"}}
        """)

    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        assert connection.execute("SELECT count(*) FROM pieces").fetchone() == (2,)
        assert connection.execute("SELECT state, owner FROM runs").fetchone() == ("running", "somebody")


async def test_answers_of_a_model_are_not_asked_again(project):
    workflow = f"""
        stages:
          ask: {{each: [a, b, c], prompt: "Say ${{{{ item }}}}"}}
          flaky: {{needs: [ask], run: "steps:fail_until", with: {{path: "{project.path}/now"}}}}
        outputs: {{said: "${{{{ ask }}}}"}}
    """
    failed = await project.ask(workflow)
    project.write("now", "")
    asked = project.fake.count()
    async with project.open(llm={"default_model": "fake:one"}, providers={"fake": {}}) as flow:
        done = await flow.resume(failed.run)

    assert asked == 3
    assert project.fake.count() == 3
    assert done.outputs == {"said": ["Say a", "Say b", "Say c"]}
    assert done.calls == 3


async def test_tampered_piece_runs_no_code_and_is_refused(project):
    failed = await failed_run(project)
    harm = b"cos\nsystem\n(S'touch harm'\ntR."
    change(project, "UPDATE pieces SET result = ? WHERE path = 'before'", harm)

    with pytest.raises(StoreError, match="pieces"):
        await project.resume(failed.run)

    assert not (project.path / "harm").exists()


async def test_last_is_the_run_that_began_last(project):
    async with project.open() as flow:
        with pytest.raises(StoreError, match="there is no run 'last'"):
            flow.engine.find("last")
    project.steps("def one():\n    return 1\n")
    await project.run('stages: {one: {run: "steps:one"}}')
    newest = await project.run('stages: {one: {run: "steps:one"}}')

    async with project.open() as flow:
        assert flow.engine.find("last").id == newest.run
        with pytest.raises(RunError, match=f"run {newest.run} is done"):
            await flow.resume("last")
