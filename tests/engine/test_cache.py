"""``cache``: what the same question gave a while ago is taken over, in any run."""

from __future__ import annotations

import hashlib
import sqlite3

import pytest

from flowcraft.errors import WorkflowError
from flowcraft.events import StageFinished

pytestmark = pytest.mark.integration

WORD = """
    inputs: {word: string = "a", long: string = "1h"}
    stages:
      one: {run: "steps:note", with: {word: "${{ inputs.word }}"}, cache: "${{ inputs.long }}"}
      two: {run: "steps:note", with: {word: "${{ one }}2"}}
"""


def change(project, statement, *values):
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        connection.execute(statement, values)
    connection.close()


def kept(project, columns="*"):
    connection = sqlite3.connect(project.path / "flowcraft.db")
    found = connection.execute(f"SELECT {columns} FROM outputs ORDER BY created").fetchall()
    connection.close()
    return found


async def test_same_question_is_answered_once_within_its_time(project):
    first = await project.run(WORD)
    project.events.clear()

    second = await project.run(WORD)

    assert second.outputs == first.outputs == {"two": "a2"}
    assert project.marks() == ["a", "a2", "a2"]
    assert [(event.stage, event.state) for event in project.events if isinstance(event, StageFinished)] == [
        ("one", "cached"),
        ("two", "done"),
    ]
    async with project.open() as flow:
        (piece,) = (piece for piece in flow.engine.store.pieces(second.run) if piece.path == "one")
        assert piece.origin == f"cache:{first.run}"


async def test_other_question_or_other_code_is_carried_out(project):
    await project.run(WORD)
    await project.run(WORD, word="b")
    code = (project.path / "steps.py").read_text()
    project.forget()
    project.steps(code + "\n# mended\n")
    await project.run(WORD)

    assert project.marks() == ["a", "a2", "b", "b2", "a", "a2"]


async def test_older_output_than_the_stage_says_does_not_count_and_is_swept(project):
    await project.run(WORD)
    change(project, "UPDATE outputs SET created = created - 3601, expires = expires - 3601")
    await project.run(WORD)
    assert project.marks() == ["a", "a2", "a", "a2"]
    change(project, "UPDATE outputs SET created = created - 3601, expires = expires - 3601")
    await project.run(WORD, word="b")

    assert kept(project, "result") == [('"b"',)]


async def test_output_counts_for_a_stage_that_allows_it_to_be_older(project):
    await project.run(WORD)
    change(project, "UPDATE outputs SET created = created - 3601")
    await project.run(WORD, long="2h")

    assert project.marks() == ["a", "a2", "a2"]


async def test_every_element_is_looked_up_by_itself(project):
    text = """
        inputs: {words: "[string]"}
        stages:
          one: {each: inputs.words, run: "steps:note", with: {word: "${{ item }}"}, cache: 1h}
    """
    await project.run(text, words=["a", "b"])
    project.events.clear()

    done = await project.run(text, words=["b", "c", "a"])

    assert done.outputs == {"one": ["b", "c", "a"]}
    assert project.marks() == ["a", "b", "c"]
    assert [event.state for event in project.events if isinstance(event, StageFinished)] == ["done"]


async def test_failures_are_never_kept(project):
    text = """
        stages:
          one: {run: "steps:fail", with: {word: a}, cache: 1h, on_error: continue}
          two: {when: false, run: "steps:note", with: {word: b}, cache: 1h}
    """
    await project.run(text)
    await project.run(text)

    assert project.marks() == ["a", "a"]
    assert kept(project) == []


async def test_answer_of_a_model_costs_nothing_the_second_time(project):
    text = "stages: {one: {prompt: Say a, cache: 1h}}"
    first = await project.ask(text)
    second = await project.ask(text)

    assert second.outputs == first.outputs == {"one": "Say a"}
    assert (first.calls, second.calls) == (1, 0)


async def test_other_model_answers_for_itself(project):
    text = "stages: {one: {prompt: Say a, cache: 1h}}"
    await project.ask(text)
    async with project.open(llm={"default_model": "fake:two"}, providers={"fake": {}}) as flow:
        second = await project.run(text, flow)

    assert second.calls == 1


async def test_only_tries_that_passed_are_kept_and_what_ends_them_counts(project):
    text = """
        inputs: {least: number = 0.8}
        stages:
          one: {until: judge.score >= inputs.least, max: 1, judge: {rubric: Good}, prompt: Say a, cache: 1h, on_error: continue}
    """
    verdicts = ("a", '{"score": 0.5, "reason": "so so"}')
    await project.ask(text, *verdicts)
    assert kept(project) == []
    passed = await project.ask(text, *verdicts, least=0.4)
    assert passed.calls == 2
    assert (await project.ask(text, *verdicts, least=0.4)).calls == 0
    assert (await project.ask(text, *verdicts, least=0.3)).calls == 2


