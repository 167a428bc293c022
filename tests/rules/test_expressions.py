"""The rules of "Expressions"."""

from __future__ import annotations

import pytest

from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.expressions.syntax import parse_expression

pytestmark = pytest.mark.unit


def value(text, **scope):
    return parse_expression(text).evaluate(scope)


def refused(text):
    with pytest.raises(ExpressionError) as raised:
        parse_expression(text)
    return raised.value


VALUES = {
    "a_field_of_null_is_null": ("x.a.b[0]['c']", None),
    "an_index_of_null_is_null": ("x[0]", None),
    "a_missing_field_of_an_any_is_null": ("o.gone.more", None),
    "an_index_out_of_range_is_null": ("l[7]", None),
    "an_index_before_the_first_is_null": ("l[-4]", None),
    "an_index_counts_from_the_end": ("l[-1]", 3),
    "a_field_of_what_is_no_object_is_null": ("n.real", None),
    "a_field_of_a_text_is_null": ("s['upper']", None),
    "a_field_that_is_no_plain_name_stands_in_brackets": ("o['class']", 7),
    "the_length_of_null_is_0": ("len(x)", 0),
    "the_length_of_an_object_is_its_fields": ("len(o)", 2),
    "no_order_holds_with_null": ("x < 1 or x >= 1 or 1 <= x or x <= x", False),
    "nothing_is_in_null": ("1 in x", False),
    "everything_is_not_in_null": ("1 not in x", True),
    "null_equals_null": ("x == null", True),
    "any_of_null_is_false": ("any(x)", False),
    "all_of_null_is_false": ("all(x)", False),
    "any_looks_for_one": ("any([0, 1])", True),
    "all_looks_at_every_one": ("all([0, 1])", False),
    "default_is_the_first_that_is_not_null": ("default(x, o.gone, 0, 1)", 0),
    "default_of_nothing_but_null_is_null": ("default(x, null)", None),
    "true_equals_no_number": ("true == 1 or [true] == [1] or 1 in [true]", False),
    "whole_and_broken_numbers_are_equal": ("1 == 1.0", True),
    "text_equals_no_number": ("'1' == 1", False),
    "comparisons_are_chained": ("1 <= n < 5", True),
    "and_gives_the_operand_that_decides": ("0 and o", 0),
    "or_gives_the_operand_that_decides": ("'' or 'b'", "b"),
    "only_one_side_is_looked_at": ("n if true else l < 1", 3),
    "truth_is_that_of_python": ("not null and not 0 and not '' and not [] and not false", True),
    "a_sign_stands_before_a_number": ("-1", -1),
    "in_looks_into_text": ("'b' in 'abc'", True),
    "in_looks_into_a_list": ("3 in l", True),
    "in_looks_for_a_field": ("'class' in o", True),
    "json_quotes_text": ("json('a\\nb')", '"a\\nb"'),
    "json_of_null_is_null": ("json(x)", "null"),
    "json_keeps_letters": ("json('é')", '"é"'),
    "newlines_count_as_spaces": ("n\n  ==\n3", True),
    "text_of_both_quotes": ("""'"' == "\\"" """, True),
}


@pytest.mark.parametrize(("text", "wanted"), VALUES.values(), ids=VALUES.keys())
def test_value(text, wanted):
    found = value(text, x=None, n=3, s="text", l=[1, 2, 3], o={"a": 1, "class": 7})

    assert found == wanted
    assert type(found) is type(wanted)


def test_json_is_the_text_that_inserting_gives(place):
    workflow = place.load("inputs: {x: any}\nstages: {a: {prompt: '${{ inputs.x }}'}, b: {prompt: '${{ json(inputs.x) }}'}}\n")
    scope = {"inputs": {"x": {"b": ["é", None], "a": 1.5}}}

    a, b = (workflow.stages[name].body.prompt.text(scope) for name in "ab")
    assert a == b == '{\n  "b": [\n    "é",\n    null\n  ],\n  "a": 1.5\n}'


