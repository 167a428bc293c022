"""What is checked of stages against the models that may be asked for them, before one of them is paid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flowcraft.errors import Problem
from flowcraft.llm.casting import Casting
from flowcraft.plugin.capabilities import Capabilities, ModelInfo, Price
from flowcraft.workflow import Facts, check_workflow

pytestmark = pytest.mark.unit


def model(
    name: str, *, context: int | None = None, price: Price | None = None, offline: bool = False, **able: bool
) -> ModelInfo:
    return ModelInfo(
        model=name, provider="local", context=context, price=price, offline=offline, capabilities=Capabilities(**able)
    )


def casting(*answering: ModelInfo, **parts: Any) -> Facts:
    return Facts(cast=lambda stage, default: Casting(answering=answering, **parts))


def found(folder: Any, text: str, facts: Facts) -> list[Problem]:
    return check_workflow(folder.load(text), facts)


def told(folder: Any, text: str, facts: Facts) -> list[tuple[str, bool]]:
    return [(problem.message, problem.warning) for problem in found(folder, text, facts)]


BLIND, SEEING = model("blind", tools=False, seed=False), model("seeing", tools=True, seed=True)
TOOLS = """
stages:
  a: {prompt: hello, tools: [json:dumps]}
"""


# -- capabilities of the whole chain


def test_a_reserve_that_cannot_call_tools_is_named_with_what_becomes_of_it(folder) -> None:
    (problem,) = found(folder, TOOLS, casting(SEEING, BLIND))

    assert (problem.line, problem.column, problem.warning) == (4, 3, True)
    assert problem.message == "local:blind cannot do what stage 'a' needs (tools) and is passed over"
    assert problem.caret or problem.excerpt.strip().startswith("a:")


def test_a_chain_in_which_nobody_can_is_an_error_that_names_all(folder) -> None:
    other = model("deaf", tools=False)
    assert told(folder, TOOLS, casting(BLIND, other)) == [
        ("local:blind, local:deaf cannot do what stage 'a' needs: tools", False)
    ]


def test_two_that_lack_different_things_cannot_do_it_either(folder) -> None:
    text = "stages: {a: {prompt: hello, tools: [json:dumps], params: {seed: 1}}}\n"
    facts = casting(model("one", tools=False, seed=True), model("two", tools=True, seed=False))
    assert told(folder, text, facts) == [("local:one, local:two cannot do what stage 'a' needs: seed, tools", False)]


def test_what_nobody_knows_of_a_model_is_tried(folder) -> None:
    assert told(folder, TOOLS, casting(model("unknown"))) == []


def test_expensive_models_that_lack_it_are_told_of_a_cascade(folder) -> None:
    text = "stages: {a: {prompt: hello, strategy: cascade, tools: [json:dumps]}}\n"
    never = casting(SEEING, instead=(BLIND,), strategy="cascade", measured=True)
    assert told(folder, text, never) == [
        ("local:blind cannot do what stage 'a' needs (tools): no answer is ever given to the expensive models", True)
    ]
    always = casting(BLIND, instead=(SEEING,), strategy="cascade", measured=True)
    assert told(folder, text, always) == [
        ("local:blind cannot do what stage 'a' needs (tools): the expensive models answer every time", True)
    ]
    nobody = casting(BLIND, instead=(model("dear", tools=False),), strategy="cascade", measured=True)
    assert told(folder, text, nobody) == [("local:blind, local:dear cannot do what stage 'a' needs: tools", False)]


def test_best_of_two_that_is_left_with_one_says_so(folder) -> None:
    text = "stages: {a: {prompt: hello, strategy: best_of_two, params: {logprobs: true}}}\n"
    able, other = model("able", logprobs=True), model("other", logprobs=False)
    facts = casting(able, other, contestants=(able, other), strategy="best_of_two")
    assert told(folder, text, facts) == [
        (
            "local:other cannot do what stage 'a' needs (logprobs): best_of_two is left with one model and runs as single",
            True,
        )
    ]


def test_a_parameter_that_one_of_the_models_lacks_is_told(folder) -> None:
    text = "stages: {a: {prompt: hello, params: {seed: 1}}}\n"
    assert told(folder, text, casting(SEEING, BLIND)) == [
        (
            "local:blind cannot do what stage 'a' needs (seed): it may refuse to answer, and others of the stage's models are"
            " asked then",
            True,
        )
    ]


def test_an_attachment_is_told_at_its_place_for_some_models_and_for_all(folder) -> None:
    folder.write("photo.png", b"\x89PNG")
    text = "stages: {a: {prompt: look, attach: [photo.png]}}\n"
    eyes, none = model("eyes", images=True), model("none", images=False)
    (some,) = found(folder, text, casting(eyes, none))
    assert (some.message, some.warning, some.column) == ("local:none takes no images and is passed over", True, 37)
    (all_,) = found(folder, text, casting(none))
    assert (all_.message, all_.warning) == ("local:none takes no images: 'photo.png' cannot be attached", False)


def test_where_no_model_is_configured_another_machine_may_have_one(folder) -> None:
    offline = model("offline", offline=True, tools=False)
    facts = Facts(cast=lambda stage, default: Casting(answering=(offline,)), starting=False)
    assert told(folder, TOOLS, facts) == [("local:offline cannot do what stage 'a' needs: tools", True)]
    assert told(folder, TOOLS, casting(offline)) == [("local:offline cannot do what stage 'a' needs: tools", False)]


# -- the window


def test_a_prompt_that_no_window_holds_is_an_error(folder) -> None:
    text = f"stages: {{a: {{prompt: '{'word ' * 4000}', params: {{max_tokens: 500}}}}}}\n"
    (problem,) = found(folder, text, casting(model("small", context=1_000), model("middle", context=2_000)))

    assert problem.message == (
        "the prompt of stage 'a' does not fit: about 5,000 tokens and 500 of max_tokens are more than the window holds"
        " (local:small: 1,000, local:middle: 2,000)"
    )
    assert not problem.warning
    assert problem.hint == "shorten it, lower max_tokens, or name another model"


def test_a_prompt_that_some_windows_may_not_hold_is_a_warning_that_names_them(folder) -> None:
    text = f"stages: {{a: {{prompt: '{'word ' * 4000}'}}}}\n"
    facts = casting(model("small", context=4_000), model("large", context=100_000), model("unknown"))
    assert told(folder, text, facts) == [
        (
            "the prompt of stage 'a' may not fit: about 5,000 tokens, and the window holds (local:small: 4,000)",
            True,
        )
    ]
    # A count may be twice too large, so that a window a little below it is no error.
    assert [warning for _, warning in told(folder, text, casting(model("small", context=4_000)))] == [True]
    assert told(folder, text, casting(model("large", context=100_000))) == []


def test_a_prompt_file_a_system_message_and_a_type_count_too(folder) -> None:
    folder.write("long.md", "word " * 2_000)
    text = """
    stages:
      a: {prompt: {file: long.md}, system: "${{ file('long.md') }}", output: {text: string}}
    """
    ((message, warning),) = told(folder, text, casting(model("small", context=3_000)))
    assert message.startswith("the prompt of stage 'a' may not fit: about 5,0")
    assert warning


# -- judges and prices


def test_a_model_that_judges_its_own_answers_is_told(folder) -> None:
    text = """
    stages:
      a: {prompt: hello, until: judge.score > 0.5, max: 2, judge: {rubric: Short.}}
    """
    one, other = model("one"), model("other")

    def facts(judge: ModelInfo) -> Facts:
        return Facts(cast=lambda stage, default: Casting(answering=(one,)), scorers=lambda stage, default: (judge,))

    (problem,) = found(folder, text, facts(one))
    assert problem.message == "local:one answers stage 'a' and judges its own answers"
    assert (problem.warning, problem.line, problem.column) == (True, 4, 56)
    assert told(folder, text, facts(other)) == []


def judged_by(judge: ModelInfo, *others: ModelInfo) -> Facts:
    return Facts(
        cast=lambda stage, default: Casting(answering=(model("one"),)), scorers=lambda stage, default: (judge, *others)
    )


def test_a_judge_without_room_for_the_question_is_an_error(folder) -> None:
    """It would fail after the answer was paid."""
    text = f"stages: {{a: {{prompt: '{'word ' * 4000}', until: judge.score > 0.5, max: 2, judge: {{rubric: Short.}}}}}}\n"
    (problem,) = found(folder, text, judged_by(model("small", context=1_000)))

    assert problem.message == (
        "what the judge of stage 'a' is shown does not fit: about 5,002 tokens, and its window holds less (local:small: 1,000)"
    )
    assert (problem.warning, problem.hint) == (False, "name another judge, or shorten the prompt")
    assert problem.column == text.index("judge: {") + 1
    ((message, warning),) = told(folder, text, judged_by(model("small", context=1_000), model("unknown")))
    assert (message.startswith("what the judge of stage 'a' is shown may not fit"), warning) == (True, True)
    assert told(folder, text, judged_by(model("large", context=10_000))) == []


def test_a_long_rubric_counts_for_the_judge_and_not_for_who_answers(folder) -> None:
    text = f"stages: {{a: {{prompt: hello, until: judge.score > 0.5, max: 2, judge: {{rubric: '{'word ' * 4000}'}}}}}}\n"
    ((message, warning),) = told(folder, text, judged_by(model("small", context=1_000)))
    assert (message.startswith("what the judge of stage 'a' is shown does not fit: about 5,0"), warning) == (True, False)


def test_answers_as_long_as_they_may_be_count_for_their_judge_as_a_doubt(folder) -> None:
    text = "stages: {a: {prompt: hello, strategy: best_of_two, params: {max_tokens: 600}}}\n"
    facts = casting(model("one"), model("two"), judging=(model("judge", context=1_000),))
    assert told(folder, text, facts) == [
        (
            "what the judge of stage 'a' is shown may not fit: about 1 tokens and answers of up to 1,200,"
            " and its window holds less (local:judge: 1,000)",
            True,
        )
    ]
    assert told(folder, text.replace("600", "400"), facts) == []


# -- models that an input offers


OFFERED = """
inputs: {model: small | large | lost = large, tone: kind | cold}
stages:
  a: {prompt: "${{ inputs.tone }}", model: "${{ inputs.model }}", tools: [json:dumps]}
