"""The rules of "Types"."""

from __future__ import annotations

import sys

import pytest

from flowcraft.workflow.types.type import TypeMismatch

pytestmark = pytest.mark.unit


def kind(place, written, types="{}"):
    return place.load(f"types: {types}\nstages: {{a: {{prompt: hello, output: {written}}}}}\n").stages["a"].output


@pytest.mark.parametrize(
    "written", ["string", "integer", "number", "boolean", "any", "'[string]'", "{a: integer}", "low | high", "string | null"]
)
def test_a_type_is_written_in_words(place, written):
    assert kind(place, written).json_schema() is not None


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("string | integer", "a union of several types"),
        ("low | string", "words and types do not mix"),
        ("strng", "unknown type 'strng'"),
        ("'[string, integer]'", "not closed"),
        ("[string, integer]", "exactly one element type"),
        ("low | low", "stands twice"),
        ("{}", "an object type without fields"),
        ("string = a", "only inputs have a default"),
        ("nowhere:Model", "there is no module 'nowhere'"),
    ],
)
def test_what_is_no_type_is_an_error(place, written, told):
    assert told in place.refused(f"stages: {{a: {{prompt: hello, output: {written}}}}}\n")


def test_two_words_or_more_that_are_no_types_are_an_enumeration(place):
    assert kind(place, "low | medium | high | null").json_schema()["enum"] == ["low", "medium", "high", None]


def test_a_word_near_a_types_name_is_a_warning(place):
    (told,) = place.warnings("stages: {a: {prompt: hello, output: strng | other}}\n")

    assert told == "the word 'strng' of the enumeration is near the type 'string'"


def test_named_types_stand_in_any_order(place):
    assert kind(place, "A", "{A: {b: B}, B: '[C]', C: string | null}").check({"b": ["x", None]}) == {"b": ["x", None]}


def test_a_circle_of_types_is_an_error(place):
    assert "a circle of types: A -> B -> A" in place.refused("types: {A: {b: B}, B: '[A]'}\nstages: {a: {prompt: hello}}\n")


def test_a_pydantic_model_is_found_at_load_and_imported_when_the_run_starts(place):
    place.write("shapes.py", "raise SystemExit('imported')\nclass Shape: ...\n")
    workflow = place.load("stages: {a: {prompt: hello, output: 'shapes:Shape'}, b: {prompt: '${{ a.any.thing }}'}}\n")

    assert workflow.stages["a"].output.text == "shapes:Shape"
    assert "shapes" not in sys.modules
    assert "has no 'Shap'" in place.refused("stages: {a: {prompt: hello, output: 'shapes:Shap'}}\n")


def test_a_full_json_schema_stands_under_schema(place):
    found = kind(place, "{schema: {type: object, properties: {n: {type: integer, minimum: 3}}}}")

    assert found.check({"n": 3}) == {"n": 3}
    with pytest.raises(TypeMismatch, match="n: 2 is less than the minimum"):
        found.check({"n": 2})


def test_text_in_parentheses_describes_a_field(place):
    assert kind(place, "{score: number (0 to 1)}").json_schema()["properties"]["score"]["description"] == "0 to 1"


def test_a_field_that_admits_null_may_be_left_out_and_extra_fields_are_dropped(place):
    assert kind(place, "{a: string, b: integer | null, c: any}").check({"a": "x", "d": 1}) == {"a": "x", "b": None, "c": None}


@pytest.mark.parametrize(
    ("written", "value"), [("integer", True), ("number", "1"), ("boolean", 1), ("string", 1), ("integer", 1.5)]
)
def test_nothing_is_converted(place, written, value):
    with pytest.raises(TypeMismatch):
        kind(place, written).check(value)


def test_a_whole_number_may_be_written_with_a_point(place):
    assert kind(place, "integer").check(3.0) == 3


def test_what_may_be_null_fits_everywhere_at_load(place):
    place.steps("def need(n: int) -> int:\n    return n\n")
    place.load('inputs: {x: integer | null}\nstages: {a: {run: "steps:need", with: {n: "${{ inputs.x }}"}}}\n')


@pytest.mark.integration
async def test_null_in_a_parameter_that_does_not_take_it_fails_when_it_runs(place):
    place.steps("def need(n: int) -> int:\n    return n\n")
    result = await place.run('inputs: {x: integer | null}\nstages: {a: {run: "steps:need", with: {n: "${{ inputs.x }}"}}}\n')

    assert (result.state, "takes no null" in result.error) == ("failed", True)


def test_default_drops_null_from_the_type(place):
    text = 'inputs: {{x: string | null}}\nstages: {{a: {{prompt: "${{{{ {} }}}}"}}}}\n'

    assert "is text and has no field" in place.refused(text.format("default(inputs.x, '').y"))


RESULTS = {
    "a_prompt_gives_text": ("prompt: hello", "a.x", "is text"),
    "a_function_gives_its_return_annotation": ('run: "steps:number"', "a.x", "is a number"),
    "a_command_gives_its_ends": ("shell: ls", "a.out", "it has: exit_code, stdout, stderr"),
    "a_group_gives_the_object_of_its_stages": ("stages: {b: {prompt: hello}}", "a.c", "it has: b"),
    "each_gives_a_list": ("each: [1], prompt: hello", "a.x", "is a list"),
    "another_workflow_gives_its_outputs": ("uses: part.yaml", "a.y", "it has: x"),
    "output_comes_before_all": ('run: "steps:number", output: {n: integer}', "a.x", "it has: n"),
}


@pytest.mark.parametrize(("stage", "mention", "told"), RESULTS.values(), ids=RESULTS.keys())
def test_result(place, stage, mention, told):
    place.steps("def number() -> int:\n    return 1\n")
    place.write("part.yaml", "flowcraft: 1\nstages: {x: {prompt: hello}}\noutputs: {x: '${{ x }}'}\n")

    assert told in place.refused(f'stages: {{a: {{{stage}}}, z: {{prompt: "${{{{ {mention} }}}}"}}}}\n')


async def test_what_a_body_returns_is_checked_and_extra_fields_are_dropped(place):
    place.steps("def both():\n    return {'a': 1, 'b': 2}\n")
    fine = await place.run('stages: {a: {run: "steps:both", output: {a: integer, c: string | null}}}\n')
    wrong = await place.run('stages: {a: {run: "steps:both", output: {a: string, d: integer}}}\n')

    assert fine.outputs == {"a": {"a": 1, "c": None}}
    assert wrong.error == "stage a: a: must be text, not a number (1); d: is missing"
