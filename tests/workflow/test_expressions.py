"""Expressions: the whitelist, null, truth, comparisons and functions."""

from __future__ import annotations

import pytest

from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.expressions.syntax import parse_expression

pytestmark = pytest.mark.unit

SCOPE = {
    "text": "abc",
    "number": 3,
    "list": [1, 2, 3],
    "object": {"a": {"b": [{"c": "deep"}]}, "class": "odd"},
    "nothing": None,
    "yes": True,
    "empty": [],
}


def value(text):
    return parse_expression(text).evaluate(SCOPE)


def refuse(text):
    with pytest.raises(ExpressionError) as raised:
        parse_expression(text)
    return raised.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("null", None),
        ("true", True),
        ("false", False),
        ("-3", -3),
        ("+2.5", 2.5),
        ("1e3", 1000.0),
        ("'it\\'s'", "it's"),
        ('"\\u0436\\n"', "ж\n"),
        ("[1, 'a', null]", [1, "a", None]),
        ("object.a.b[0].c", "deep"),
        ("object['class']", "odd"),
        ("list[-1]", 3),
        ("list[0] == 1 and number >= 3", True),
        ("1 < number <= 3", True),
        ("1 < number < 3", False),
        ("'b' in text", True),
        ("2 in list", True),
        ("yes == 1", False),
        ("yes != 1", True),
        ("yes == true", True),
        ("1 == 1.0", True),
        ("yes in [1]", False),
        ("1 in [true, 1]", True),
        ("'a' in object", True),
        ("5 not in list", True),
        ("not yes", False),
        ("not 5 in list", True),
        ("text if yes else number", "abc"),
        ("empty or 'none'", "none"),
        ("text and number", 3),
        ("nothing and nothing.x", None),
        ("  text ==\n  'abc'  ", True),
        ("(number)", 3),
        ("[1, 2] < [1, 3]", True),
        ("'a' < 'b'", True),
    ],
)
def test_whitelisted_grammar_is_evaluated(text, expected):
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nothing.a.b[3].c", None),
        ("nothing['a']", None),
        ("object.missing", None),
        ("object.missing.further", None),
        ("list[99]", None),
        ("list[-99]", None),
        ("text.field", None),
        ("number[0]", None),
        ("list['a']", None),
        ("list[true]", None),
        ("object[0]", None),
        ("len(nothing)", 0),
        ("nothing < 3", False),
        ("3 >= nothing", False),
        ("nothing <= nothing", False),
        ("'a' in nothing", False),
        ("'a' not in nothing", True),
        ("nothing in text", False),
        ("any(nothing)", False),
        ("all(nothing)", False),
        ("nothing == null", True),
        ("nothing != 3", True),
    ],
)
def test_through_null_everything_is_null_and_no_order_holds(text, expected):
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("len(text)", 3),
        ("len(list)", 3),
        ("len(object)", 2),
        ("any([false, 1])", True),
        ("all([])", True),
        ("any(empty)", False),
        ("default(nothing, object.none, 'x')", "x"),
        ("default(0, 1)", 0),
        ("default(nothing)", None),
        ("json(text)", '"abc"'),
        ("json(nothing)", "null"),
        ("json([true, 'ж'])", '[\n  true,\n  "ж"\n]'),
    ],
)
def test_functions(text, expected):
    assert value(text) == expected


