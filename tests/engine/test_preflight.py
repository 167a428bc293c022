"""What only importing tells of functions, tools and types: said when a run starts, before a model is paid."""

from __future__ import annotations

from typing import Any

import pytest

from flowcraft.errors import WorkflowError

pytestmark = pytest.mark.integration

STEPS = """
import functools
from json import dumps as written

def kept(function):
    @functools.wraps(function)
    def call(**arguments):
        return function(**arguments)
    return call

@kept
def shout(text, times=1):
    return text.upper() * times

@kept
def count(text: object, /, deep: int):
    '''Count.'''

answer = 42
"""


async def refused(project: Any, text: str) -> list[tuple[int, int, str]]:
    with pytest.raises(WorkflowError) as raised:
        await project.ask(text, "an answer that was paid for")
    assert project.fake.asked == [], "no model was asked"
    assert project.events == [], "no run was begun"
    return [(problem.line, problem.column, problem.message) for problem in raised.value.problems]


async def test_arguments_of_decorated_and_re_exported_functions_are_checked_before_a_model_is_paid(project: Any) -> None:
    project.write("more.py", STEPS)
    text = """
    stages:
      paid: {prompt: hello}
      loud: {run: "more:shout", with: {txt: "${{ paid }}"}}
      text: {run: "more:written", needs: [paid]}
    """
    assert await refused(project, text) == [
        (5, 35, "more:shout: missing a required argument: 'text'; 'with' gives: txt"),
        (6, 15, "more:written: missing a required argument: 'obj'; 'with' gives: nothing"),
    ]


async def test_a_name_that_is_no_function_and_a_module_that_fails_are_told_at_their_place(project: Any) -> None:
    project.write("more.py", STEPS)
    project.write("broken.py", "from more import *\nraise OSError('no licence')\n")
    text = """
    stages:
      paid: {prompt: hello}
      a: {run: "more:answer", needs: [paid]}
      b: {run: "broken:shout", needs: [paid]}
    """
    assert await refused(project, text) == [
        (5, 12, "module 'more' has no function 'answer': it is an object of the class 'int'"),
        (6, 12, "cannot import 'broken': OSError: no licence"),
    ]


async def test_a_tool_that_no_model_can_be_told_of_is_refused_before_a_model_is_paid(project: Any) -> None:
    project.write("more.py", STEPS)
    text = """
    stages:
      paid: {prompt: hello}
      asks: {prompt: "${{ paid }}", tools: ["more:count"]}
    """
    ((line, column, message),) = await refused(project, text)
    assert (line, column) == (5, 41)
    assert message.startswith("more:count: ")


async def test_a_type_whose_module_cannot_be_imported_is_refused_before_a_model_is_paid(project: Any) -> None:
    project.write(
        "shapes.py", "from pydantic import BaseModel\nclass Page(BaseModel):\n    title: str\nraise OSError('gone')\n"
    )
    text = """
    stages:
      paid: {prompt: hello}
      page: {prompt: "${{ paid }}", output: "shapes:Page"}
    """
    assert await refused(project, text) == [(5, 41, "cannot import 'shapes': OSError: gone")]


async def test_what_fits_runs(project: Any) -> None:
    project.write("more.py", STEPS)
    result = await project.ask("stages: {loud: {run: 'more:shout', with: {text: ab, times: 2}}}\n")
    assert (result.state, result.outputs) == ("done", {"loud": "ABAB"})


async def test_modules_whose_functions_can_be_read_are_not_imported_before_their_stage_runs(project: Any) -> None:
    project.write("slow.py", "import steps\nsteps.note('imported')\ndef late(text: str) -> str:\n    return text\n")
    text = """
    stages:
      first: {run: "steps:note", with: {word: first}}
      second: {run: "slow:late", with: {text: "${{ first }}"}}
    """
    assert (await project.run(text)).state == "done"
    assert project.marks() == ["first", "imported"]