REFUSED = {
    "arithmetic": ("a + 1", "arithmetic is not carried out"),
    "a_call_on_a_value": ("a.b()", "values cannot be called"),
    "an_unknown_function": ("max(a)", "unknown function 'max'"),
    "a_comprehension": ("[b for b in a]", "comprehensions are not carried out"),
    "an_object": ("{'a': 1}", "an object cannot be written here"),
    "a_slice": ("a[1:2]", "no slices"),
    "is": ("a is null", "'is' is not carried out"),
    "an_f_string": ("f'{a}'", "quoted text takes no prefix"),
    "a_byte_string": ("b'a'", "quoted text takes no prefix"),
    "joined_strings": ("'a' 'b'", "not joined"),
    "a_dunder": ("a.__class__", "names that begin with '__' are not read"),
    "a_sign_before_a_name": ("-a", "a sign stands only before a number"),
    "a_word_of_the_grammar_as_a_field": ("a.class", "is a word of the grammar"),
    "an_empty_expression": (" ", "the expression is empty"),
    "a_tuple": ("1, 2", "several values"),
    "an_if_without_else": ("1 if a", "'if' without 'else'"),
}


@pytest.mark.parametrize(("text", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_is_no_part_of_the_language(text, told):
    assert told in str(refused(text))


@pytest.mark.parametrize(("written", "meant"), [("True", "true"), ("False", "false"), ("None", "null")])
def test_the_words_of_python_are_refused_and_the_message_says_ours(written, meant):
    assert refused(f"a == {written}").hint == f"write {meant}"


def test_a_thousand_characters_are_the_limit():
    assert value("'" + "a" * 998 + "'")
    assert "1001 characters; at most 1000" in str(refused("'" + "a" * 999 + "'"))


@pytest.mark.parametrize("around", [("(", ")"), ("[", "]"), ("not ", ""), ("len(", ")")])
def test_twenty_levels_are_the_limit(around):
    def nested(levels):
        return around[0] * levels + "true" + around[1] * levels

    parse_expression(nested(19))
    assert "nested deeper than 20" in str(refused(nested(21)))


def test_columns_count_characters(place):
    (problem,) = place.problems("stages:\n  a: {prompt: 'Grüße 🙂: ${{ nobody }}'}\n")

    assert (problem.line, problem.column) == (3, 29)


@pytest.mark.parametrize("written", ["true", "1", "[1]", "''"])
def test_a_condition_may_be_a_boolean_a_number_or_a_list(place, written):
    if written == "''":
        assert place.refused("stages: {a: {prompt: hello, when: ''}}\n") == "the expression is empty"
    else:
        assert place.load(f"stages: {{a: {{prompt: hello, when: {written}}}}}\n").stages["a"].when.evaluate({})


def test_conditions_are_written_bare(place):
    assert "is written without ${{ }}" in place.refused("stages: {a: {prompt: hello, when: '${{ true }}'}}\n")


TYPED = {
    "a_field_of_text": ("inputs.s.x", "'inputs.s' is text and has no field 'x'"),
    "an_unknown_field": ("inputs.o.b", "unknown field 'b' of 'inputs.o' (it has: a)"),
    "a_field_of_a_list": ("inputs.l.a", "'inputs.l' is a list and has no field 'a'"),
    "a_word_that_an_enumeration_lacks": ("inputs.e == 'mid'", "'mid' is none of the words low, high"),
    "such_a_word_in_a_list": ("inputs.e in ['low', 'mid']", "'mid' is none of the words low, high"),
    "text_and_numbers_in_order": ("inputs.s < 1", "'<' cannot compare text with a number"),
    "the_length_of_a_number": ("len(inputs.n)", "len() takes text, a list or an object, not a number"),
    "any_of_text": ("any(inputs.s)", "any() takes a list, not text"),
    "an_index_that_is_no_whole_number": ("inputs.l['x' if true else 'y']", "a list is indexed by a whole number"),
    "an_unknown_name": ("nobody", "unknown name 'nobody'"),
    "an_input_without_inputs": ("s", "unknown name 's'"),
}


@pytest.mark.parametrize(("text", "told"), TYPED.values(), ids=TYPED.keys())
def test_mistakes_of_types_are_found_at_load(place, text, told):
    inputs = '{s: string, n: integer, l: "[string]", o: "{a: string}", e: low | high}'
    used = "${{ json(inputs) }}"

    (problem,) = place.problems(f'inputs: {inputs}\nstages: {{a: {{prompt: "${{{{ {text} }}}} {used}"}}}}\n')

    assert problem.message.startswith(told)


def test_a_condition_that_is_text_is_a_warning(place):
    told = place.warnings("stages: {a: {prompt: hello}, b: {when: a, prompt: hello}}\n")

    assert told == ["the condition is text: it holds unless the text is empty"]
