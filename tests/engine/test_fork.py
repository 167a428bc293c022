"""Forks: what is unchanged is taken over from another run, the rest is carried out."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import textwrap

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowcraft.errors import RunError, SettingsError, StoreError, WorkflowError
from flowcraft.events import Said, StageFinished

pytestmark = pytest.mark.integration

CHAIN = """
    inputs: {word: string = "a"}
    stages:
      one: {run: "steps:note", with: {word: "${{ inputs.word }}"}}
      two: {run: "steps:note", with: {word: "${{ one }}2"}}
      three: {run: "steps:note", with: {word: "${{ two }}3"}}
      beside: {run: "steps:note", with: {word: b}}
"""


async def fork(project, run, text=None, flow=None, **changes):
    """Fork ``run``, with ``text`` as its edited file."""
    if text is not None:
        changes["file"] = project.write("edited.yaml", "flowcraft: 1\n" + textwrap.dedent(text))
    if flow is not None:
        return await flow.fork(run, **changes)
    async with project.open() as opened:
        return await opened.fork(run, **changes)


def change(project, statement, *values):
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(statement, values)
    connection.close()


def news(project, before=()):
    return project.marks()[len(before) :]


def shown(project):
    return {event.stage: (event.state, event.reason) for event in project.events if isinstance(event, StageFinished)}


async def test_fork_without_changes_carries_nothing_out(project):
    done = await project.run(CHAIN)
    before = project.marks()
    project.events.clear()

    again = await fork(project, done.run)

    assert again.state == "done"
    assert again.run != done.run
    assert again.outputs == done.outputs
    assert news(project, before) == []
    assert shown(project) == dict.fromkeys(("one", "two", "three", "beside"), ("reused", f"from run {done.run}"))


async def test_chosen_stage_is_done_anew_and_what_stays_equal_behind_it_is_not(project):
    done = await project.run(CHAIN)
    before = project.marks()

    again = await fork(project, done.run, stage="one")

    assert again.outputs == done.outputs
    assert news(project, before) == ["a"]


async def test_edited_stage_and_what_depends_on_its_changed_value_run_again(project):
    done = await project.run(CHAIN)
    before = project.marks()

    again = await fork(project, done.run, CHAIN.replace("${{ one }}2", "${{ one }}x"))

    assert again.outputs == {"three": "ax3", "beside": "b"}
    assert news(project, before) == ["ax", "ax3"]


async def test_other_inputs_run_what_depends_on_them_again(project):
    done = await project.run(CHAIN)
    before = project.marks()

    again = await fork(project, done.run, inputs={"word": "c"})

    assert again.outputs == {"three": "c23", "beside": "b"}
    assert news(project, before) == ["c", "c2", "c23"]


async def test_chosen_stage_of_a_group_is_done_anew_in_it(project):
    text = """
        stages:
          group:
            stages:
              first: {run: "steps:note", with: {word: f}}
              second: {run: "steps:note", with: {word: "${{ first }}s"}}
          after: {run: "steps:note", with: {word: "${{ group.second }}a"}}
    """
    done = await project.run(text)
    before = project.marks()

    for written in ("group.second", "group/second"):
        assert (await fork(project, done.run, stage=written)).outputs == done.outputs
    assert news(project, before) == ["fs", "fs"]
    assert (await fork(project, done.run, stage="group")).outputs == done.outputs
    assert news(project, before) == ["fs", "fs", "f", "fs"]


async def test_group_of_which_nothing_ran_again_is_shown_as_reused(project):
    done = await project.run("""
        stages:
          group: {stages: {inner: {run: "steps:note", with: {word: f}}}}
    """)
    project.events.clear()

    again = await fork(project, done.run)

    assert shown(project) == dict.fromkeys(("group", "group/inner"), ("reused", f"from run {done.run}"))
    assert again.stages["group"]["origin"] == f"fork:{done.run}"


async def test_fork_keeps_date_and_folder_and_has_an_id_of_its_own(project, monkeypatch, tmp_path_factory):
    text = """
        stages:
          when: {run: "steps:note", with: {word: "${{ run.date }}"}}
          where: {run: "steps:note", with: {word: "${{ run.folder }}"}}
          who: {run: "steps:note", with: {word: "${{ run.id }}"}}
    """
    done = await project.run(text)
    before = project.marks()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    again = await fork(project, done.run)

    assert again.outputs == {**done.outputs, "who": again.run}
    assert news(project, before) == [again.run]


async def test_what_failed_is_done_anew_and_what_was_finished_is_taken_over(project):
    failed = await project.run(f"""
        stages:
          one: {{run: "steps:note", with: {{word: a}}}}
          flaky: {{needs: [one], run: "steps:fail_until", with: {{path: "{project.path}/now"}}}}
    """)
    assert failed.state == "failed"
    project.write("now", "")

    again = await fork(project, failed.run)

    assert again.outputs == {"flaky": "at last"}
    assert project.marks() == ["a", "try", "try"]


async def test_element_that_failed_with_continue_is_done_anew(project):
    project.steps("""
        import pathlib
        LOG = pathlib.Path(__file__).with_name("log.txt")
        def maybe(word):
            with LOG.open("a") as file:
                file.write(f"{word} ")
            if word == "b" and not LOG.with_name("now").exists():
                raise ValueError("not yet")
            return word
    """)
    done = await project.run("""
        stages:
          every: {each: [a, b, b, c], run: "steps:maybe", with: {word: "${{ item }}"}, on_error: continue}
    """)
    assert done.outputs == {"every": ["a", None, None, "c"]}
    project.write("now", "")

    again = await fork(project, done.run)

    assert again.outputs == {"every": ["a", "b", "b", "c"]}
    assert project.marks() == ["a", "b", "b", "c", "b", "b"]


async def test_elements_are_found_by_what_they_ask_wherever_they_stand_now(project):
    project.steps("""
        import itertools
        COUNT = itertools.count()
        def number(word):
            return f"{word}{next(COUNT)}"
    """)
    text = """
        inputs: {words: "[string]"}
        stages:
          every: {each: inputs.words, run: "steps:number", with: {word: "${{ item }}"}}
    """
    done = await project.run(text, words=["a", "b", "a"])
    assert done.outputs == {"every": ["a0", "b1", "a2"]}

    turned = await fork(project, done.run, inputs={"words": ["b", "a", "a", "a", "c"]})

    assert turned.outputs == {"every": ["b1", "a0", "a2", "a3", "c4"]}
    assert shown(project)["every"] == ("done", f"in part from run {done.run}")


async def test_output_that_is_set_by_hand_counts_and_nothing_of_its_stage_runs(project):
    done = await project.run(CHAIN)
    before = project.marks()
    project.events.clear()

    again = await fork(project, done.run, outputs={"two": "by-hand"})

    assert again.outputs == {"three": "by-hand3", "beside": "b"}
    assert news(project, before) == ["by-hand3"]
    assert shown(project)["two"] == ("reused", "set by hand")
    assert again.stages["two"]["origin"] == "set"


async def test_output_that_is_set_to_what_it_was_changes_nothing(project):
    done = await project.run(CHAIN)
    before = project.marks()

    again = await fork(project, done.run, outputs={"two": "a2"})

    assert again.outputs == done.outputs
    assert news(project, before) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stage": "on"}, "unknown stage 'on'; did you mean 'one'?"),
        ({"stage": "one.two"}, "unknown stage 'one.two'; there are none of 'one'"),
        ({"stage": "finally.last"}, "is carried out in every run"),
        ({"outputs": {"number": "x"}}, "the output of stage 'number'"),
        ({"outputs": {"nobody": 1}}, "unknown stage 'nobody'"),
        ({"inputs": {"wort": "b"}}, "unknown input 'wort'"),
        ({"model": "offlin"}, "unknown model or tier 'offlin'"),
    ],
)
async def test_wrong_changes_are_refused_before_anything_runs(project, changes, told):
    done = await project.run("""
        inputs: {word: string = "a"}
        stages:
          one: {run: "steps:note", with: {word: "${{ inputs.word }}"}}
          number: {run: "steps:note", with: {word: 1}, output: integer}
        finally:
          last: {run: "steps:note", with: {word: last}}
    """)
    before = project.marks()

    with pytest.raises((WorkflowError, SettingsError), match=re.escape(told)):
        await fork(project, done.run, **changes)

    assert news(project, before) == []
    async with project.open() as flow:
        assert [row.id for row in flow.engine.store.list()] == [done.run]


async def test_input_that_the_edited_file_has_no_more_is_left_out_and_said(project):
    done = await project.run(CHAIN, word="c")
    project.events.clear()

    again = await fork(project, done.run, 'stages: {beside: {run: "steps:note", with: {word: b}}}')

    assert again.outputs == {"beside": "b"}
    said = [event.message for event in project.events if isinstance(event, Said)]
    assert said == [f"what run {done.run} was given for the input 'word' is left out: the file has none of that name any more"]


async def test_finally_runs_in_every_fork(project):
    done = await project.run("""
        stages: {one: {run: "steps:note", with: {word: a}}}
        finally: {last: {run: "steps:note", with: {word: last}}}
    """)

    again = await fork(project, done.run)

    assert again.state == "done"
    assert project.marks() == ["a", "last", "last"]


async def test_changed_code_runs_again(project):
    done = await project.run('stages: {one: {run: "steps:note", with: {word: a}}}')
    code = (project.path / "steps.py").read_text().replace("return word", "return word + word", 1)
    project.forget()
    project.steps(code)

    again = await fork(project, done.run)

    assert again.outputs == {"one": "aa"}


async def test_tries_and_what_the_judge_said_of_them_are_taken_over(project):
    text = """
        stages:
          better: {until: "judge.score >= LEAST", max: 3, judge: {rubric: Good}, prompt: Say b}
    """
    answers = ("b", '{"score": 0.5, "reason": "so so"}', "c", '{"score": 0.9, "reason": "fine"}')
    done = await project.ask(text.replace("LEAST", "0.8"), *answers)
    assert done.outputs == {"better": "c"}
    models = {"llm": {"default_model": "fake:one"}, "providers": {"fake": {}}}

    async with project.open(**models) as flow:
        asked = project.fake.count()
        same = await flow.fork(done.run)
        easier = await fork(project, done.run, text.replace("LEAST", "0.4"), flow)
        assert project.fake.count() == asked

    assert (same.outputs, same.stages["better"]["tries"]) == ({"better": "c"}, 2)
    assert same.stages["better"]["judge"] == {"score": 0.9, "reasons": ["fine"]}
    assert (easier.outputs, easier.stages["better"]["tries"]) == ({"better": "b"}, 1)


async def test_other_answer_is_judged_anew(project):
    text = "stages: {better: {until: judge.score >= 0.8, max: 1, judge: {rubric: Good}, prompt: Say b}}"
    done = await project.ask(text, "b", '{"score": 0.9, "reason": "fine"}', "c", '{"score": 1.0, "reason": "finer"}')
    async with project.open(llm={"default_model": "fake:one"}, providers={"fake": {}}) as flow:
        again = await fork(project, done.run, text.replace("Say b", "Say c"), flow)

    assert again.outputs == {"better": "c"}
    assert again.stages["better"]["judge"] == {"score": 1.0, "reasons": ["finer"]}


async def test_who_answered_is_still_told_and_the_money_stays_with_the_run_that_spent_it(project):
    text = """
        stages:
          ask: {prompt: Say a}
          told: {run: "steps:note", with: {word: "${{ run.stages.ask.model }}"}}
    """
    done = await project.ask(text)
    async with project.open(llm={"default_model": "fake:one"}, providers={"fake": {}}) as flow:
        again = await flow.fork(done.run, stage="told")

        assert again.outputs == done.outputs
        assert again.stages["ask"]["model"] == done.stages["ask"]["model"] == "one"
        assert (done.calls, again.calls) == (1, 0)
        twice = await flow.fork(again.run, stage="told")
        assert twice.outputs == done.outputs


async def test_run_that_is_carried_out_cannot_be_forked(project):
    project.steps("""
        import asyncio
        async def wait():
            await asyncio.sleep(60)
    """)
    path = project.write("flow.yaml", 'flowcraft: 1\nstages: {one: {run: "steps:wait"}}')
    async with project.open() as flow:
        begun = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(flow.run(path, on_start=begun.set_result))
        run = await begun
        with pytest.raises(RunError, match=f"run {run} is being carried out"):
            await flow.fork(run)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_run_that_was_kept_in_another_form_cannot_be_forked(project):
    done = await project.run(CHAIN)
    change(project, "UPDATE documents SET snapshot = json_set(snapshot, '$.v', 99)")

    with pytest.raises(StoreError, match=r"kept in another form \(99\); it cannot be forked"):
        await fork(project, done.run)


async def test_fork_goes_on_and_says_so_where_the_run_it_was_made_of_is_gone(project):
    text = f"""
        stages:
          one: {{run: "steps:note", with: {{word: a}}}}
          flaky: {{needs: [one], run: "steps:fail_until", with: {{path: "{project.path}/now"}}}}
    """
    failed = await project.run(text)
    again = await fork(project, failed.run)
    assert again.state == "failed"
    project.write("now", "")

    resumed = await project.resume(again.run)
    assert resumed.outputs == {"flaky": "at last"}
    assert project.marks() == ["a", "try", "try", "try"]

    other = await fork(project, again.run, text.replace("word: a", "word: b").replace("/now", "/later"))
    assert other.state == "failed"
    change(project, "DELETE FROM runs WHERE id = ?", again.run)
    with pytest.raises(StoreError, match=f"is a fork of run {again.run}, which is not in the database any more"):
        await project.resume(other.run)


async def test_secrets_do_not_stand_in_what_was_set_by_hand(project, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "very-secret-token")
    done = await project.run("""
        env: [SOME_TOKEN]
        stages:
          one: {run: "steps:note", with: {word: a}}
          two: {run: "steps:note", with: {word: "${{ one }}"}}
    """)

    again = await fork(project, done.run, outputs={"one": "a very-secret-token"})

    assert again.outputs == {"two": "a ***"}
    assert b"very-secret-token" not in (project.path / "flowcraft.db").read_bytes()


async def test_parts_of_a_go_that_failed_are_done_anew(project):
    """A tool loop whose answer did not do: forked, it asks and calls again instead of failing in the same way."""
    project.steps("""
        def look(word: str) -> str:
            "Look a word up."
            return word
    """)
    text = "stages: {ask: {prompt: Say a, tools: ['steps:look'], output: {word: string}}}"
    call = {"name": "look", "arguments": {"word": "a"}}
    failed = await project.ask(text, {"tool_calls": [call]}, "no json", "no json", "no json", "no json", "no json")
    assert failed.state == "failed"
    asked = project.fake.count()

    async with project.open(llm={"default_model": "fake:one"}, providers={"fake": {}}) as flow:
        again = await flow.fork(failed.run)

    assert again.calls > 0
    assert project.fake.count() > asked


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edges=st.lists(st.lists(st.integers(0, 6), max_size=3), min_size=2, max_size=7), edited=st.integers(0, 6))
async def test_any_graph_runs_again_exactly_what_depends_on_a_changed_value(project, edges, edited):
    """Stages mention earlier ones; the value of one is edited: it runs again, and all that its new value reaches."""
    edited %= len(edges)
    fronts = [sorted({other for other in others if other < number}) for number, others in enumerate(edges)]

    def text(changed):
        lines = []
        for number, front in enumerate(fronts):
            said = "".join(f"${{{{ s{other} }}}}" for other in front)
            word = f"{number}{'x' if number == changed else ''}({said})"
            lines.append(f'          s{number}: {{run: "steps:note", with: {{word: "{word}"}}}}')
        return "\n        stages:\n" + "\n".join(lines)

    done = await project.run(text(None))
    before = project.marks()
    same = await fork(project, done.run, text(None))
    assert (same.outputs, news(project, before)) == (done.outputs, [])

    again = await fork(project, done.run, text(edited))

    reached = {edited}
    for number, front in enumerate(fronts):
        if reached & set(front):
            reached.add(number)
    assert {int(re.match(r"\d+", word)[0]) for word in news(project, before)} == reached
    assert again.state == "done"


GATED = """
    inputs: {word: string = "a"}
    stages:
      one: {run: "steps:note", with: {word: "${{ inputs.word }}"}}
      beside: {run: "steps:note", with: {word: b}}
      gate: {needs: [one], approve: Go on?}
      after: {needs: [gate], run: "steps:note", with: {word: c}}
