"""When a model is late: quantiles of times of which some are known only to be longer."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from flowcraft.attempts import Attempt
from flowcraft.llm.knowledge.lateness import ENOUGH, Observed, quantile
from flowcraft.llm.knowledge.statistics import Statistics, percentile
from flowcraft.llm.ports import LOST, CallRecord

pytestmark = pytest.mark.unit


def call(seconds: float, stage: str = "", number: int = 0, **attempt: Any) -> CallRecord:
    made = Attempt(**{"model": "a", "provider": "p", "seconds": seconds, **attempt})
    return CallRecord(id=f"{stage}{seconds}{number}", attempt=made, stage=stage)


def taught(*records: CallRecord) -> Statistics:
    statistics = Statistics()
    for record in records:
        statistics.record(record)
    return statistics


def after(statistics: Statistics, *, streamed: bool = False, stage: str = "") -> float | None:
    return statistics.late_after("p", "a", streamed=streamed, stage=stage)


def test_without_losers_it_is_the_plain_quantile() -> None:
    random = Random(7)
    times = [random.expovariate(1.0) for _ in range(400)]
    assert quantile([Observed(seconds, True) for seconds in times], 0.95) == percentile(sorted(times), 0.95)
    assert quantile([], 0.95) is None


@pytest.mark.parametrize("seed", range(5))
def test_calls_cut_short_do_not_make_a_model_look_faster(seed: int) -> None:
    random = Random(seed)
    times = [random.lognormvariate(0, 0.5) for _ in range(4000)]
    limits = [random.lognormvariate(0.5, 0.5) for _ in times]
    seen = [Observed(min(time, limit), time <= limit) for time, limit in zip(times, limits, strict=True)]
    true = percentile(sorted(times), 0.95) or 0.0
    answered = percentile(sorted(time for time, ok in seen if ok), 0.95) or 0.0
    assert quantile(seen, 0.95) == pytest.approx(true, rel=0.12)
    assert answered < 0.88 * true


def test_where_too_many_were_cut_short_it_is_the_longest_time_at_least() -> None:
    seen = [*(Observed(1.0, True) for _ in range(80)), *(Observed(3.0, False) for _ in range(20))]
    assert quantile(seen, 0.95) == 3.0


def test_failures_and_losses_count_as_longer_and_answers_that_do_not_fit_as_answers() -> None:
    slow = [call(5.0, number=number, outcome="cancelled", message=LOST) for number in range(2)]
    slow.append(call(4.0, outcome="ProviderTimeout"))
    quick = [call(1.0, number=number, outcome=("ok", "InvalidOutput")[number % 2]) for number in range(97)]
    assert after(taught(*quick, *slow)) == 1.0
    assert after(taught(*quick[:30], *slow)) == 5.0


def test_a_stream_is_as_late_as_its_first_event() -> None:
    streams = [call(60.0, number=number, streamed=True, first_token=0.5) for number in range(ENOUGH)]
    statistics = taught(*streams)
    assert after(statistics, streamed=True) == 0.5
    assert after(statistics) is None


def test_nothing_is_said_before_there_are_enough_answers() -> None:
    records = [call(1.0, number=number) for number in range(ENOUGH)]
    lost = [call(1.0, number=100 + number, outcome="cancelled") for number in range(50)]
    assert after(taught(*records[1:], *lost)) is None
    assert after(taught(*records)) == 1.0
    assert Statistics().late_after("p", "nobody", streamed=False) is None


def test_calls_as_a_judge_say_nothing_of_how_long_answers_take() -> None:
    judged = [call(0.01, "s", number, role="judge") for number in range(ENOUGH)]
    assert after(taught(*judged), stage="s") is None
    answered = [call(2.0, "s", number) for number in range(ENOUGH)]
    statistics = taught(*answered, *judged * 5)
    assert after(statistics, stage="s") == 2.0
    assert math.exp(statistics.speed([("p", "a")], "s").models[0].mean) == pytest.approx(2.0)
    assert statistics.speed([("p", "a")], "s").models[0].calls == ENOUGH


def test_a_stage_has_its_own_where_there_is_enough_of_it() -> None:
    short = [call(1.0, "short", number) for number in range(ENOUGH)]
    long = [call(9.0, "long", number) for number in range(ENOUGH - 1)]
    statistics = taught(*short, *long)
    assert after(statistics, stage="short") == 1.0
    assert after(statistics, stage="long") == after(statistics) == 9.0


def test_what_was_known_gives_way_to_what_is_new() -> None:
    statistics = taught(*(call(1.0, number=number) for number in range(900)))
    assert after(statistics) == 1.0
    for number in range(1000):
        statistics.record(call(2.0, number=number))
    assert after(statistics) == 2.0
