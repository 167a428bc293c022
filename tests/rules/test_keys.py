"""The rules of "Keys of a file" and "Keys of a stage"."""

from __future__ import annotations

import pytest

from flowcraft.workflow.words import BODIES, STAGE_KEYS, takes

pytestmark = pytest.mark.unit

BODY = {
    "prompt": "prompt: hello",
    "run": 'run: "steps:echo"',
    "shell": "shell: ls",
    "uses": "uses: part.yaml",
    "stages": "stages: {x: {prompt: hello}}",
}
VALUE = {
    "needs": "[z]",
    "when": "z == ''",
    "each": "[1]",
    "parallel": "2, each: [1]",
    "until": "1 == 1, max: 2",
    "max": "2, until: 1 == 1",
    "timeout": "1m",
    "retry": "1",
    "on_error": "continue",
    "with": "{a: b}",
    "output": "any",
    "model": "cheap",
    "params": "{seed: 1}",
    "attach": "https://example.org/a.png",
    "system": "hello",
    "tools": '["steps:note"]',
    "strategy": "single",
    "judge": "{rubric: hello}, strategy: best_of_two",
    "confidence": "0.5",
}
TAKEN = {
    **{key: set(BODY) for key in ("needs", "when", "each", "parallel", "until", "max", "timeout", "retry", "on_error")},
    **{key: {"prompt"} for key in ("model", "params", "strategy", "confidence", "system", "attach", "tools", "judge")},
    "with": {"run", "shell", "uses"},
    "output": {"prompt", "run", "shell"},
}


@pytest.mark.parametrize("body", BODY)
@pytest.mark.parametrize("key", TAKEN)
def test_which_body_takes_what(place, body, key):
    place.write("part.yaml", "flowcraft: 1\ninputs: {a: any = 1}\nstages: {x: {prompt: '${{ json(inputs) }}'}}\n")
    text = f"stages: {{z: {{prompt: hello}}, a: {{{BODY[body]}, {key}: {VALUE[key]}}}}}\n"

    if body in TAKEN[key]:
        place.load(text)
    else:
        assert f"'{body}' takes no '{key}'" in [problem.message for problem in place.problems(text)]


@pytest.mark.parametrize("body", [body for body in BODY if body != "prompt"])
def test_a_judge_goes_with_any_body_that_has_until(place, body):
    place.write("part.yaml", "flowcraft: 1\nstages: {x: {prompt: hello}}\n")

    place.load(f"stages: {{a: {{{BODY[body]}, until: judge.score > 0.5, max: 2, judge: {{rubric: hello}}}}}}\n")


def test_the_words_and_this_table_agree():
    for key, bodies in TAKEN.items():
        assert {body for body in BODY if takes(key, body, {})} == bodies
    assert set(BODY) <= set(BODIES)
    assert set(TAKEN) <= set(STAGE_KEYS)


def test_a_default_that_a_body_cannot_take_is_not_applied_to_it(place):
    stages = place.load("""
        defaults: {model: cheap, strategy: cascade, params: {seed: 1}, timeout: 1m, retry: 2, parallel: 3}
        stages: {a: {run: "steps:echo"}, b: {each: [1], prompt: hello}}
    """).stages

    assert (stages["a"].params, stages["a"].strategy, stages["a"].timeout, stages["a"].parallel) == ({}, None, 60, 1)
    assert (stages["b"].params, stages["b"].strategy, stages["b"].retry.max, stages["b"].parallel) == (
        {"seed": 1},
        "cascade",
        2,
        3,
    )


def test_keys_of_ones_own_are_ignored(place):
    place.load("x-mine: [anything, {at: all}]\nstages: {a: {prompt: hello}}\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stage: {}", "unknown key 'stage'"),
        ("budget: {eur: 1}", "unknown key 'eur' in 'budget'"),
        ("budget: {usd: 0}", "'usd' must be a number above 0"),
        ("defaults: {retries: 2}", "unknown key 'retries' in 'defaults'"),
        ("env: {A: b}", "'env' must be a list of names"),
    ],
)
def test_unknown_or_wrong_keys_of_a_file_are_errors(place, text, told):
    assert place.refused(text + "\nstages: {a: {prompt: hello}}\n").startswith(told)


def test_the_name_is_that_of_the_file_without_its_ending(place):
    assert place.load("stages: {a: {prompt: hello}}\n").name == "flow"


def test_history_is_reserved(place):
    assert "does not carry out yet" in place.refused("stages: {a: {prompt: hello, history: 1}}\n")