@pytest.mark.parametrize(
    ("text", "heart", "hint", "offset"),
    [
        ("number + 1", "arithmetic", "run", 0),
        ("number * 2", "arithmetic", "run", 7),
        ("number / 2", "arithmetic", "run", 7),
        ("-number", "a sign stands only before a number", "run", 0),
        ("None", "'None' is not of the language", "write null", 0),
        ("yes == True", "'True' is not of the language", "write true", 7),
        ("yes is true", "'is' is not carried out", "write '=='", 4),
        ("yes = true", "'=' compares nothing", "write '=='", 4),
        ("yes && true", "'&'", "write 'and'", 4),
        ("yes || true", "'|'", "write 'or'", 4),
        ("!yes", "'!'", "write 'not'", 0),
        ("object.class", "'class' is a word of the grammar", "['class']", 7),
        ("object.__class__", "names that begin with '__'", "", 7),
        ("__import__", "names that begin with '__'", "", 0),
        ("text.upper()", "values cannot be called", "functions are", 0),
        ("lenn(text)", "unknown function 'lenn'", "did you mean 'len'?", 0),
        ("len", "'len' is a function", "len(x)", 0),
        ("len(text, 1)", "len() with 2 values", "len(x)", 0),
        ("default()", "default() with 0 values", "", 0),
        ("list[0:1]", "':' is not carried out", "", 6),
        ("{'a': 1}", "an object cannot be written", "", 0),
        ("[x for x in list]", "comprehensions", "", 3),
        ("lambda: 1", "functions cannot be written", "", 0),
        ("f'{text}'", "takes no prefix", "", 0),
        ("b'x'", "takes no prefix", "", 0),
        ("'a' 'b'", "two texts side by side", "", 4),
        ("'''a'''", "two texts side by side", "", 2),
        ("text, number", "several values", "[a, b]", 0),
        ("text # no", "a comment", "", 5),
        ("$text", "'$'", "", 0),
        ("0x1F", "is no number", "", 0),
        ("1_000", "is no number", "", 0),
        ("007", "does not begin with 0", "", 0),
        ("1e999", "too large", "", 0),
        ("'\\d'", "is no escape", "", 1),
        ("'\\ud800'", "lone surrogate", "", 0),
        ("'abc", "a quote that is not closed", "", 0),
        ("(text", "a '(' that is not closed", "", 0),
        ("text)", "that was not opened", "", 4),
        ("text number", "'number' was not expected here", "", 5),
        ("number >", "ends too early", "", 7),
        ("text if yes", "'if' without 'else'", "", 0),
        ("", "is empty", "", 0),
        (" \n ", "is empty", "", 0),
        ("世界 == 'ж' and number + 1", "arithmetic", "", 14),
        ("text if", "ends too early", "", 6),
        ("file(text)", "the path of file() is written out", "", 5),
        ("file('x')", "file() cannot be used here", "", 5),
    ],
)
def test_what_is_not_of_the_language_is_refused_at_its_column(text, heart, hint, offset):
    error = refuse(text)

    assert heart in error.message
    assert hint in error.hint
    assert error.offset == offset


def test_length_and_depth_are_bounded():
    assert "at most 1000" in refuse("'" + "x" * 1000 + "'").message
    assert value("not " * 18 + "yes") is True
    for deep in ("not " * 30 + "yes", "[" * 30 + "]" * 30, "-" * 900 + "1", "(" * 400 + "1" + ")" * 400, "a" + ".b" * 30):
        assert "deeper than 20" in refuse(deep).message


@pytest.mark.parametrize(
    ("text", "heart"),
    [
        ("text < number", "'<' cannot compare text with a number"),
        ("yes > 0", "'>' cannot compare a boolean with a number"),
        ("object < object", "'<' cannot compare an object with an object"),
        ("list < ['a']", "their elements differ in kind"),
        ("1 in number", "cannot look for a number in a number"),
        ("1 in text", "cannot look for a number in text"),
        ("len(number)", "len() takes text, a list or an object, not a number"),
        ("any(text)", "any() takes a list, not text"),
        ("unknown", "'unknown' has no value here"),
    ],
)
def test_what_cannot_be_evaluated_says_why_and_where(text, heart):
    with pytest.raises(ExpressionError) as raised:
        value(text)

    assert heart in str(raised.value)
    assert "column 1" in str(raised.value)
    assert f"(in: {text})" in str(raised.value)


def test_error_at_run_time_names_the_file(folder):
    workflow = folder.load("inputs: {x: any}\nstages:\n  a:\n    when: true and inputs.x < 3\n    prompt: hello\n")

    with pytest.raises(ExpressionError, match=r"flow\.yaml:5:20: '<' cannot compare text with a number"):
        workflow.stages["a"].when.evaluate({"inputs": {"x": "text"}})


def test_mentions_are_known():
    expression = parse_expression("text if run.stages.draft.tries > 1 and run.stages['gate'].state else len(list)")

    assert expression.names == {"text", "run", "list"}
    assert expression.run_stages == {"draft", "gate"}
    assert not expression.constant
    assert parse_expression("1 < 2").constant