async def test_fork_does_its_chosen_stage_anew_though_its_output_is_kept(project):
    done = await project.run(WORD)
    async with project.open() as flow:
        await flow.fork(done.run, stage="one")

    assert project.marks() == ["a", "a2", "a"]


async def test_changed_secret_is_another_question_and_none_is_kept(project, monkeypatch):
    text = """
        env: [SOME_TOKEN]
        stages:
          one: {run: "steps:note", with: {word: "${{ env.SOME_TOKEN }}"}, cache: 1h}
          two: {shell: "echo $SOME_TOKEN", cache: 1h, output: string}
    """
    monkeypatch.setenv("SOME_TOKEN", "very-secret-token")
    await project.run(text)
    again = await project.run(text)
    assert len(project.marks()) == 1
    assert again.outputs == {"one": "***", "two": "***"}
    monkeypatch.setenv("SOME_TOKEN", "other-secret-token")
    await project.run(text)

    assert len(project.marks()) == 2
    assert b"very-secret-token" not in (project.path / "flowcraft.db").read_bytes()
    assert len(kept(project)) == 4


async def test_resumed_run_keeps_what_it_took_over(project):
    text = f"""
        stages:
          one: {{run: "steps:note", with: {{word: a}}, cache: 1h}}
          two: {{needs: [one], run: "steps:fail_until", with: {{path: "{project.path}/now"}}}}
    """
    await project.run(text)
    failed = await project.run(text)
    change(project, "DELETE FROM outputs")
    project.write("now", "")

    done = await project.resume(failed.run)

    assert done.state == "done"
    assert project.marks() == ["a", "try", "try", "try"]


async def test_damaged_output_counts_as_none(project):
    await project.run(WORD)
    change(project, "UPDATE outputs SET result = '{'")
    await project.run(WORD)

    assert project.marks() == ["a", "a2", "a", "a2"]


async def test_time_that_is_none_is_told_at_the_start(project):
    with pytest.raises(WorkflowError, match="'cache': "):
        await project.run(WORD, long="soon")

    assert project.marks() == []


async def test_what_tells_secrets_apart_is_derived_once_for_ten_stages_in_a_list(project, monkeypatch):
    derived = []
    derive = hashlib.scrypt
    monkeypatch.setattr(hashlib, "scrypt", lambda *told, **how: derived.append(told) or derive(*told, **how))
    monkeypatch.setenv("SOME_TOKEN", "very-secret-token")
    text = """
        env: [SOME_TOKEN]
        stages:
          list:
            each: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
            parallel: 4
            stages:
              one: {run: "steps:note", with: {word: "${{ item }}"}, cache: 1h}
    """

    await project.run(text)

    assert len(derived) == 1
    assert len(kept(project)) == 10


async def test_what_the_built_in_model_answered_instead_of_a_real_one_is_not_kept(project, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    text = """
        stages:
          one: {prompt: Say a, cache: 1h}
          two: {until: "len(two) > 0", max: 2, prompt: Say b, cache: 1h}
          three: {run: "steps:note", with: {word: "${{ one }}${{ two }}"}, cache: 1h}
    """
    settings = {"llm": {"default_model": "openai:gpt-4o", "offline": "allow"}}
    async with project.open(**settings) as flow:
        first = await project.run(text, flow)
    async with project.open(**settings) as flow:
        second = await project.run(text, flow)

    assert first.instead
    assert second.instead
    assert [path for (path,) in kept(project, "path")] == ["three"]
    assert second.stages["three"]["origin"] == "cache"


async def test_fork_that_takes_over_what_the_built_in_model_answered_says_so(project, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    settings = {"llm": {"default_model": "openai:gpt-4o", "offline": "allow"}}
    async with project.open(**settings) as flow:
        first = await project.run(
            "stages: {one: {prompt: Say a}, two: {needs: [one], run: 'steps:note', with: {word: b}}}", flow
        )
        second = await flow.fork(first.run)
        third = await flow.fork(second.run, stage="two")
        by_hand = await flow.fork(third.run, outputs={"one": "mine"})

    assert (second.instead, third.instead) == (True, True)
    assert (second.calls, third.calls) == (0, 0)
    assert not by_hand.instead
