"""Scalars, keys and limits of the YAML that settings and workflows are read with."""

from __future__ import annotations

import pytest
import yaml

from flowcraft.errors import SettingsError, WorkflowError
from flowcraft.source import read_document

pytestmark = pytest.mark.unit


def read(text):
    return read_document(text, "f.yaml", SettingsError).data


def refuse(text):
    with pytest.raises(SettingsError) as raised:
        read_document(text, "f.yaml", SettingsError)
    return raised.value.problems


@pytest.fixture(params=["libyaml", "pure Python"])
def parser(request, monkeypatch):
    if request.param == "pure Python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    return request.param


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-7", -7),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.5e-1", -0.05),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("2024-05-01", "2024-05-01"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("0b11", "0b11"),
        ("'true'", "true"),
        ('"12"', "12"),
        ("+", "+"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_only_true_false_null_and_numbers_are_special(written, value, parser):
    found = read(f"key: {written}\n")["key"]

    assert found == value
    assert type(found) is type(value)


def test_keys_are_text_as_written():
    assert read("on: 1\n12: 2\ntrue: 3\n1.0: 4\n") == {"on": 1, "12": 2, "true": 3, "1.0": 4}


def test_text_of_all_languages_and_a_byte_order_mark_are_read(parser):
    assert read("\ufeffa: привет 世界 😀\n".encode()) == {"a": "привет 世界 😀"}


def test_windows_line_ends_are_read(parser):
    assert read("a: 1\r\nb:\r\n  - x\r\n") == {"a": 1, "b": ["x"]}


def test_an_empty_document_is_null(parser):
    assert read("") is None
    assert read("# nothing\n") is None


def test_aliases_are_values_again(parser):
    assert read("a: &x {b: [1, 2]}\nc: *x\nd: [*x, *x]\n")["d"][1] == {"b": [1, 2]}


def test_ten_thousand_nodes_by_alias_are_allowed_and_one_more_is_not(parser):
    body = "a: &x [" + ", ".join(["1"] * 99) + "]\nb: [" + ", ".join(["*x"] * 100)

    assert len(read(body + "]\n")["b"]) == 100
    assert "aliases add more than 10,000" in refuse(body + ", *x]\n")[0].message


def test_depth_counts_what_an_alias_brings(parser):
    deep = "a: &x " + "[" * 60 + "]" * 60

    read(deep + "\nb: *x\n")
    assert "deeper than 100" in refuse(deep + "\nb: " + "[" * 50 + "*x" + "]" * 50 + "\n")[0].message


def test_hundred_levels_are_allowed(parser):
    read("[" * 100 + "]" * 100)

    assert "deeper than 100" in refuse("[" * 101 + "]" * 101)[0].message


@pytest.mark.parametrize(
    ("text", "place", "heart", "hint"),
    [
        ("a: 1\na: 2\n", "f.yaml:2:1", "stands twice (first in line 1)", ""),
        ("a: !!str x\n", "f.yaml:1:4", "tags like '!!str'", "quotes"),
        ("a: !x [1]\n", "f.yaml:1:4", "tags like '!x'", ""),
        ("a: &b {c: 1}\nd:\n  <<: *b\n", "f.yaml:3:3", "'<<' is not carried out", "write the keys out"),
        ("a: 1\n---\nb: 1\n", "f.yaml:2:1", "a second document", ""),
        ("a: &x [*x]\n", "f.yaml:1:8", "'*x' holds itself", ""),
        ("a: *x\n", "f.yaml:1:4", "'*x' names no anchor", '"*x"'),
        ("a:\n\tb: 1\n", "f.yaml:2:1", "a tab in the indentation", "spaces"),
        ("a:\n  b: 1\n\tc: 1\n", "f.yaml:3:1", "a tab in the indentation", "spaces"),
        ("? [a]\n: 1\n", "f.yaml:1:3", "a key must be plain text", ""),
        ("*a : 1\n", "f.yaml:1:1", "a key must be plain text", ""),
        ("'': 1\n", "f.yaml:1:1", "a key must not be empty", ""),
        ("a: " + "9" * 400, "f.yaml:1:4", "this number is too large", "quotes"),
        ("a: @x\n", "f.yaml:1:4", "text cannot begin with '@'", '"@x"'),
        ("a: 'x\n", "f.yaml:1:4", "a quote that is not closed", ""),
        ("a: [1, 2\nb: 1\n", "f.yaml:2:2", "a '[' (in line 1) that is not closed", ""),
        ("a: {b: 1\n", "f.yaml:1:4", "a '{' that is not closed", ""),
        ("a\nb: 1\n", "f.yaml:2:2", "a ':' where no key can stand", "indentation"),
        ("a:\n  - x\n b: 1\n", "f.yaml:3:2", "", "indentation"),
        ("- a\nb: 1\n", "f.yaml:2:1", "", "indentation"),
        ("a: \x00\n", "f.yaml:1:4", "a control character", ""),
        ("a: \ud800\n", "f.yaml:1:4", "a lone surrogate", ""),
    ],
)
def test_what_is_wrong_is_said_at_its_place(text, place, heart, hint, parser):
    problem = refuse(text)[0]

    assert problem.place == place
    assert heart in problem.message
    assert hint in problem.hint


def test_escaped_lone_surrogate_is_refused():
    (problem,) = refuse('a: "\\ud83d"\n')

    assert "a lone surrogate" in problem.message
    assert problem.line == 1


def test_several_mistakes_of_keys_come_together():
    problems = refuse("a: 1\na: 2\nb: !x 1\n<<: {}\n")

    assert [problem.line for problem in problems] == [2, 3, 4]


def test_mistakes_end_after_fifty():
    assert len(refuse("a: 1\n" * 200)) == 50


@pytest.mark.parametrize(
    ("line", "form"),
    [
        ("a: {prompt: ${{ x }}}", 'a: {prompt: "${{ x }}"}'),
        ("each: [${{ x['k'] }}, 1]", "each: [\"${{ x['k'] }}\", 1]"),
        ("when: 'a' == b", "when: \"'a' == b\""),
        ('when: "a" == b', "when: '\"a\" == b'"),
        ("type: [string] | null", 'type: "[string] | null"'),
        ("type: {a: string} | null", 'type: "{a: string} | null"'),
        ("prompt: Say this: why", 'prompt: "Say this: why"'),
        ("prompt: `code`", 'prompt: "`code`"'),
    ],
)
def test_yaml_trap_shows_the_quoted_form(line, form):
    (problem,) = refuse(line + "\n")

    assert form in problem.hint
    assert read(form + "\n")


def test_the_error_is_the_one_that_was_asked_for():
    with pytest.raises(WorkflowError):
        read_document("a: 1\na: 1\n", "f.yaml", WorkflowError)


def test_a_megabyte_is_the_limit():
    read("a: " + "x" * 999_990)

    (problem,) = refuse("a: " + "世" * 400_000)
    assert "1.2 MB" in problem.message
