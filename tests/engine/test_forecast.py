"""Forecasts: what follows from a workflow, from what is known of its inputs, from earlier runs, and by default."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flowcraft.engine.forecasts.estimates import ELEMENTS, OUTPUT, SECONDS, WORK
from flowcraft.engine.forecasts.figures import Ask, Forecast, StageForecast
from flowcraft.engine.forecasts.forecast import forecast
from flowcraft.engine.forecasts.past import History, Past, PastCall, PastPiece, history
from flowcraft.engine.forecasts.ranges import ONCE, Range, observed
from flowcraft.plugin.capabilities import ModelInfo, Price
from flowcraft.workflow import Stage, Workflow, bind_inputs, load_workflow

pytestmark = pytest.mark.unit

PRICED = ModelInfo(model="m", provider="local", price=Price(input=10, output=100))
FREE = ModelInfo(model="offline", provider="offline", offline=True)
UNPRICED = ModelInfo(model="u", provider="local")


def by(*asks: Ask) -> Any:
    return lambda stage, workflow: asks


ONE = by(Ask(model=PRICED, calls=ONCE, output=Range.exactly(100), seconds=Range.exactly(2)))


class Files:
    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, text: str, name: str = "flow.yaml") -> Workflow:
        (self.path / name).write_text(f"flowcraft: 1\n{text}", encoding="utf-8")
        return load_workflow(self.path / name)

    def plan(self, text: str, asks: Any = ONE, past: History | None = None, **inputs: Any) -> Forecast:
        workflow = self.load(text)
        return forecast(workflow, bind_inputs(workflow, inputs), past or History(), asks)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def of(made: Forecast, path: str) -> StageForecast:
    return next(stage for stage in made.stages if stage.path == path)


def bounds(amount: Range | None) -> tuple[float, float, float]:
    assert amount is not None
    return (round(amount.low, 6), round(amount.likely, 6), round(amount.high, 6))


# -- what the file and the inputs say


def test_a_list_of_the_inputs_is_counted_and_worked_on_as_many_at_a_time_as_parallel_says(files: Files) -> None:
    text = "inputs: {words: '[string]'}\nstages: {a: {each: inputs.words, parallel: 2, prompt: 'Say ${{ item }}'}}\n"
    made = files.plan(text, words=["one", "two", "three", "four", "five"])
    assert bounds(made.calls) == (5, 5, 5)
    assert bounds(made.output) == (500, 500, 500)
    assert bounds(made.seconds) == (6, 6, 6), "three rounds of two seconds"
    assert made.runs == 0


def test_a_list_that_another_stage_makes_of_the_inputs_has_as_many_elements(files: Files) -> None:
    text = """
inputs: {words: "[string]"}
stages:
  a: {each: inputs.words, prompt: "Say ${{ item }}"}
  b: {each: a, stages: {c: {prompt: "${{ item }}"}, d: {each: a, prompt: "${{ item }}"}}}
