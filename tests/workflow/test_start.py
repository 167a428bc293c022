"""Settings of stages that come from inputs: checked when a run starts."""

from __future__ import annotations

import pytest

from flowcraft.workflow import Facts, bind_inputs, check_start

pytestmark = pytest.mark.unit

WORKFLOW = """\
inputs: {n: any = 2, t: any = "5m", m: any = "cheap", p: any = 1}
defaults: {timeout: "${{ inputs.t }}", params: {seed: "${{ inputs.p }}"}}
stages:
  a: {each: [1], prompt: "${{ item }}", parallel: "${{ inputs.n }}", params: {temperature: "${{ inputs.p }}"}}
  b: {prompt: x, model: "${{ inputs.m }}", timeout: 3s, params: {seed: 1}}
"""
FACTS = Facts(tiers=frozenset({"cheap"}), knows_model=lambda name: False)


def wrong(folder, **inputs):
    workflow = folder.load(WORKFLOW)
    problems = check_start(workflow, bind_inputs(workflow, inputs), FACTS)
    return [(problem.line, problem.column, problem.message) for problem in problems]


def test_what_fits_is_no_problem(folder):
    assert wrong(folder) == []
    assert wrong(folder, n=1, t="500ms", p=None) == []


@pytest.mark.parametrize("value", [0, 10_001, 1.5, "3", True, None])
def test_parallel_is_a_number_of_elements(folder, value):
    ((*place, message),) = wrong(folder, n=value)

    assert place == [5, 51]
    assert message == f"'parallel' must be a whole number from 1 to 10,000, not {value!r}"


@pytest.mark.parametrize("value", ["soon", "0s", 3, None])
def test_timeout_of_the_defaults_is_told_where_it_stands(folder, value):
    ((*place, message),) = wrong(folder, t=value)

    assert place == [3, 21]
    assert "is no duration" in message


@pytest.mark.parametrize(
    ("value", "message"), [("chep", "unknown model or tier 'chep'"), ("", "'model' is empty"), (None, "'model' is empty")]
)
def test_model_is_known(folder, value, message):
    assert wrong(folder, m=value) == [(6, 25, message)]


def test_params_are_of_their_types_at_the_stage_and_in_the_defaults(folder):
    assert wrong(folder, p="hot") == [
        (3, 55, "'seed' must be a whole number, not text"),
        (5, 92, "'temperature' must be a number, not text"),
    ]