"""


async def approved(project):
    path = project.write("flow.yaml", "flowcraft: 1\n" + textwrap.dedent(GATED))
    async with project.open() as flow:
        return await flow.run(path, answers={"gate": "approve"})


@pytest.mark.parametrize("changes", [{}, {"stage": "beside"}, {"stage": "after"}])
async def test_gate_with_nothing_in_front_that_ran_again_is_not_asked_again(project, changes):
    done = await approved(project)

    again = await fork(project, done.run, **changes)

    assert again.state == "done"
    assert again.outputs == done.outputs


@pytest.mark.parametrize("changes", [{"stage": "one"}, {"stage": "gate"}, {"outputs": {"one": "a"}}, {"inputs": {"word": "x"}}])
async def test_gate_behind_what_ran_again_or_was_given_otherwise_is_asked_anew(project, changes):
    done = await approved(project)
    before = project.marks()

    again = await fork(project, done.run, **changes)

    assert again.state == "waiting"
    assert "c" not in news(project, before)


async def test_output_of_a_gate_cannot_be_set(project):
    done = await approved(project)

    with pytest.raises(WorkflowError, match="the output of stage 'gate' cannot be set: it is a gate; answer it with --answer"):
        await fork(project, done.run, outputs={"gate": {"choice": "approve"}})


async def test_gate_that_is_asked_anew_takes_an_answer_given_beforehand(project):
    done = await approved(project)

    again = await fork(project, done.run, inputs={"word": "x"}, answers={"gate": "approve"})

    assert again.state == "done"
    with pytest.raises(WorkflowError, match="gte"):
        await fork(project, done.run, answers={"gte": "approve"})


async def test_fork_of_an_edited_file_goes_on_in_another_folder(project, monkeypatch, tmp_path_factory):
    text = f"""
        stages:
          one: {{run: "steps:note", with: {{word: a}}}}
          two: {{needs: [one], run: "steps:fail_until", with: {{path: "{project.path}/now"}}}}
    """
    failed = await project.run(text)
    project.write("edited.yaml", "flowcraft: 1\n" + textwrap.dedent(text).replace("word: a", "word: b"))
    async with project.open() as flow:
        again = await flow.fork(failed.run, file="edited.yaml")
    assert again.state == "failed"
    project.write("now", "")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    done = await project.resume(again.run)

    assert done.state == "done"
    assert project.marks() == ["a", "try", "b", "try", "try"]


async def test_fork_keeps_which_plugins_it_works_with_as_runs_do(project):
    done = await project.ask("stages: {one: {prompt: Say a}}")
    async with project.open(llm={"default_model": "fake:one"}, providers={"fake": {}}) as flow:
        again = await flow.fork(done.run)
        kept = [flow.engine.find(run).snapshot for run in (done.run, again.run)]

    for name in ("plugins", "configured", "flowcraft"):
        assert kept[1][name] == kept[0][name], name
