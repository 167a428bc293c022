"""``params`` that come from an input as a whole, on their way to the model."""

from __future__ import annotations

from typing import Any

import pytest

from flowcraft.errors import WorkflowError

pytestmark = pytest.mark.integration

WORKFLOW = """
inputs: {p: any = null}
defaults: {params: {seed: 7, temperature: 0, extra: {a: 1, b: 1}}}
stages:
  ask: {prompt: hello, params: "${{ inputs.p }}"}
"""


async def test_params_of_an_input_come_over_the_defaults_key_by_key(project: Any) -> None:
    given = {"temperature": 0.5, "max_tokens": 9, "min_p": 0.1, "extra": {"b": 2}}
    assert (await project.ask(WORKFLOW, "said", p=given)).state == "done"
    asked = project.fake.asked[0].request
    assert (asked.temperature, asked.max_tokens, asked.seed, asked.extra) == (0.5, 9, 7, {"a": 1, "b": 2, "min_p": 0.1})


async def test_without_the_input_the_defaults_hold(project: Any) -> None:
    assert (await project.ask(WORKFLOW, "said")).state == "done"
    assert (project.fake.asked[0].request.temperature, project.fake.asked[0].request.seed) == (0, 7)


async def test_wrong_params_end_before_a_model_is_asked(project: Any) -> None:
    with pytest.raises(WorkflowError, match=r"unknown key 'heat' in 'params'"):
        await project.ask(WORKFLOW, "said", p={"heat": 1})
    assert project.fake.asked == []
