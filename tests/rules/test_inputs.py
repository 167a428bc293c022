"""The rules of "Inputs"."""

from __future__ import annotations

import io

import pytest

from flowcraft.errors import WorkflowError
from flowcraft.workflow import bind_inputs, parse_inputs

pytestmark = pytest.mark.unit

INPUTS = """
inputs:
  text: string = none given
  count: integer = 1
  share: number = 0.5
  strict: boolean = false (review security even of large changes)
  point: "{x: integer} | null"
  names: '[string] = []'
  numbers: '[integer] = []'
  mode: fast | very slow = very slow (how)
stages: {a: {prompt: "${{ json(inputs) }}"}}
"""


def given(place, *pairs, **options):
    workflow = place.load(INPUTS.replace("very slow", "'very slow'", 1))
    return parse_inputs(workflow, pairs, **options)


PAIRS = {
    "text_as_it_is": ("text= true ", "text", " true "),
    "text_with_an_equals_sign": ("text=a=b", "text", "a=b"),
    "a_whole_number": ("count=-3", "count", -3),
    "a_number": ("share=1e3", "share", 1000.0),
    "true": ("strict=true", "strict", True),
    "an_object_as_json": ('point={"x": 1}', "point", {"x": 1}),
    "null_where_it_fits": ("point=null", "point", None),
    "one_element_of_a_list": ("names=a b", "names", ["a b"]),
    "a_whole_list": ('names=["a", "b"]', "names", ["a", "b"]),
    "a_literal_at_sign": ("text=@@home", "text", "@home"),
    "a_word_of_an_enumeration": ("mode=fast", "mode", "fast"),
}


@pytest.mark.parametrize(("pair", "name", "value"), PAIRS.values(), ids=PAIRS.keys())
def test_a_pair_gives(place, pair, name, value):
    found = given(place, pair)[name]

    assert found == value
    assert type(found) is type(value)


def test_repeated_it_appends_to_a_list(place):
    assert given(place, "numbers=1", "numbers=2")["numbers"] == [1, 2]


def test_at_reads_a_file_and_at_dash_standard_input(place):
    place.write("notes.txt", "from a file\n")

    assert given(place, f"text=@{place.path}/notes.txt")["text"] == "from a file\n"
    assert given(place, "text=@-", stdin=io.StringIO("piped"))["text"] == "piped"


def test_pairs_come_over_a_file_of_inputs(place):
    file = place.write("in.yaml", "text: a\ncount: 2\n")

    assert given(place, "count=3", file=file) == {"text": "a", "count": 3}


@pytest.mark.parametrize("pair", ["count=1.0", "count=one", "strict=yes", "strict=True", "share=x", "point={x: 1}", "text"])
def test_numbers_and_booleans_are_strict(place, pair):
    with pytest.raises(WorkflowError):
        given(place, pair)


def test_unknown_missing_and_wrong_inputs_are_listed_at_once(place):
    workflow = place.load('inputs: {a: string, b: integer}\nstages: {x: {prompt: "${{ json(inputs) }}"}}\n')

    with pytest.raises(WorkflowError) as raised:
        bind_inputs(workflow, {"b": "x", "c": 1})

    assert [problem.message for problem in raised.value.problems] == [
        "unknown input 'c'",
        "the input 'a' (string) is missing",
        "input 'b': must be an integer, not text ('x')",
    ]


def test_a_default_is_json_or_bare_words_up_to_the_description(place):
    workflow = place.load(INPUTS.replace("very slow", "'very slow'", 1))

    defaults = {name: known.default for name, known in workflow.inputs.items()}
    assert defaults["text"] == "none given"
    assert defaults["mode"] == "very slow"
    assert (defaults["count"], defaults["share"], defaults["strict"], defaults["names"]) == (1, 0.5, False, [])
    assert workflow.inputs["strict"].type.description == "review security even of large changes"


def test_an_input_is_required_unless_it_has_a_default_or_admits_null(place):
    workflow = place.load(
        'inputs: {a: string, b: string | null, c: string = x}\nstages: {s: {prompt: "${{ json(inputs) }}"}}\n'
    )

    assert [name for name, known in workflow.inputs.items() if known.required] == ["a"]


def test_an_unused_input_is_a_warning(place):
    assert place.warnings("inputs: {a: string}\nstages: {s: {prompt: hello}}\n") == ["the input 'a' is never used"]
