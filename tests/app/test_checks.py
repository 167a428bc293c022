"""What of a workflow is checked against models before it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from flowcraft import FlowCraft
from flowcraft.errors import WorkflowError
from flowcraft.settings import load_settings

pytestmark = pytest.mark.integration

SETTINGS = """
llm:
  cheap_model: small
  expensive_model: large
  expensive_stages: [hard]
  aliases: {quick: small}
providers:
  local:
    type: openai
    base_url: http://127.0.0.1:1
    models:
      small: {capabilities: {seed: false}}
      large: {capabilities: {seed: true}}
"""
WORKFLOW = """flowcraft: 1
stages:
  easy: {prompt: hello, params: {seed: 7}}
  hard: {prompt: hello, params: {seed: 7}}
  named: {prompt: hello, model: quick, params: {seed: 7}}
  typo: {prompt: hello, model: expensiv}
"""


@pytest.fixture
async def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FlowCraft]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    environ = {"FLOWCRAFT_STORAGE": f"sqlite:///{tmp_path}/runs.db"}
    async with FlowCraft(load_settings(environ=environ, cwd=tmp_path)) as flow:
        yield flow


@pytest.fixture
def checked(flow: FlowCraft, tmp_path: Path) -> Callable[[str], list[tuple[int, str, bool]]]:
    def check(text: str) -> list[tuple[int, str, bool]]:
        from flowcraft.workflow import load_workflow

        (tmp_path / "flow.yaml").write_text(text)
        problems = flow.check(load_workflow(tmp_path / "flow.yaml"))
        return [(problem.line, f"{problem.message}; {problem.hint}", problem.warning) for problem in problems]

    return check


def test_a_stage_whose_every_model_lacks_what_it_needs_is_refused(
    checked: Callable[[str], list[tuple[int, str, bool]]],
) -> None:
    assert checked(WORKFLOW) == [
        (3, "local:small cannot do what stage 'easy' needs: seed; name another model", False),
        (
            4,
            "local:small cannot do what stage 'hard' needs (seed): it may refuse to answer, and others of the stage's models"
            " are asked then; ",
            True,
        ),
        (5, "local:small cannot do what stage 'named' needs: seed; name another model", False),
        (
            6,
            "no tier, alias or listed model is called 'expensiv': it will be asked for as a model's id;"
            " did you mean 'expensive'?",
            True,
        ),
    ]


async def test_a_model_in_place_of_all_is_asked_about_in_their_place(flow: FlowCraft, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("flowcraft: 1\nstages: {a: {prompt: hello, model: nobody-knows, params: {seed: 7}}}\n")

    with pytest.raises(WorkflowError, match="local:small cannot do what stage 'a' needs: seed"):
        await flow.run(tmp_path / "flow.yaml", model="small")
    assert (await flow.run(tmp_path / "flow.yaml", model="offline")).state == "done"
