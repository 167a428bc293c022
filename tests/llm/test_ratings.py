"""What verdicts say of models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft.llm.knowledge.ratings import Ratings, Standing, Tally
from flowcraft.llm.ports import VerdictRecord

pytestmark = pytest.mark.unit

MODELS = ("p:a", "p:b", "p:c", "p:d")
WINNERS = st.sampled_from(["first", "second", "tie", "none"])


def verdict(first: str, second: str, winner: str, stage: str = "", task: str = "") -> VerdictRecord:
    return VerdictRecord(id="", time=0.0, first=first, second=second, winner=winner, stage=stage, task=task)  # type: ignore[arg-type]


def rated(verdicts: Iterable[VerdictRecord]) -> Ratings:
    ratings = Ratings()
    for item in verdicts:
        ratings.add(item)
    return ratings


def overall(ratings: Ratings) -> dict[str, float | None]:
    return {model: ratings.rating(model) for model in MODELS}


verdicts = st.lists(
    st.tuples(st.sampled_from(MODELS), st.sampled_from(MODELS), WINNERS).map(lambda drawn: verdict(*drawn)), max_size=40
)


@given(strengths=st.permutations([0.0, 1.0, 2.0, 3.0]), seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_with_enough_verdicts_the_order_of_ratings_is_that_of_the_true_rates(strengths: Sequence[float], seed: int) -> None:
    random = Random(seed)
    true = dict(zip(MODELS, strengths, strict=True))
    played = []
    for _ in range(6000):
        first, second = random.sample(MODELS, 2)
        wins = random.random() < 1 / (1 + math.exp(true[second] - true[first]))
        played.append(verdict(first, second, "first" if wins else "second"))
    found = overall(rated(played))
    assert sorted(MODELS, key=lambda model: found[model] or 0.0) == sorted(MODELS, key=true.__getitem__)
    # And the distances are those of the model: within half a unit of what was put in.
    for one, other in itertools.pairwise(MODELS):
        assert (found[one] or 0.0) - (found[other] or 0.0) == pytest.approx(true[one] - true[other], abs=0.5)


@given(played=verdicts, random=st.randoms(use_true_random=False))
def test_the_order_of_verdicts_does_not_matter(played: list[VerdictRecord], random: Random) -> None:
    shuffled = random.sample(played, len(played))
    assert overall(rated(shuffled)) == overall(rated(played))


@given(played=verdicts)
def test_who_stands_first_does_not_matter(played: list[VerdictRecord]) -> None:
    turned = {"first": "second", "second": "first"}
    other = [verdict(item.second, item.first, turned.get(item.winner, item.winner)) for item in played]
    assert overall(rated(other)) == overall(rated(played))


@given(played=verdicts)
def test_wins_and_losses_add_up(played: list[VerdictRecord]) -> None:
    ratings = rated(played)
    counted = [item for item in played if item.winner != "none" and item.first != item.second]
    tallies = [ratings.record(model) for model in MODELS]
    assert sum(tally.wins for tally in tallies) == sum(tally.losses for tally in tallies) == len(counted)


def test_a_model_that_always_wins_stays_finite_and_grows_with_its_wins() -> None:
    few, many = (rated([verdict("p:a", "p:b", "first")] * count) for count in (1, 10_000))
    assert 0 < few.rating("p:a") < many.rating("p:a") < 20
    assert few.rating("p:b") == pytest.approx(-few.rating("p:a"))


def test_ties_are_half_a_win_each() -> None:
    ratings = rated([verdict("p:a", "p:b", "tie"), verdict("p:a", "p:b", "first"), verdict("p:b", "p:a", "none")])
    assert ratings.record("p:a") == Tally(wins=1.5, losses=0.5)
    assert ratings.record("p:b") == Tally(wins=0.5, losses=1.5)
    assert ratings.wins("p:a") == 1.5
    assert rated([verdict("p:a", "p:b", "tie")] * 7).rating("p:a") == 0.0


def test_ratings_are_kept_by_stage_and_task() -> None:
    ratings = rated(
        [
            *[verdict("p:a", "p:b", "first", stage="draft", task="coding")] * 3,
            *[verdict("p:a", "p:b", "second", stage="review")] * 9,
        ]
    )
    assert ratings.rating("p:a", stage="draft") > 0 > ratings.rating("p:a", stage="review")
    assert ratings.rating("p:a", task="coding") > 0 > ratings.rating("p:a")
    assert ratings.rating("p:a", stage="elsewhere") is None
    assert ratings.rating("p:c") is None
    assert (ratings.wins("p:a", "draft"), ratings.wins("p:a", "elsewhere")) == (3, 0)
    assert ratings.record("p:b", "review") == Tally(wins=9, losses=0)


def test_models_are_compared_where_all_of_them_were_judged() -> None:
    ratings = rated(
        [
            verdict("p:a", "p:b", "first", stage="draft", task="coding"),
            verdict("p:b", "p:c", "second", task="coding"),
            verdict("p:c", "p:a", "first"),
        ]
    )
    pair = ["p:a", "p:b"]
    assert ratings.strengths(pair, stage="draft") == {model: ratings.rating(model, stage="draft") for model in pair}
    three = ["p:a", "p:b", "p:c"]
    in_task = {model: ratings.rating(model, task="coding") for model in three}
    # p:c was never judged in the stage, and p:d never at all: that one keeps nobody from being compared.
    assert ratings.strengths([*three, "p:d"], stage="draft", task="coding") == in_task
    assert ratings.strengths(three, stage="draft") == {model: ratings.rating(model) for model in three}
    assert ratings.strengths(["p:d"]) == {}


def test_new_verdicts_count_after_a_rating_was_asked_for() -> None:
    ratings = rated([verdict("p:a", "p:b", "first")])
    before = ratings.rating("p:a")
    ratings.add(verdict("p:a", "p:b", "first"))
    assert ratings.rating("p:a") > before


# -- standing


def test_one_that_always_loses_is_out_after_six_losses_whichever_stands_first() -> None:
    for first, second, winner in (("p:a", "p:b", "first"), ("p:b", "p:a", "second")):
        standing = Standing()
        seen = []
        for _ in range(6):
            standing.add(verdict(first, second, winner, stage="s"))
            seen.append(standing.out(first, second, stage="s", level=0.05))
        assert seen == [""] * 5 + ["p:b"]
        assert standing.out("p:b", "p:a", stage="s", level=0.05) == "p:b"
        assert standing.out(first, second, stage="other", level=0.05) == ""


def test_one_that_is_out_comes_back_once_it_wins() -> None:
    standing = Standing()
    for _ in range(1000):
        standing.add(verdict("p:a", "p:b", "first"))
    assert standing.out("p:a", "p:b", stage="", level=0.05) == "p:b"
    needed = 0
    while standing.out("p:a", "p:b", stage="", level=0.05):
        standing.add(verdict("p:a", "p:b", "second"))
        needed += 1
    assert needed == 2


def test_level_zero_leaves_nobody_out_and_a_stricter_level_waits_longer() -> None:
    standing = Standing()
    out_at: dict[float, int] = {}
    for number in range(1, 100):
        standing.add(verdict("p:a", "p:b", "first"))
        for level in (0.0, 0.001, 0.05, 0.5, 1.0):
            if standing.out("p:a", "p:b", stage="", level=level):
                out_at.setdefault(level, number)
    assert out_at == {1.0: 1, 0.5: 2, 0.05: 6, 0.001: 12}


def test_a_level_that_is_asked_for_late_sees_what_was_before() -> None:
    early, late = Standing(), Standing()
    random = Random(3)
    for _ in range(300):
        item = verdict("p:a", "p:b", random.choice(["first", "first", "first", "second", "tie"]))
        early.add(item)
        late.add(item)
        early.out("p:a", "p:b", stage="", level=0.05)
    assert late.out("p:a", "p:b", stage="", level=0.05) == early.out("p:a", "p:b", stage="", level=0.05)


def test_ties_and_verdicts_that_did_not_come_about_put_nobody_out() -> None:
    standing = Standing()
    for winner in ("tie", "none"):
        for _ in range(500):
            standing.add(verdict("p:a", "p:b", winner))
    assert standing.out("p:a", "p:b", stage="", level=0.5) == ""


def share_out(rate: float, seed: int, tasks: int = 1000) -> float:
    """Return for which share of tasks a contestant that wins at ``rate`` is out, with a tenth of those asking it still."""
    random, standing, out = Random(seed), Standing(), 0
    for _ in range(tasks):
        weak = standing.out("p:a", "p:b", stage="", level=0.05)
        out += weak == "p:b"
        if not weak or random.random() < 0.1:
            standing.add(verdict("p:a", "p:b", "second" if random.random() < rate else "first"))
    return out / tasks


def test_equals_are_seldom_left_out_and_hopeless_ones_nearly_always() -> None:
    shares = {rate: sum(share_out(rate, seed) for seed in range(40)) / 40 for rate in (0.5, 0.4, 0.2, 0.05)}
    assert shares[0.5] < 0.02
    assert shares[0.4] < 0.1
    assert shares[0.2] > 0.8
    assert shares[0.05] > 0.95