"""
    past = History(runs=1, stages={"b": Past(elements=(9,), tries=(1,), calls=(0,), seconds=(1,))})
    made = files.plan(text, past=past, words=["x", "y", "z"])
    assert bounds(of(made, "b/c").calls) == (3, 3, 3)
    assert bounds(of(made, "b/d").calls) == (9, 9, 9)


def test_elements_that_when_leaves_out_are_not_counted(files: Files) -> None:
    text = "inputs: {words: '[string]'}\nstages: {a: {each: inputs.words, when: item != 'no', prompt: hello}}\n"
    assert bounds(files.plan(text, words=["yes", "no", "yes"]).calls) == (2, 2, 2)


def test_a_list_that_is_not_known_before_the_run_is_a_range_that_is_named(files: Files) -> None:
    text = "stages: {a: {run: 'json:loads', with: {s: '[]'}}, b: {each: a, prompt: 'Say ${{ item }}'}}\n"
    made = files.plan(text)
    assert bounds(made.calls) == bounds(ELEMENTS)
    assert "b: no history of its list: 1 to 10 elements (default)" in made.defaults


def test_a_condition_on_inputs_is_settled_and_another_one_is_not(files: Files) -> None:
    text = "inputs: {go: boolean}\nstages: {a: {when: inputs.go, prompt: hello}, b: {when: a == 'x', prompt: hello}}\n"
    no, yes = files.plan(text, go=False), files.plan(text, go=True)
    assert bounds(of(no, "a").calls) == (0, 0, 0)
    assert not any(default.startswith("a:") for default in no.defaults)
    assert bounds(of(yes, "a").calls) == (1, 1, 1)
    assert bounds(of(yes, "b").calls) == (0, 1, 1)


def test_tries_go_to_max_and_further_goes_to_retry(files: Files) -> None:
    made = files.plan("stages: {a: {until: len(a) > 9, max: 4, retry: 2, prompt: hello}}\n")
    assert bounds(made.calls) == (1, 2, 12)
    assert "a: no history of its tries: 1 to 4 (default)" in made.defaults


def test_a_group_multiplies_what_is_in_it(files: Files) -> None:
    text = """
inputs: {chapters: "[string]"}
stages:
  book:
    each: inputs.chapters
    parallel: 3
    stages:
      draft: {prompt: hello}
      edit: {each: [1, 2], prompt: "${{ draft }}"}
"""
    made = files.plan(text, chapters=["a", "b", "c"])
    assert bounds(of(made, "book/draft").calls) == (3, 3, 3)
    assert bounds(of(made, "book/edit").calls) == (6, 6, 6)
    assert bounds(made.seconds) == (6, 6, 6), "the three chapters at once, in each a draft and two edits one after the other"


def test_time_is_that_of_the_longest_path_and_not_the_sum(files: Files) -> None:
    text = """
stages:
  a: {prompt: hello}
  b: {prompt: hello}
  c: {each: [1, 2, 3], prompt: hello}
  d: {prompt: "${{ a }} ${{ b }}"}
  e: {prompt: "${{ c }}"}
finally:
  f: {prompt: "${{ e }}"}