"""


def offering(stage: Any, default: Any) -> Casting | None:
    return {"small": Casting(answering=(BLIND,)), "large": Casting(answering=(SEEING,))}.get(stage.model)


def test_models_that_an_enumeration_offers_are_checked_word_by_word(folder) -> None:
    facts = Facts(cast=offering, tiers=frozenset({"small", "large"}), knows_model=lambda name: False, starting=False)
    problems = found(folder, OFFERED, facts)

    assert [(problem.line, problem.message, problem.warning) for problem in problems] == [
        (3, "with 'lost' of the input 'model': unknown model or tier 'lost'", True),
        (5, "with 'small' of the input 'model': local:blind cannot do what stage 'a' needs: tools", True),
    ]


def test_models_that_an_enumeration_offers_are_not_looked_at_where_one_is_certain(folder) -> None:
    assert told(folder, OFFERED, replace(casting(SEEING), starting=False)) == [], "it stands in for all"
    assert told(folder, OFFERED, Facts(cast=offering, knows_model=lambda name: False)) == [], "a run has its input"


def test_only_the_input_that_names_the_model_is_looked_at(folder) -> None:
    facts = Facts(cast=offering, knows_model=lambda name: name not in {"kind", "cold"}, starting=False)
    assert [message for message, _ in told(folder, OFFERED, facts)] == [
        "with 'small' of the input 'model': local:blind cannot do what stage 'a' needs: tools"
    ]


PRICED = Price(input=1, output=2)
BUDGET = """
budget: {usd: 1}
stages:
  a: {prompt: hello, until: judge.score > 0.5, max: 2, judge: {rubric: Short.}}
