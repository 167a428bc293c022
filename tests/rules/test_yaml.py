"""The rules of "YAML"."""

from __future__ import annotations

import pytest

from flowcraft.errors import WorkflowError
from flowcraft.workflow import load_workflow

pytestmark = pytest.mark.unit

STAGES = "stages: {a: {prompt: hello}}\n"


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Yes", "12:30", "2026-11-21", "1_000", "0b1", "0o18", ".", "~x"])
def test_only_true_false_null_and_numbers_are_special(place, word):
    assert place.load(f"x-v: {word}\n{STAGES}").document.data["x-v"] == word


@pytest.mark.parametrize(
    ("written", "value"),
    [("true", True), ("null", None), ("", None), ("0x1F", 31), ("-1.5e3", -1500.0), ("0o17", 15), ("010", 10)],
)
def test_numbers_and_words_are_those_of_yaml_1_2(place, written, value):
    assert place.load(f"x-v: {written}\n{STAGES}").document.data["x-v"] == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stages: {}\nstages: {}\n", "stands twice"),
        (f"x-a: !!str b\n{STAGES}", "tags like '!!str'"),
        ("stages:\n\ta: {prompt: hello}\n", "a tab in the indentation"),
        (f"x-a: &a {{b: c}}\nx-d: {{<<: *a}}\n{STAGES}", "'<<' is not carried out"),
        (f"{STAGES}---\nmore: 1\n", "a second document"),
        (f"x-a: &a [*a]\n{STAGES}", "holds itself"),
        (f'x-a: "\\ud800"\n{STAGES}', "a lone surrogate"),
        (f"x-a: {'[' * 100}{']' * 100}\n{STAGES}", "nested deeper than 100"),
        (f"x-a: &a [{'x, ' * 5000}]\nx-b: [*a, *a]\n{STAGES}", "aliases add more than 10,000"),
    ],
    ids=["a key twice", "a tag", "a tab", "a merge key", "two documents", "a circle", "a surrogate", "depth", "aliases"],
)
def test_what_yaml_allows_and_the_language_does_not_is_an_error(place, text, told):
    assert told in place.refused(text)


def test_aliases_may_add_ten_thousand_values(place):
    assert place.load(f"x-a: &a [{'x, ' * 4998}x]\nx-b: [*a, *a]\n{STAGES}").stages


def test_a_file_holds_at_most_ten_thousand_expressions(place):
    text = "stages: {{a: {{prompt: '{}'}}}}\n"

    assert place.load(text.format("${{ run.id }}" * 10_000)).stages
    assert place.refused(text.format("${{ run.id }}" * 10_001)) == "more than 10,000 expressions in one file"


def test_a_file_has_at_most_one_megabyte(place):
    line = "#" + "x" * 99 + "\n"
    fitting = "flowcraft: 1\n" + STAGES
    fitting += (line * 9_999)[: 1_000_000 - len(fitting) - 1] + "\n"

    assert load_workflow(place.write("flow.yaml", fitting)).stages
    with pytest.raises(WorkflowError, match="at most 1 MB"):
        load_workflow(place.write("flow.yaml", fitting + "#"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x-a: " + "[" * 900_000, "nested deeper than 100"),
        ("x-a: " + "{a: " * 200_000, "nested deeper than 100"),
        ("x-a:\n  " + "- " * 400_000, "nested deeper than 100"),
        ("x-a: " + "[" * 99 + "a," * 400_000, "a value was expected here"),
        ("{a: " * 200_000, "a key without ':'"),
    ],
)
def test_size_and_depth_are_bounded_before_anything_is_built(place, text, message):
    assert place.refused(text + "\n") == message


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("stages: {a: {prompt: ${{ inputs.a }}}}", 'prompt: "${{ inputs.a }}"'),
        ("x-a:\n  when: 'a' == b", "when: \"'a' == b\""),
        ("x-a:\n  names: [string] | null", 'names: "[string] | null"'),
    ],
)
def test_where_yaml_trips_people_the_message_shows_the_quoted_form(place, line, form):
    (problem,) = place.problems(line + "\n")

    assert form in problem.hint


def test_a_key_that_a_body_does_not_take_names_the_bodies_that_do(place):
    (problem,) = place.problems("stages: {a: {prompt: hello, with: {a: 1}}}\n")

    assert problem.message == "'prompt' takes no 'with'"
    assert problem.hint.startswith("these do: run, shell, uses")


@pytest.mark.parametrize(
    ("version", "told"), [("2", "this program knows version 1"), ("'1'", "must be the version"), ("", "must be the version")]
)
def test_a_higher_or_strange_version_is_an_error(place, version, told):
    with pytest.raises(WorkflowError, match=told):
        load_workflow(place.write("flow.yaml", f"flowcraft: {version}\n{STAGES}"))