"""
    made = files.plan(text)
    assert bounds(made.seconds) == (10, 10, 10), "c, e, then what is last"
    assert bounds(made.calls) == (8, 8, 8)


def test_a_timeout_bounds_the_time_of_an_element(files: Files) -> None:
    slow = by(Ask(model=PRICED, calls=ONCE, seconds=Range(low=1, likely=10, high=100)))
    made = files.plan("stages: {a: {prompt: hello, timeout: 20s}}\n", slow)
    assert bounds(made.seconds) == (1, 10, 20)


def test_max_tokens_bounds_the_answer(files: Files) -> None:
    made = files.plan("stages: {a: {prompt: hello, params: {max_tokens: 50}}}\n")
    assert bounds(made.output) == (50, 50, 50)


def test_another_workflow_is_a_part_of_the_forecast(files: Files) -> None:
    files.load("inputs: {words: '[string]'}\nstages: {a: {each: inputs.words, prompt: hello}}\n", "part.yaml")
    text = "inputs: {w: '[string]'}\nstages: {p: {each: [1, 2], uses: part.yaml, with: {words: '${{ inputs.w }}'}}}\n"
    made = files.plan(text, w=["x", "y"])
    assert bounds(of(made, "p/a").calls) == (4, 4, 4)


def test_a_workflow_that_uses_itself_ends(files: Files) -> None:
    made = files.plan("inputs: {n: integer = 0}\nstages: {p: {when: inputs.n > 9, uses: flow.yaml, with: {n: 10}}}\n")
    assert bounds(made.calls) == (0, 0, 0)
    deep = files.plan(
        "inputs: {n: integer = 0}\nstages: {a: {prompt: x}, p: {when: a == 'x', uses: flow.yaml, with: {n: 1}}}\n"
    )
    assert deep.calls.high == 5
    assert any("is followed 4 deep" in default for default in deep.defaults)


# -- who is asked


def test_the_parts_of_an_answer_are_summed_and_those_at_once_are_not_waited_for(files: Files) -> None:
    two = by(
        Ask(model=PRICED, calls=ONCE, seconds=Range.exactly(4), output=Range.exactly(10)),
        Ask(model=PRICED, calls=ONCE, waits=Range.exactly(0), seconds=Range.exactly(4), output=Range.exactly(10)),
        Ask(model=PRICED, calls=Range(low=0, likely=2, high=2), waits=ONCE, seconds=Range.exactly(1), output=Range.exactly(10)),
    )
    made = files.plan("stages: {a: {prompt: hello}}\n", two)
    assert bounds(made.calls) == (2, 4, 4)
    assert bounds(made.seconds) == (5, 5, 5)


def test_an_unknown_price_is_said_and_never_nothing(files: Files) -> None:
    def asks(stage: Stage, workflow: Workflow) -> Sequence[Ask]:
        return [Ask(model=UNPRICED if stage.name == "b" else PRICED, calls=ONCE, output=Range.exactly(100))]

    made = files.plan("stages: {a: {prompt: hello}, b: {prompt: hello}}\n", asks)
    assert made.unpriced == ("local:u",)
    assert of(made, "b").usd is None
    assert made.usd.likely > 0.01, "what is known is summed"


def test_the_offline_model_costs_nothing(files: Files) -> None:
    made = files.plan("stages: {a: {prompt: hello}}\n", by(Ask(model=FREE, calls=ONCE)))
    assert (bounds(made.usd), made.unpriced) == ((0, 0, 0), ())


@pytest.mark.parametrize(
    ("budget", "told"),
    [
        ("usd: 0.001", "the budget of 0.001 USD would be reached"),
        ("calls: 2", "the budget of 2 calls may be reached"),
        ("calls: 3", ""),
        ("tokens: 150", "the budget of 150 tokens would be reached"),
        ("time: 3s", "the budget of 3 s would be reached"),
    ],
)
def test_the_budget_of_the_file_is_compared(files: Files, budget: str, told: str) -> None:
    text = f"budget: {{{budget}}}\nstages: {{a: {{until: len(a) > 9, max: 3, prompt: hello}}}}\n"
    assert files.plan(text).budget == ((told,) if told else ())


# -- by default


def test_what_is_not_known_goes_by_defaults_that_are_named(files: Files) -> None:
    made = files.plan(
        "stages: {a: {prompt: 'x ${{ b }}'}, b: {shell: 'true'}}\n",
        lambda stage, workflow: [Ask(model=PRICED, calls=ONCE)] if stage.name == "a" else [],
    )
    assert bounds(made.output) == bounds(OUTPUT)
    assert bounds(made.seconds) == bounds(SECONDS + WORK)
    assert set(made.defaults) == {
        "b: no history: 0.01 to 10 s (default)",
        "a: no history: 8 to 3,008 tokens in for a call (measured from the prompt)",
        "a: no history of its model: 20 to 2,000 tokens out, 1 to 40 s a call (default)",
    }


def test_without_inputs_what_can_be_told_is_told(files: Files) -> None:
    workflow = files.load("inputs: {words: '[string]'}\nstages: {a: {each: inputs.words, prompt: 'Say ${{ item }}'}}\n")
    made = forecast(workflow, None, History(), ONE)
    assert bounds(made.calls) == bounds(ELEMENTS)


# -- by earlier runs


def test_earlier_runs_are_read_by_stage_element_and_try() -> None:
    pieces = [
        PastPiece(run="r", path="a[0]", seconds=1),
        PastPiece(run="r", path="a[1]", seconds=3),
        PastPiece(run="r", path="b#1", seconds=2),
        PastPiece(run="r", path="b#1/judge", seconds=9),
        PastPiece(run="r", path="b#2", seconds=4),
        PastPiece(run="r", path="b", seconds=6),
        PastPiece(run="r", path="c/call[1]", seconds=5),
        PastPiece(run="r", path="c", seconds=7),
        PastPiece(run="r", path="g[0]/x", seconds=1),
        PastPiece(run="r", path="g[0]", seconds=1),
        PastPiece(run="r", path="g[1]", seconds=1),
        PastPiece(run="r", path="skipped", state="skipped"),
    ]
    calls = [
        PastCall(run="r", path="a[0]~1", input=10, output=1, usd=0.1),
        PastCall(run="r", path="a[0]~2", input=10, output=1, usd=0.1),
        PastCall(run="r", path="a[1]~1", input=20, output=2, usd=0.1),
        PastCall(run="r", path="b#1", input=5, output=5),
        PastCall(run="r", path="b#1/judge", input=7, output=7),
        PastCall(run="r", path="b#2", input=5, output=5),
        PastCall(run="r", path="c", input=1, output=1, usd=0.5),
    ]
    known = history(["r", "empty"], pieces, calls).stages
    assert known["a"] == Past(
        elements=(2, 0), tries=(1,), calls=(1.5,), input=(20,), output=(2,), usd=(pytest.approx(0.15),), seconds=(2,)
    )
    assert (known["b"].tries, known["b"].calls, known["b"].seconds, known["b"].usd) == ((2,), (1.5,), (3,), ())
    assert (known["c"].calls, known["c"].seconds) == ((1,), (7,))
    assert known["g/x"].elements == (0.5,), "it ran in one of the two elements of its group"
    assert "skipped" not in known


def test_what_was_observed_is_wider_the_less_there_is_of_it() -> None:
    few, many = observed([10, 20], 0.5), observed([10, 20] * 10, 0.5)
    assert few.low < many.low < 10
    assert 20 < many.high < few.high
    assert bounds(observed([3, 3, 3])) == (3, 3, 3)
    assert observed([8], 0.5).high == 10


def test_earlier_runs_come_before_what_models_are_known_for(files: Files) -> None:
    known = Past(
        elements=(1, 1, 1),
        tries=(1, 1, 1),
        calls=(2, 2, 2),
        input=(90, 100, 110),
        output=(9, 10, 11),
        usd=(0.1, 0.2, 0.3),
        seconds=(4, 5, 6),
    )
    made = files.plan("stages: {a: {prompt: hello, retry: 3}}\n", past=History(runs=3, stages={"a": known}))
    assert bounds(made.calls) == (2, 2, 2)
    assert made.input.low < 90
    assert made.input.likely == 100
    assert made.input.high > 110
    assert made.usd.likely == 0.2
    assert of(made, "a").basis == "3 earlier runs"
    assert (made.runs, made.defaults) == (3, ())


def test_known_inputs_come_before_what_earlier_runs_had(files: Files) -> None:
    known = Past(elements=(9, 9), tries=(1, 1), calls=(1, 1), input=(5, 5), output=(5, 5), usd=(1, 1), seconds=(1, 1))
    past = History(runs=2, stages={"a": known})
    text = "inputs: {words: '[string]'}\nstages: {a: {each: inputs.words, prompt: hello}}\n"
    assert bounds(files.plan(text, past=past, words=["x", "y"]).calls) == (2, 2, 2)
    assert bounds(forecast(files.load(text), None, past, ONE).calls) == (9, 9, 9)


def test_a_stage_that_some_runs_skipped_may_be_skipped_again(files: Files) -> None:
    known = Past(elements=(1, 0, 0), tries=(1,), calls=(1,), input=(5,), output=(5,), usd=(1,), seconds=(1,))
    text = "stages: {a: {run: 'json:loads', with: {s: '1'}}, b: {when: a == 1, prompt: hello}}\n"
    made = files.plan(text, past=History(runs=3, stages={"b": known}))
    assert bounds(of(made, "b").calls) == (0, 0, 1)
