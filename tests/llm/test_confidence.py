"""How sure an answer is: from tokens, and from how well two answers agree."""

from __future__ import annotations

from math import exp, inf, log, nan

import pytest

from flowcraft.llm.confidence import SHORT_TEXT, agreement, comparable, sequence_confidence, token_probability
from flowcraft.plugin import TokenLogprob

pytestmark = pytest.mark.unit


def token(logprob: float) -> TokenLogprob:
    return TokenLogprob(token="x", logprob=logprob)


@pytest.mark.parametrize(
    ("logprob", "probability"),
    [(0.0, 1.0), (log(0.5), 0.5), (-20.0, exp(-20)), (1e-7, 1.0), (-9999.0, 0.001), (-inf, 0.001), (nan, 0.001)],
)
def test_a_tokens_probability(logprob, probability):
    assert token_probability(token(logprob)) == pytest.approx(probability)


def test_a_texts_confidence_is_the_geometric_mean_whatever_its_length():
    assert sequence_confidence([token(log(0.9)), token(log(0.4))]) == pytest.approx((0.9 * 0.4) ** 0.5)
    assert sequence_confidence([token(log(0.7))] * 10_000) == pytest.approx(0.7)
    assert sequence_confidence([]) is None


def test_one_token_that_is_only_told_to_be_unlikely_does_not_undo_all_others():
    tokens = [token(0.0)] * 99 + [token(-9999.0)]

    assert sequence_confidence(tokens) == pytest.approx(0.001 ** (1 / 100))
    assert sequence_confidence([token(-9999.0)]) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("It is Paris.", "it is  PARIS", 1.0),
        ("Paris", "Rome", 0.0),
        ("It is safe", "It is not safe", 0.75),
        ("The answer is 42", "The answer is 43", 0.0),
        ("In 1,969 men", "in 1,969 men", 1.0),
        ("Don't", "don’t", 1.0),
        ("Москва", "москва!", 1.0),
        ("北京是首都", "北京是首都。", 1.0),
        ("北京是首都", "南京是首都", 2 / 3),
        ("👍", "👍", 1.0),
        ("👍", "👎", 0.0),
        ("", "", 1.0),
        ("", "x", 0.0),
        ("ﬁne", "fine", 1.0),
    ],
)
def test_texts_agree_by_their_words(first, second, expected):
    assert agreement(first, second) == pytest.approx(expected)
    assert agreement(second, first) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"a": 1, "b": {"c": [1, 2]}}, {"b": {"c": [1, 2]}, "a": 1}, 1.0),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, 0.5),
        ({"a": 1}, {"a": 1, "b": 3}, 0.5),
        ([1, 2, 3], [1, 2], 2 / 3),
        ({"a": "Yes."}, {"a": "yes"}, 1.0),
        ({"a": "x y z"}, {"a": "x y"}, 0.0),
        ({"a": True}, {"a": 1}, 0.0),
        ({"a": 1}, {"a": 1.0}, 1.0),
        ({"a": None}, {"a": None}, 1.0),
        ({"a": None}, {}, 0.0),
        ({}, {}, 1.0),
        ([], {}, 0.0),
        (3, 3, 1.0),
        ("3", 3, 0.0),
        (None, None, 1.0),
    ],
)
def test_values_agree_by_their_leaves(first, second, expected):
    assert agreement(first, second) == pytest.approx(expected)
    assert agreement(second, first) == pytest.approx(expected)


def test_values_may_nest_deeper_than_python_can_go():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]

    assert agreement(deep, deep) == 1.0
    assert comparable(deep)


def test_only_what_has_no_long_text_is_compared():
    assert comparable("x" * SHORT_TEXT)
    assert not comparable("x" * (SHORT_TEXT + 1))
    assert comparable({"a": ["short"] * 1000, "b": 1})
    assert not comparable({"a": 1, "b": ["x" * (SHORT_TEXT + 1)]})
