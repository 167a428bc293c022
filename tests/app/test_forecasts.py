"""Who is asked in a stage, and how often, as a forecast counts it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flowcraft import FlowCraft
from flowcraft.errors import WorkflowError
from flowcraft.settings import load_settings

pytestmark = pytest.mark.integration

SETTINGS = """
llm:
  model_roles: {primary: [one, two], duplicate: [judge]}
  expensive_model: large
providers:
  local:
    type: openai
    base_url: http://127.0.0.1:1
    models: {one: {}, two: {}, judge: {}, large: {}}
"""


@pytest.fixture
async def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FlowCraft]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    environ = {"FLOWCRAFT_STORAGE": f"sqlite:///{tmp_path}/runs.db"}
    async with FlowCraft(load_settings(environ=environ, cwd=tmp_path)) as flow:
        yield flow


@pytest.mark.parametrize(
    ("stage", "calls", "unpriced"),
    [
        ("prompt: hello", (1, 1, 1), {"one"}),
        ("prompt: hello, output: {a: string}", (1, 1, 2), {"one"}),
        ("prompt: hello, tools: [json:dumps]", (1, 3, 25), {"one"}),
        ("prompt: hello, strategy: best_of_two", (2, 4, 4), {"one", "two", "judge"}),
        ("prompt: hello, strategy: hedge", (1, 1, 2), {"one", "two"}),
        ("prompt: hello, strategy: cascade", (1, 2, 3), {"one", "large"}),
        ("prompt: hello, confidence: 0.7", (1, 3, 5), {"one", "large"}),
        ("prompt: hello, until: judge.score > 1, max: 2, judge: {rubric: Good., model: large}", (2, 4, 4), {"one", "large"}),
        ("prompt: hello, model: '${{ inputs.m }}'", (1, 1, 1), {"large"}),
        ("run: 'json:dumps', with: {obj: 1}", (0, 0, 0), set()),
    ],
)
async def test_a_strategy_says_how_many_calls_a_try_has(
    flow: FlowCraft, tmp_path: Path, stage: str, calls: tuple[int, int, int], unpriced: set[str]
) -> None:
    (tmp_path / "flow.yaml").write_text(f"flowcraft: 1\ninputs: {{m: string = large}}\nstages: {{a: {{{stage}}}}}\n")
    made = flow.plan(tmp_path / "flow.yaml")
    assert (made.calls.low, made.calls.likely, made.calls.high) == calls
    assert set(made.unpriced) == {f"local:{name}" for name in unpriced}
    assert not (tmp_path / "runs.db").exists()


async def test_a_model_in_place_of_all_is_the_one_that_is_counted(flow: FlowCraft, tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text("flowcraft: 1\nstages: {a: {prompt: hello, strategy: best_of_two}}\n")
    made = flow.plan(tmp_path / "flow.yaml", model="offline")
    assert (made.calls.likely, made.usd.high, made.unpriced) == (1, 0, ())


async def test_wrong_inputs_are_refused_and_missing_ones_are_not(flow: FlowCraft, tmp_path: Path) -> None:
    text = "flowcraft: 1\ninputs: {words: '[string]'}\nstages: {a: {each: inputs.words, prompt: 'Say ${{ item }}'}}\n"
    (tmp_path / "flow.yaml").write_text(text)
    assert flow.plan(tmp_path / "flow.yaml").calls.high == 10
    assert flow.plan(tmp_path / "flow.yaml", {"words": ["x", "y"]}).calls.high == 2
    with pytest.raises(WorkflowError, match="wrds"):
        flow.plan(tmp_path / "flow.yaml", {"wrds": []})
