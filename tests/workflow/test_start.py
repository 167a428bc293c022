"""Settings of stages that come from inputs: checked when a run starts."""

from __future__ import annotations

import pytest

from flowcraft.llm.casting import Casting
from flowcraft.plugin.capabilities import Capabilities, ModelInfo, Price
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


# -- params as a whole


WHOLE = """
inputs: {p: any = null}
defaults: {params: {seed: 1, extra: {a: 1}}}
stages:
  a: {prompt: x, params: "${{ inputs.p }}"}
"""


def started(folder, text, facts, /, **inputs):
    workflow = folder.load(text)
    found = check_start(workflow, bind_inputs(workflow, inputs), facts, folder=str(folder.path))
    return [(problem.line, problem.message, problem.warning) for problem in found]


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        (None, []),
        ({"temperature": 0.5, "stop": ["x"], "extra": {"b": 2}}, []),
        ("hot", ["'params' must be a mapping of names, not text"]),
        ({"temprature": 1}, ["unknown key 'temprature' in 'params'; did you mean 'temperature'?"]),
        (
            {"seed": 1.5, "stop": 3},
            ["'seed' must be a whole number, not a number (1.5)", "'stop' must be text or a list, not a number (3)"],
        ),
    ],
)
def test_params_as_a_whole_are_checked_at_the_start(folder, given, messages):
    assert started(folder, WHOLE, FACTS, p=given) == [(6, message, False) for message in messages]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("inputs: {p: string}\nstages: {a: {prompt: x, params: '${{ inputs.p }}'}}", "'params' takes a mapping, not string"),
        (
            "inputs: {p: {heat: number}}\nstages: {a: {prompt: x, params: '${{ inputs.p }}'}}",
            "unknown key 'heat' in 'params'",
        ),
        (
            "inputs: {p: string}\nstages: {a: {prompt: x, params: {temperature: '${{ inputs.p }}'}}}",
            "'temperature' takes a number, not string",
        ),
        ("stages: {b: {prompt: x}, a: {prompt: x, params: '${{ b }}'}}", "'params' may mention inputs only"),
        ("inputs: {p: any}\nstages: {a: {prompt: x, params: 'so ${{ inputs.p }}'}}", "'params' must be one value"),
        (
            "inputs: {p: any}\ndefaults: {params: '${{ inputs.p }}'}\nstages: {a: {prompt: '${{ inputs.p }}'}}",
            "'params' of the defaults cannot come from an input as a whole",
        ),
    ],
)
def test_params_that_cannot_fit_are_refused_at_load(folder, written, message):
    (problem,) = folder.problems(written)
    assert problem.message.startswith(message)
    assert problem.line


def test_a_typed_input_fits_its_parameter(folder):
    text = """
    inputs: {t: number, s: "[string]"}
    stages: {a: {prompt: x, params: {top_p: "${{ inputs.t }}", stop: "${{ inputs.s }}"}}}
    """
    assert folder.load(text).stages["a"].params.keys() == {"top_p", "stop"}


# -- what follows from inputs


BLIND = ModelInfo(model="blind", provider="local", context=1_000, capabilities=Capabilities(images=False, tools=False))
CAST = Facts(cast=lambda stage, default: Casting(answering=(BLIND,)) if stage.model != "unknown" else None)


def test_a_prompt_that_an_input_makes_too_long_is_refused(folder):
    text = "inputs: {text: string}\nstages: {a: {prompt: 'Read: ${{ inputs.text }}'}}\n"
    ((_, message, warning),) = started(folder, text, CAST, text="word " * 3_000)
    assert message.startswith("the prompt of stage 'a' does not fit: about 3,7")
    assert not warning
    assert started(folder, text, CAST, text="short") == []


def test_the_largest_element_of_a_list_counts(folder):
    text = "inputs: {texts: '[string]'}\nstages: {a: {each: inputs.texts, prompt: 'Read: ${{ item }}'}}\n"
    ((_, message, _),) = started(folder, text, CAST, texts=["short", "word " * 3_000])
    assert message.startswith("the prompt of stage 'a' does not fit")


def test_what_an_input_attaches_is_looked_for_and_matched_with_the_models(folder):
    folder.write("there.png", b"\x89PNG")
    text = "inputs: {photo: string}\nstages: {a: {prompt: look, attach: '${{ inputs.photo }}'}}\n"
    assert started(folder, text, CAST, photo="there.png") == [
        (3, "local:blind takes no images: 'there.png' cannot be attached", False)
    ]
    assert started(folder, text, Facts(), photo="their.png") == [(3, "there is no file 'their.png'", False)]
    assert started(folder, text, Facts(), photo="film.mp4") == [
        (3, "'film.mp4' is a video, which cannot be attached yet", False)
    ]


def test_a_file_that_an_earlier_stage_may_write_is_only_doubtful(folder):
    text = """
    inputs: {photo: string}
    stages:
      draw: {run: "json:dumps", with: {obj: "${{ inputs.photo }}"}}
      a: {needs: [draw], prompt: look, attach: "${{ inputs.photo }}"}
    """
    assert started(folder, text, Facts(), photo="later.png") == [(6, "there is no file 'later.png'", True)]


def test_a_model_that_an_input_names_is_checked_as_if_it_stood_there(folder):
    text = """
    inputs: {m: string}
    budget: {usd: 1}
    stages:
      a: {prompt: hello, tools: [json:dumps], model: "${{ inputs.m }}"}
    """
    price = Price(input=1, output=1)
    able = ModelInfo(model="able", provider="local", price=price, capabilities=Capabilities(tools=True))
    facts = Facts(
        tiers=frozenset({"able", "blind"}),
        cast=lambda stage, default: {"able": Casting(answering=(able,)), "blind": Casting(answering=(BLIND,))}.get(stage.model),
    )
    assert started(folder, text, facts, m="able") == []
    assert started(folder, text, facts, m="blind") == [
        (6, "local:blind cannot do what stage 'a' needs: tools", False),
        (4, "the price of local:blind is not known: the budget in USD counts nothing for what is asked there", True),
    ]


def test_inputs_reach_the_parts_that_they_settle(folder):
    folder.write("part.yaml", "flowcraft: 1\ninputs: {text: string}\nstages: {a: {prompt: '${{ inputs.text }}'}}\n")
    text = """
    inputs: {text: string}
    stages:
      first: {prompt: hello}
      known: {uses: part.yaml, with: {text: "${{ inputs.text }}"}}
      later: {uses: part.yaml, with: {text: "${{ first }}"}}
    """
    ((line, message, _),) = started(folder, text, CAST, text="word " * 3_000)
    assert line == 3
    assert message.startswith("the prompt of stage 'a' does not fit")
