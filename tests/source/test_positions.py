"""Where things stand: keys, values, places inside texts of every YAML style, and what is shown of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft.errors import WorkflowError
from flowcraft.source import Position, plain_document, read_document

pytestmark = pytest.mark.unit


def document(text):
    return read_document(text, "f.yaml", WorkflowError)


def test_keys_and_values_know_their_place():
    found = document("one: 1\ntwo:\n  - a\n  - {b: ж, c: 😀x}\n")

    assert found.position(("two",), key=True) == Position("f.yaml", 2, 1, 3)
    assert found.position(("two", 0)) == Position("f.yaml", 3, 5, 1)
    assert found.position(("two", 1, "c")) == Position("f.yaml", 4, 15, 2)


def test_missing_part_is_shown_at_the_nearest_around_it():
    found = document("a: {b: 1}\n")

    assert found.position(("a", "x", "y")) == Position("f.yaml", 1, 4, 6)


def test_block_is_shown_by_its_first_key():
    assert document("a:\n  bcd: 1\n  e: 2\n").position(("a",)) == Position("f.yaml", 2, 3, 3)


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("plain text ${{ x }} end", 1),
        ("'single ''quoted'' ${{ x }}'", 1),
        ('"double \\"q\\" \\u00e9 \\x41 ${{ x }}"', 1),
        ("|\n  first\n  second ${{ x }}", 3),
        ("|2-\n    indented\n    ${{ x }}", 3),
        ("|\n\n  first\n    ${{ x }}", 4),
        (">\n  folded\n  line ${{ x }}", 3),
        (">\n  para\n\n  other ${{ x }}", 4),
        (">\n  para\n    more\n  back ${{ x }}", 4),
        ("plain\n  goes on ${{ x }}", 2),
        ("'quoted\n  goes\n\n  on ${{ x }}'", 4),
        ('"joined \\\n   by ${{ x }}"', 2),
        ("|\r\n  first\r\n  second ${{ x }}", 3),
    ],
)
def test_place_inside_a_text_is_found_in_every_style(written, line):
    found = document(f"key: {written}\n")
    offset = found.data["key"].index("${{")

    problem = found.problem(("key",), "here", offset=offset, width=8)

    assert problem.line == line
    assert found.line(line)[problem.column - 1 :].startswith("${{ x }}")
    assert problem.width == 8
    assert found.position(("key",), offset=offset).column == problem.column


@settings(deadline=None)
@given(text=st.text(alphabet="ab \"'\\\n\tж😀:#", min_size=1, max_size=40))
def test_every_character_of_a_quoted_text_is_found(text):
    import json

    found = document(f"key: {json.dumps(text, ensure_ascii=False)}\n")
    plain = [index for index, character in enumerate(text) if character in "abж😀:#"]

    for index in plain:
        column = found.problem(("key",), "here", offset=index, width=1).column
        assert found.text[column - 1] == text[index]


def test_block_without_an_end_points_at_its_last_character():
    found = document("key: |\n  ab")

    assert found.problem(("key",), "here", offset=99).line == 2


def test_caret_counts_cells_of_the_terminal():
    (problem,) = (document("k: 世界 ${{ x }}\n").problem(("k",), "here", offset=3, width=8),)

    assert problem.column == 7
    assert problem.caret == " " * 8 + "^" * 8


def test_combining_characters_take_no_cell():
    problem = document("k: e\u0301e\u0301 x\n").problem(("k",), "here", offset=5, width=1)

    assert problem.caret == " " * 6 + "^"


def test_tabs_are_shown_as_one_space():
    problem = document("k: a\tb\n").problem(("k",), "here", offset=2, width=1)

    assert problem.excerpt == "k: a b"
    assert problem.caret == "     ^"


def test_long_line_is_cut_around_its_place():
    found = document("k: " + "x" * 500 + " y\n")
    problem = found.problem(("k",), "here", offset=501, width=1)

    assert len(problem.excerpt) <= 170
    assert problem.excerpt[len(problem.caret) - 1] == "y"


def test_plain_text_has_places_too():
    problem = plain_document("one\ntwo three\n", "p.md").problem((), "here", offset=8, width=5)

    assert problem.place == "p.md:2:5"
    assert str(problem).endswith("    2 | two three\n      |     ^^^^^")


def test_warning_says_that_it_is_one():
    assert "f.yaml:1:4: warning: hm" in str(document("a: 1\n").problem(("a",), "hm", warning=True))


def test_message_about_endless_text_is_cut():
    document = read_document("a: 1\n", "f.yaml", WorkflowError)

    problem = document.problem(("a",), "it says " + "x" * 100_000 + " and no more")

    assert problem.message.startswith("it says xxx")
    assert problem.message.endswith("xxx and no more")
    assert len(problem.message) < 1000
