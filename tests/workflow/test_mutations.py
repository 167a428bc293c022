"""Whatever is done to a valid file, the answer is a workflow or a WorkflowError, never a traceback."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowcraft.errors import WorkflowError
from flowcraft.source import read_document
from flowcraft.workflow import Facts, check_workflow, load_workflow
from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.expressions.syntax import parse_expression

pytestmark = pytest.mark.unit

VALID = """\
flowcraft: 1
name: review
inputs:
  diff: string (a unified diff)
  strict: boolean = false (review security too)
types:
  Finding: {file: string, line: integer | null, severity: low | medium | high}
env: [GH_TOKEN]
budget: {usd: 2.5, calls: 10, time: 2h}
defaults: {model: cheap, timeout: 5m, retry: {max: 2, backoff: 1s}}
x-note: &note [a, b]
stages:
  files:
    run: json:dumps
    with: {obj: "${{ inputs.diff }}", skipkeys: true}
    output: {files: [string], tests: boolean}
  style:
    each: files.files
    parallel: 4
    when: index < 10 and item != 'x'
    prompt: |
      Style problems in ${{ item }}
      ${{ default(files.tests, 'none') }}
    system: "be short"
    output: {findings: [Finding]}
    params: {temperature: 0.2, stop: *note}
    on_error: continue
  report:
    needs: [style]
    prompt: "Merge ${{ json(style) }} $${{ not this }}"
  loop:
    each: [1, 2]
    until: loop.check > 0.5 and judge.score > 0.5
    max: 3
    judge: {rubric: "Good: ${{ loop.draft }}"}
    stages:
      draft: {prompt: "Try ${{ iteration }} for ${{ item }}: ${{ report }} ${{ judge.reasons }}"}
      check: {needs: [draft], until: iteration == 2, max: 2, prompt: "Score ${{ draft }}", output: number}
finally:
  tell: {run: json:dumps, with: {obj: "${{ run.state }} ${{ run.error }} ${{ loop }}"}}
outputs: {text: "${{ report }}", worst: "${{ style[0].findings[0].severity }}"}
"""

PIECES = st.sampled_from(
    [
        *["${{", "}}", "{", "}", "[", "]", ":", " ", "\n", "\t", "'", '"', "|", "-", "&a", "*a", "!!", "<<: ", "---\n", "#"],
        *["null", "true", "1e999", "\x00", "\ud800", "é", "世", "😀", "%", "@", "`", "  ", "item", "run", "env", "file('x')"],
        *[
            "(",
            ")",
            "=",
            "==",
            ".",
            ",",
            "not ",
            "in",
            "stages",
            "finally",
            "until",
            "iteration",
            "judge",
            "output",
            "schema: {type: object}",
            "each",
            "a.b:C",
            "\r\n",
        ],
        *["\x85", "\u2028", "\ufeff", "((((((((((", "- - - ", "? ", "0" * 400, "{file: x}"],
    ]
)


@st.composite
def mutated(draw) -> str:
    text = VALID
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(text)))
        length = draw(st.sampled_from([0, 0, 1, 1, 2, 5, 20, 80]))
        text = text[:place] + draw(st.one_of(PIECES, st.just(""), st.text(max_size=3))) + text[place + length :]
    return text


def test_the_example_is_valid(folder):
    assert load_workflow(folder.write("flow.yaml", VALID)).name == "review"


def refused(call) -> tuple:
    """Return the problems of a refusal; nothing where ``call`` went well."""
    try:
        call()
    except WorkflowError as error:
        return error.problems or ("no problem was named",)
    return ()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=mutated())
def test_mutated_file_is_loaded_or_refused_with_a_place(text, tmp_path: Path):
    path = tmp_path / "flow.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))

    problems = refused(lambda: check_workflow(load_workflow(path), Facts()))

    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)
    assert all(str(problem).encode() for problem in problems)


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(max_size=60), st.text(alphabet="{}[]:,-'\"|>&*!#%\n \tab1.?~", max_size=60)))
def test_any_text_is_read_or_refused(text):
    problems = refused(lambda: read_document(text, "f.yaml", WorkflowError))

    assert all(problem.line >= 1 for problem in problems)


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(max_size=40), st.text(alphabet="ab.[]()'\"<>=! \n0129,notinrelsfd-+_", max_size=40)))
def test_any_expression_is_read_or_refused_and_evaluated_or_refused(text):
    scope = {"a": {"b": [1, None]}, "b": "text", "n": None}
    # What is neither a value nor an ExpressionError ends this test.
    with contextlib.suppress(ExpressionError):
        parse_expression(text).evaluate(scope)
