"""Where two texts meet: what the second repeats of the first is left out, and nothing else."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcraft.llm.seam import LAST_WORDS, WINDOW, Seam, last_words, repeated

pytestmark = pytest.mark.unit


def joined(old: str, new: str) -> str:
    left_out = repeated(old, new)
    assert left_out is not None
    return old + new[left_out:]


@pytest.mark.parametrize(
    ("old", "new", "whole"),
    [
        ("The cat sat", " on the mat.", "The cat sat on the mat."),
        ("The cat sa", "t on the mat.", "The cat sat on the mat."),
        ("The cat sat", "The cat sat on", "The cat sat on"),
        ("The cat sat", "cat sat on", "The cat sat on"),
        ("The cat sat", "sat on", "The cat sat on"),
        ("The cat sa", "sat on", "The cat sat on"),
        ("The cat sat", "\n\nThe cat sat on", "The cat sat on"),
        ("The cat ", "cat sat", "The cat sat"),
        ("The cat ", " sat", "The cat sat"),
        ("The cat ", "sat", "The cat sat"),
        ("The cat.\n\n", "cat.\n\n\nNext", "The cat.\n\n\nNext"),
        ("The cat.\n\n", "cat.\nNext", "The cat.\n\nNext"),
        ("The cat.\n\n", "cat. Next", "The cat.\n\nNext"),
        ("The cat.\n\n", "\nNext", "The cat.\n\nNext"),
        ("The cat.\n", "  Next", "The cat.\n  Next"),
        ("The cat sat", "The cat sat", "The cat sat"),
        ("Hel", "lo", "Hello"),
        ("ba", "nana", "banana"),
        ("今天", "天气很好", "今天天气很好"),
        ("今天天气很好，我们", "今天天气很好，我们去公园", "今天天气很好，我们去公园"),
        ("研究", "研究一下", "研究一下"),
        ("我们研究", "研究一下", "我们研究研究一下"),
        ("a = {", "{1}", "a = {{1}"),
        ("|-----", "------|", "|-----------|"),
        ("f() {\n    }\n", "  }\n}", "f() {\n    }\n  }\n}"),
        ("👩‍👩‍", "👧‍👦", "👩‍👩‍👧‍👦"),
        ("e", "\u0301te", "e\u0301te"),
        ("", "all", "all"),
        ("   ", "all", "   all"),
        ("all", "", "all"),
    ],
)
def test_texts_are_put_together(old: str, new: str, whole: str) -> None:
    assert joined(old, new) == whole


texts = st.text(alphabet=st.sampled_from("ab .\né今天🙂\u0301"), max_size=80)


@given(old=texts, new=texts, cuts=st.lists(st.integers(0, 80), max_size=8))
def test_a_seam_in_pieces_is_the_seam_of_the_whole(old: str, new: str, cuts: list[int]) -> None:
    places = sorted({0, len(new), *(cut for cut in cuts if cut < len(new))})
    seam = Seam(old)
    shown = "".join(seam.add(new[start:end]) for start, end in pairwise(places)) + seam.end()
    assert old + shown == joined(old, new)


@given(old=texts, new=texts)
def test_what_is_left_out_stands_at_the_end_already_but_for_white_space(old: str, new: str) -> None:
    left_out = repeated(old, new)
    assert left_out is not None
    dropped = new[:left_out].split()
    assert "".join(old.split()).endswith("".join(dropped))


words = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=300)


@given(whole=words, cut=st.integers(1, 300), lead=st.sampled_from(["", " ", "\n"]))
def test_a_model_that_begins_with_the_last_words_loses_no_character(whole: str, cut: int, lead: str) -> None:
    old = whole[:cut]
    asked = last_words(old)
    if asked:
        again = whole[len(old.rstrip()) - len(asked) :]
        assert joined(old, lead + again) == whole


@given(old=words)
def test_last_words_are_some_and_whole(old: str) -> None:
    asked = last_words(old)
    assert len(asked) <= LAST_WORDS
    assert old.rstrip().endswith(asked)
    assert bool(asked) is bool(old.strip())


def test_last_words_begin_with_a_word() -> None:
    assert last_words("x" * 30 + " one two three four five six seven eight") == "one two three four five six seven eight"
    assert last_words("x" * 100) == "x" * LAST_WORDS


def test_a_repetition_is_held_back_until_it_is_certain_and_no_longer() -> None:
    seam = Seam("The cat sat on the mat. It was")
    assert [seam.add(piece) for piece in ("mat. ", "It w", "as", " warm", " there")] == ["", "", "", " warm", " there"]
    assert seam.end() == ""
    assert Seam("The cat sat").add(" on") == " on"


def test_no_more_is_held_back_than_is_looked_at() -> None:
    old = "ab" * WINDOW
    seam = Seam(old)
    held = 0
    while not seam.add("ab"):
        held += 2
        assert held <= WINDOW
