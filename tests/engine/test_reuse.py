"""What a piece asked for is written down, and a run that asks for something else says what."""

from __future__ import annotations

import json
import sqlite3

import pytest

from flowcraft.engine.pieces.asked import LONGEST_TEXT, LONGEST_VALUE, asked_text, difference

pytestmark = pytest.mark.integration


def rows(project, columns="path, asked"):
    connection = sqlite3.connect(project.path / "flowcraft.db")
    found = connection.execute(f"SELECT {columns} FROM pieces ORDER BY number").fetchall()
    connection.close()
    return found


def asked(project):
    return {path: json.loads(text) if text else None for path, text in rows(project)}


def change(project, statement, *values):
    with sqlite3.connect(project.path / "flowcraft.db") as connection:
        connection.execute(statement, values)
    connection.close()


async def test_prompt_writes_down_what_it_asked(project):
    await project.ask("""
        stages:
          one: {prompt: "Say ${{ 'a' }}", system: Be short, params: {temperature: 0}, output: {word: string}}
    """)

    (told,) = asked(project).values()

    assert told["prompt"] == "Say a"
    assert told["system"] == "Be short"
    assert told["params"] == {"temperature": 0}
    assert "fake:one" in json.dumps(told["chain"])
    assert told["output"]["properties"] == {"word": {"type": "string"}}
    assert "with" not in told


async def test_arguments_of_functions_and_commands_are_written_down(project):
    await project.run("""
        stages:
          one: {run: "steps:note", with: {word: a}}
          two: {shell: "echo $word", with: {word: "${{ one }}"}}
    """)

    assert asked(project) == {
        "one": {"run": "steps:note", "with": {"word": "a"}},
        "two": {"shell": "echo $word", "with": {"word": "a"}},
    }


async def test_tries_and_judges_write_it_down_and_what_holds_them_does_not(project):
    await project.ask(
        """
        stages:
          group:
            stages:
              inner: {run: "steps:note", with: {word: a}}
          better:
            until: judge.score >= 0.5
            max: 2
            judge: {rubric: Good}
            prompt: Say b
        """,
        "b",
        '{"score": 1.0, "reason": "fine"}',
    )

    told = asked(project)

    assert told["group"] is None
    assert told["group/inner"] == {"run": "steps:note", "with": {"word": "a"}}
    assert told["better"] is None
    assert told["better#1"]["prompt"] == "Say b"
    assert told["better#1/judge"]["rubric"] == "Good"


async def test_secrets_are_taken_out_of_what_was_asked(project, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "very-secret-token")
    await project.run("""
        env: [SOME_TOKEN]
        stages:
          one: {run: "steps:note", with: {word: "very-secret-token"}}
          two: {run: "steps:note", with: {word: "${{ env.SOME_TOKEN }}"}}
    """)

    assert asked(project) == {
        "one": {"run": "steps:note", "with": {"word": "***"}},
        "two": {"run": "steps:note", "with": {"word": "env.SOME_TOKEN"}},
    }


async def test_what_was_asked_is_not_kept_in_memory(project):
    failed = await project.run("""
        stages:
          one: {run: "steps:note", with: {word: a}}
          bad: {needs: [one], run: "steps:fail"}
    """)
    async with project.open() as flow:
        start = flow.engine.store.begin(failed.run, "somebody", 1)
        assert start is not None
        assert [piece.asked for piece in start.pieces.values()] == ["", ""]
        assert flow.engine.store.pieces(failed.run, asked=True)[0].asked


async def test_run_that_asks_for_something_else_says_what(project):
    failed = await project.run("""
        stages:
          one: {run: "steps:note", with: {word: a long word at the beginning}}
          bad: {needs: [one], run: "steps:fail"}
    """)
    before = json.dumps({"run": "steps:note", "with": {"word": "a long word at the end"}})
    change(project, "UPDATE pieces SET what = 'other', asked = ? WHERE path = 'one'", before)

    again = await project.resume(failed.run)

    assert again.state == "failed"
    assert "one asks for something else" in again.error
    assert """with: '...ng word at the beginning"}' instead of '...ng word at the end"}'""" in again.error


async def test_run_from_before_that_was_written_down_says_only_where(project):
    failed = await project.run("""
        stages:
          one: {run: "steps:note", with: {word: a}}
          bad: {needs: [one], run: "steps:fail"}
    """)
    change(project, "UPDATE pieces SET what = 'other', asked = '' WHERE path = 'one'")

    again = await project.resume(failed.run)

    assert "one asks for something else than what this run recorded there; a run" in again.error


def test_long_texts_are_kept_up_to_a_bound_and_say_what_is_left_out():
    told = json.loads(
        asked_text({"prompt": "a" * LONGEST_TEXT, "system": "b" * (LONGEST_TEXT + 10), "with": {"x": "c" * 20_000}})
    )

    assert told["prompt"] == "a" * LONGEST_TEXT
    assert told["system"].count("b") == LONGEST_TEXT
    assert " ... (10 characters left out) ... " in told["system"]
    assert len(told["with"]) < LONGEST_VALUE + 100
    assert "characters left out" in told["with"]


def test_what_is_asked_is_json_without_its_empty_parts():
    asks = {1: "a", "with": {"n": 1, "none": None}, "params": {}, "system": None, "model": "", "stages": ["x"], "least": 0.5}

    assert json.loads(asked_text(asks)) == {"1": "a", "with": {"n": 1, "none": None}, "stages": ["x"], "least": 0.5}


def test_difference_names_what_came_and_what_went():
    before, after = asked_text({"prompt": "Say a"}), asked_text({"prompt": "Say a", "system": "Be short"})

    assert difference(before, after) == "system: 'Be short' instead of 'null'"
    assert difference(before, before) == ""
    assert difference("damaged", after) == ""
