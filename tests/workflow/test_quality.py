"""The keys that say how good an answer is wanted: strategy, judge, confidence."""

from __future__ import annotations

import pytest

from flowcraft.plugin import BodyOptions, StageBody
from flowcraft.workflow import Facts, check_workflow
from flowcraft.workflow.words import STRATEGIES

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_is_read(folder, strategy):
    assert folder.load(f"stages: {{a: {{prompt: hello, strategy: {strategy}}}}}\n").stages["a"].strategy == strategy


def test_what_is_not_said_is_left_to_settings(folder):
    stage = folder.load("stages: {a: {prompt: hello}}\n").stages["a"]

    assert (stage.strategy, stage.judge, stage.confidence) == (None, None, None)


def test_a_rubric_is_a_template_that_sees_what_the_prompt_sees(folder):
    workflow = folder.load(
        """
        inputs: {tone: string}
        stages:
          facts: {prompt: hello}
          a:
            each: [1, 2]
            prompt: hello
            strategy: best_of_two
            judge: {model: expensive, rubric: "${{ inputs.tone }} ${{ facts }} ${{ item }}"}
        """
    )
    judge = workflow.stages["a"].judge

    assert judge.model == "expensive"
    assert judge.rubric.text({"inputs": {"tone": "kind"}, "facts": "so", "item": 2}) == "kind so 2"
    assert workflow.stages["a"].depends == ("facts",)


def test_a_rubric_may_stand_in_a_file(folder):
    folder.write("rubric.md", "Shorter is better.")

    workflow = folder.load("stages: {a: {prompt: hello, strategy: best_of_two, judge: {rubric: {file: rubric.md}}}}\n")

    assert workflow.stages["a"].judge.rubric.text({}) == "Shorter is better."
    assert any(path.endswith("rubric.md") for path in workflow.files)


@pytest.mark.parametrize("written", ["0", "1", "0.75", ".5"])
def test_a_confidence_is_a_number_from_nothing_to_one(folder, written):
    assert folder.load(f"stages: {{a: {{prompt: hello, confidence: {written}}}}}\n").stages["a"].confidence == float(written)


def test_a_default_strategy_reaches_prompts_alone_and_stages_come_before_it(folder):
    workflow = folder.load(
        """
        defaults: {strategy: cascade}
        stages:
          a: {prompt: hello}
          b: {prompt: hello, strategy: single}
          c: {run: "json:dumps", with: {obj: 1}}
        """
    )

    assert [stage.strategy for stage in workflow.stages.values()] == ["cascade", "single", None]


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        ("strategy: best_of_two", False),
        ("strategy: cascade", False),
        ("confidence: 0.5", False),
        ("strategy: single, confidence: 0.5", False),
        ("on_error: fail", False),  # settings may say best_of_two
        ("strategy: single", True),
        ("strategy: hedge", True),
    ],
)
def test_a_judge_needs_something_to_judge(folder, keys, refused):
    text = f"stages: {{a: {{prompt: hello, judge: {{rubric: short}}, {keys}}}}}\n"

    if refused:
        (problem,) = folder.problems(text)
        assert problem.hint == "it goes with strategy: best_of_two, or with 'until'"
    else:
        assert folder.load(text).stages["a"].judge is not None


def test_a_default_that_leaves_nothing_to_judge_is_seen(folder):
    text = "defaults: {strategy: single}\nstages: {a: {prompt: hello, judge: {rubric: short}}}\n"

    assert folder.messages(text) == ["'judge' has nothing to choose from with strategy single"]


class Asking(StageBody):
    key = "asking"
    takes = frozenset({"strategy", "confidence"})

    class Options(BodyOptions):
        question: str


def test_a_plugins_body_takes_what_it_says(folder):
    text = "stages: {a: {asking: {question: why}, strategy: hedge, confidence: 0.4}}\n"
    stage = folder.load(text, bodies={"asking": Asking}).stages["a"]

    assert (stage.strategy, stage.confidence) == ("hedge", 0.4)


JUDGED = """
stages:
  a:
    prompt: hello
    strategy: best_of_two
    judge: {model: expensiv, rubric: short}
"""


def test_the_judges_model_is_checked_like_the_stages(folder):
    facts = Facts(tiers=frozenset({"cheap", "expensive"}), knows_model=lambda name: False)

    (problem,) = check_workflow(folder.load(JUDGED), facts)

    assert (problem.line, problem.column) == (7, 20)
    assert problem.message == "unknown model or tier 'expensiv'"
    assert "did you mean 'expensive'?" in problem.hint
    assert not problem.warning
    assert check_workflow(folder.load(JUDGED), Facts(tiers=frozenset({"expensiv"}))) == []


def test_what_the_models_cannot_carry_out_is_a_warning_where_the_strategy_stands(folder):
    asked = []

    def doubts(stage, default):
        asked.append((stage.name, stage.strategy, default))
        return [f"no {stage.strategy} here"]

    workflow = folder.load(
        """
        defaults: {strategy: cascade, model: cheap}
        stages:
          a: {prompt: hello}
          b: {prompt: hello, strategy: best_of_two}
          c: {run: "json:dumps", with: {obj: 1}}
        """
    )

    found = check_workflow(workflow, Facts(tiers=frozenset({"cheap"}), doubts=doubts))

    assert asked == [("a", "cascade", "cheap"), ("b", "best_of_two", "cheap")]
    assert [(problem.line, problem.column, problem.message, problem.warning) for problem in found] == [
        (3, 22, "no cascade here", True),
        (6, 32, "no best_of_two here", True),
    ]


def test_a_judge_without_a_strategy_is_doubted_where_it_stands(folder):
    workflow = folder.load("stages: {a: {prompt: hello, judge: {rubric: short}}}\n")

    (problem,) = check_workflow(workflow, Facts(doubts=lambda stage, default: ["nothing to judge"]))

    assert (problem.line, problem.message, problem.warning) == (2, "nothing to judge", True)
    assert workflow.document.text.splitlines()[1][problem.column - 1 :].startswith("{rubric")


def test_nothing_is_doubted_that_settings_say(folder):
    workflow = folder.load("stages: {a: {prompt: hello}}\n")

    assert check_workflow(workflow, Facts(doubts=lambda stage, default: ["doubt"])) == []
