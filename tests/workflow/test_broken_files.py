"""The table of broken files: each says in its first line where its problem is and how the message begins."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from flowcraft.errors import Problem, WorkflowError
from flowcraft.workflow import load_workflow

pytestmark = pytest.mark.unit

BROKEN = Path(__file__).parent / "broken"
FILES = sorted(BROKEN.glob("*.yaml"))


def expectation(path: Path) -> tuple[str, str]:
    """Return ``file:line:column`` and the heart of the message that ``path`` asks for."""
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    found = re.fullmatch(r"# expect: (?:(\S+?):)?(\d+:\d+) (.+)", first)
    assert found, f"{path.name}: the first line must say what is expected"
    return f"{found[1] or path.name}:{found[2]}", found[3]


def problems_of(path: Path | str) -> tuple[Problem, ...]:
    with pytest.raises(WorkflowError) as raised:
        load_workflow(path)
    return raised.value.problems


def test_table_is_large():
    assert len(FILES) >= 40


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_broken_file_is_refused_at_its_place(path, monkeypatch):
    monkeypatch.chdir(BROKEN)
    place, heart = expectation(path)

    problems = problems_of(path.name)

    assert [problem.place for problem in problems] == [place]
    assert problems[0].message.startswith(heart)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_caret_stands_below_what_is_wrong(path, monkeypatch):
    monkeypatch.chdir(BROKEN)
    (problem,) = problems_of(path.name)

    head, excerpt, caret = str(problem).rsplit("\n", 2)

    assert problem.place in head
    assert excerpt.startswith(f"{problem.line:>5} | ")
    assert re.fullmatch(r" {5} \|  *\^+", caret)


def test_nothing_of_the_users_is_imported():
    for path in FILES:
        problems_of(path)

    assert not [
        name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(str(FILES[0].parent))
    ]


@pytest.mark.parametrize(
    ("content", "place", "heart"),
    [
        (b"x" * 10_000_000, "1:1", "at most 1 MB is read"),
        (b"flowcraft: 1\nstages: " + b"[" * 100_000, "2:108", "nested deeper than 100"),
        (b"flowcraft: 1\nstages: " + b"{a: " * 100_000, "2:405", "nested deeper than 100"),
        (b"- " * 50_000, "1:201", "nested deeper than 100"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "1:1", "a control character"),
        (b"\x89PNG\r\n\x1a\n", "1:1", "is not UTF-8"),
        ("flowcraft: 1\nname: привет".encode("cp1251"), "2:7", "is not UTF-8"),
        (b"flowcraft: 1\nstages:\n  a: {prompt: \xed\xa0\xbd}", "3:15", "is not UTF-8"),
        (b"\xff\xfef\x00l\x00", "1:1", "is not UTF-8"),
    ],
    ids=["10 MB", "brackets", "braces", "dashes", "program", "picture", "Windows-1251", "surrogate", "UTF-16"],
)
def test_file_that_is_no_text_or_too_large_is_refused_at_once(folder, content, place, heart):
    path = folder.write("flow.yaml", content)

    (problem,) = problems_of(path)

    assert problem.place == f"{path}:{place}"
    assert heart in problem.message


def test_file_that_is_not_there_is_named_with_the_nearest(folder):
    folder.write("review.yaml", "flowcraft: 1\n")

    (problem,) = problems_of(folder.path / "reviw.yaml")

    assert problem.message == "there is no such file"
    assert problem.hint == "did you mean 'review.yaml'?"


def test_ending_alone_makes_no_file_the_nearest(folder):
    folder.write("list.yaml", "flowcraft: 1\n")
    folder.write("input.txt", "")
    folder.write("input.yaml", "flowcraft: 1\n")

    hints = [problems_of(folder.path / name)[0].hint for name in ("missing.yaml", "input", "inptu.yaml")]

    assert hints == ["", "did you mean 'input.yaml'?", "did you mean 'input.yaml'?"]


def test_folder_is_no_workflow_file(folder):
    (problem,) = problems_of(folder.path)

    assert (problem.message, problem.hint) == ("this is a folder", "name a file in it")


def test_all_problems_come_at_once_in_the_order_of_the_file(folder):
    problems = folder.problems(
        """
        inputs: {text: strng}
        stages:
          a: {prompt: "${{ inputs.txt }}", timeout: 3}
          b: {each: a.x, prompt: hello, unknown: 1}
          c: {run: nowhere:f}
        outputs: {x: "${{ d }}"}
        """
    )

    assert [problem.line for problem in problems] == [3, 5, 5, 6, 6, 7, 8]
    assert [(problem.line, problem.column) for problem in problems] == sorted(
        (problem.line, problem.column) for problem in problems
    )


def test_reading_ends_after_a_hundred_problems(folder):
    stages = "".join(f'  s{number}: {{prompt: "${{{{ nothing{number} }}}}"}}\n' for number in range(500))

    assert len(folder.problems(f"stages:\n{stages}")) == 100


def test_a_used_file_with_too_many_problems_is_told_once(folder):
    keys = ", ".join(f"key{number}: 1" for number in range(500))
    folder.write("part.yaml", f"flowcraft: 1\nstages: {{a: {{prompt: hello, {keys}}}}}\n")

    problems = folder.problems("stages:\n  a: {uses: part.yaml}\n  b: {prompt: hello, timeout: 3}\n")

    assert len(problems) == 101
    assert problems[0].file.endswith("flow.yaml")


def test_pipe_is_no_file_of_a_prompt(folder):
    os.mkfifo(folder.path / "pipe")

    (problem,) = folder.problems("stages: {a: {prompt: {file: pipe}}}\n")

    assert problem.message == "'pipe' is no plain file"