"""


def test_a_budget_in_usd_names_every_model_without_a_price(folder) -> None:
    facts = Facts(
        cast=lambda stage, default: Casting(
            answering=(model("a", price=PRICED), model("b")), instead=(model("c"),), judging=(model("d"),)
        ),
        scorers=lambda stage, default: (model("e"),),
    )
    (problem,) = found(folder, BUDGET, facts)
    assert problem.message == (
        "the price of local:b, local:c, local:d, local:e is not known: the budget in USD counts nothing for what is asked there"
    )
    assert (problem.warning, problem.line, problem.column) == (True, 3, 15)


def test_a_budget_says_nothing_where_all_prices_are_known_or_nothing_is_paid(folder) -> None:
    assert told(folder, BUDGET, casting(model("a", price=PRICED), model("offline", offline=True))) == []
    assert told(folder, BUDGET.replace("usd: 1", "calls: 3"), casting(model("b"))) == []


def test_the_budget_of_the_file_that_is_run_counts_its_parts(folder) -> None:
    folder.write("part.yaml", "flowcraft: 1\nstages: {a: {prompt: hello}}\n")
    text = "budget: {usd: 1}\nstages: {b: {uses: part.yaml}}\n"
    (problem,) = found(folder, text, casting(model("b")))
    assert problem.message.startswith("the price of local:b is not known")
    assert problem.file.endswith("flow.yaml")


def test_a_group_that_only_asks_and_that_nothing_uses_is_told_and_one_that_acts_is_not(folder) -> None:
    text = """
    stages:
      asks: {stages: {a: {prompt: hello}, b: {prompt: "${{ a }}"}}}
      acts: {stages: {a: {prompt: hello}, b: {run: "json:dumps", with: {obj: "${{ a }}"}}}}
      calls: {prompt: hello, tools: [json:dumps]}
      used: {prompt: hello}
    outputs: {used: "${{ used }}"}
    """
    assert told(folder, text, Facts()) == [("nothing uses the answer of stage 'asks'", True)]


# -- all at once


def test_problems_of_the_file_and_of_its_models_come_in_one_go(folder) -> None:
    text = """
    stages:
      a: {prompt: "${{ nobody }}"}
      b: {prompt: hello, model: chep}
      c: {uses: missing.yaml}
      d: {prompt: hello, tools: [look]}
    """
    facts = Facts(tiers=frozenset({"cheap"}), knows_model=lambda name: False)
    problems = folder.problems(text, check=lambda workflow: check_workflow(workflow, facts))
    assert [(problem.line, problem.message) for problem in problems] == [
        (4, "unknown name 'nobody'"),
        (5, "unknown model or tier 'chep'"),
        (6, "there is no file missing.yaml"),
        (7, "no plugin offers a tool 'look'"),
    ]


def test_warnings_of_a_check_refuse_nothing(folder) -> None:
    workflow = folder.load(TOOLS, check=lambda workflow: check_workflow(workflow, casting(SEEING, BLIND)))
    assert list(workflow.stages) == ["a"]
