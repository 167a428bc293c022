"""A cascade: the cheap answer stands where it is sure enough, else the expensive models answer. And a least confidence."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from math import log
from random import Random
from typing import Any

import pytest

from flowcraft.errors import BudgetExceeded, CapabilityMissing, ChainExhausted, ProviderUnavailable
from flowcraft.llm.chain import ChatStream
from flowcraft.llm.rules import CascadeRules, JudgeRules
from flowcraft.plugin import (
    ChatRequest,
    ChatResponse,
    Done,
    Message,
    OutputSpec,
    Progress,
    Restart,
    Scope,
    TextDelta,
    TokenLogprob,
    ToolCall,
)

pytestmark = pytest.mark.unit

DEAR = (("expensive", "dear"), ("primary", "cheap"))
LONG = "a free text that nobody words the same way twice " * 6
DOWN = ProviderUnavailable("down")
REFUSED = BudgetExceeded("the day's budget is used up")


def sure(text: str, *probabilities: float) -> ChatResponse:
    return ChatResponse(text=text, logprobs=tuple(TokenLogprob(token="x", logprob=log(p)) for p in probabilities))


def score(value: float) -> str:
    return f'{{"reason": "so it seems", "score": {value}}}'


@pytest.fixture
def cascade(staged, info_of):
    """Make a cascade: ``cascade({"cheap": [...], "dear": [...]})``; ``logprobs`` names the models that give them."""

    def make(scripts, *, threshold=0.8, tries=1, models=None, escalation=DEAR, logprobs=(), families=None, able=None, **spec):
        infos = {name: info_of(name, **({"logprobs": True} if name in logprobs else {}), **(able or {})) for name in scripts}
        infos |= {name: replace(infos[name], family=family) for name, family in (families or {}).items()}
        spec.setdefault("strategy", "cascade")
        spec.setdefault("retries", 0)
        rules = CascadeRules(threshold=threshold, tries=tries, escalation=escalation)
        return staged(scripts, models=models or [("primary", "cheap")], infos=infos, cascade=rules, **spec)

    return make


def asked(stage) -> list[str]:
    return [model for model, _ in stage.fake.asked]


def skips(answer) -> list[tuple[str, str]]:
    return [(made.model, made.message) for made in answer.attempts if made.outcome == "skipped"]


# -- whether the cheap answer stands


@pytest.mark.parametrize(("probability", "model"), [(0.8001, "cheap"), (0.79, "dear")])
async def test_the_cheap_answer_stands_at_the_threshold_and_not_below_it(cascade, probability, model):
    stage = cascade({"cheap": [sure("cheap", probability)], "dear": ["dear"]}, logprobs=["cheap"])

    answer = await stage.chain.chat("hi")

    decided = answer.extra["strategy"]
    assert answer.model == model
    assert (decided["name"], decided["by"], decided["threshold"], decided["tries"]) == ("cascade", "logprobs", 0.8, 1)
    assert decided["confidence"] == pytest.approx(probability)
    assert decided["escalated"] is (model == "dear")
    assert decided["reached"] is (model == "cheap")
    assert answer.confidence == (pytest.approx(probability) if model == "cheap" else None)


async def test_log_probabilities_are_asked_for_where_they_are_known_to_come_and_nowhere_else(cascade):
    stage = cascade(
        {"mute": [DOWN], "cheap": [sure("yes", 0.99)], "dear": ["dear"]},
        models=[("primary", "mute"), ("primary", "cheap")],
        logprobs=["cheap"],
    )

    answer = await stage.chain.chat("hi")

    assert [(model, request.logprobs) for model, request in stage.fake.asked] == [("mute", None), ("cheap", True)]
    assert answer.extra["strategy"]["by"] == "logprobs"
    assert stage.warnings == []


async def test_who_wants_no_log_probabilities_gets_none_and_samples_are_compared(cascade):
    stage = cascade({"cheap": ["yes"], "dear": ["dear"]}, logprobs=["cheap"])

    answer = await stage.chain.chat("hi", logprobs=False)

    assert [request.logprobs for _, request in stage.fake.asked] == [False, False]
    assert (answer.text, answer.extra["strategy"]["by"], answer.confidence) == ("yes", "agreement", 1.0)


@pytest.mark.parametrize(("second", "model", "confidence"), [("It is paris", "cheap", 1.0), ("It is Rome", "dear", 0.5)])
async def test_short_texts_are_compared_with_a_second_sample(cascade, second, model, confidence):
    stage = cascade({"cheap": ["It is Paris.", second], "dear": ["dear"]})

    answer = await stage.chain.chat("hi", seed=7)

    assert answer.model == model
    assert answer.extra["strategy"]["by"] == "agreement"
    assert answer.extra["strategy"]["confidence"] == confidence
    assert [request.seed for _, request in stage.fake.asked] == [7, 8, 7][: 2 + (model == "dear")]
    assert [(made.model, made.outcome) for made in answer.attempts][:2] == [("cheap", "ok"), ("cheap", "ok")]


async def test_typed_answers_are_compared_leaf_by_leaf(cascade):
    kinds = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}
    stage = cascade({"cheap": ['{"a": 1, "b": "x"}', '{"b": "X", "a": 2}'], "dear": ['{"a": 3, "b": "y"}']}, threshold=0.6)

    answer = await stage.chain.chat("hi", output=OutputSpec(schema=kinds))

    assert (answer.parsed, answer.extra["strategy"]["confidence"]) == ({"a": 3, "b": "y"}, 0.5)


async def test_tool_calls_are_compared_by_name_and_arguments(cascade):
    def calling(arguments: str) -> ChatResponse:
        return ChatResponse(parts=(ToolCall(id=arguments, name="add", arguments=arguments),), finish_reason="tool_calls")

    stage = cascade({"cheap": [calling('{"a": 1}'), calling('{ "a":1 }')], "dear": ["dear"]})

    answer = await stage.chain.chat("hi")

    assert answer.model == "cheap"
    assert answer.confidence == 1.0


@pytest.mark.parametrize(("points", "model"), [(0.9, "cheap"), (0.3, "dear")])
async def test_long_texts_go_to_a_judge_who_did_not_answer(cascade, points, model):
    stage = cascade(
        {"cheap": [LONG], "judge": [score(points)], "dear": ["dear"]},
        models=[("primary", "cheap"), ("duplicate", "judge")],
        judge=JudgeRules(criteria="As short as can be"),
    )

    answer = await stage.chain.chat("What is it?")

    assert asked(stage)[:2] == ["cheap", "judge"]
    assert answer.model == model
    assert (answer.extra["strategy"]["by"], answer.extra["strategy"]["confidence"]) == ("judge", points)
    told = stage.fake.asked[1][1]
    assert "As short as can be" in told.system_text
    assert "What is it?" in told.last_text
    assert LONG.strip() in told.last_text


async def test_a_judge_of_another_family_comes_first_and_the_next_one_stands_in(cascade):
    stage = cascade(
        {"cheap": [LONG], "kin": [score(1)], "stranger": [DOWN], "last": [score(0.1)], "dear": ["dear"]},
        models=[("primary", "cheap"), ("duplicate", "kin"), ("duplicate", "stranger"), ("fallback", "last")],
        families={"cheap": "gemma", "kin": "gemma", "stranger": "llama", "last": "llama"},
    )

    answer = await stage.chain.chat("hi")

    assert asked(stage) == ["cheap", "stranger", "last", "dear"]
    assert answer.extra["strategy"]["confidence"] == 0.1


async def test_the_judge_that_is_named_is_asked_whatever_its_family(cascade):
    stage = cascade(
        {"cheap": [LONG], "other": [score(0)], "named": [score(1)], "dear": ["dear"]},
        models=[("primary", "cheap"), ("duplicate", "other")],
        judge=JudgeRules(model="named"),
        families={"cheap": "gemma", "named": "gemma", "other": "llama"},
    )

    assert (await stage.chain.chat("hi")).model == "cheap"
    assert asked(stage) == ["cheap", "named"]


async def test_nobody_scores_his_own_answer_not_even_who_is_named(cascade):
    stage = cascade(
        {"cheap": [LONG, score(1)], "judge": [score(0.9)], "dear": ["dear"]},
        models=[("primary", "cheap"), ("duplicate", "judge")],
        judge=JudgeRules(model="cheap"),
    )

    assert (await stage.chain.chat("hi")).model == "cheap"
    assert asked(stage) == ["cheap", "judge"]


async def test_a_second_sample_is_of_the_model_that_answered(cascade):
    stage = cascade(
        {"cheap": [DOWN, "other"], "small": ["yes"], "dear": ["dear"]}, models=[("primary", "cheap"), ("primary", "small")]
    )

    assert (await stage.chain.chat("hi")).text == "yes"
    assert asked(stage) == ["cheap", "small", "small"]


async def test_what_nobody_can_measure_reaches_no_threshold(cascade):
    stage = cascade({"cheap": [LONG], "dear": ["dear"]}, threshold=0.0)

    answer = await stage.chain.chat("hi")

    assert answer.model == "dear"
    assert answer.extra["strategy"]["confidence"] is None
    assert answer.extra["strategy"]["by"] == ""
    assert answer.extra["strategy"]["reason"] == "its confidence is not known"


async def test_a_model_that_only_repeats_itself_is_not_asked_for_a_second_sample(cascade):
    stage = cascade({"cheap": ["yes"], "dear": ["dear"]})

    assert (await stage.chain.chat("hi", temperature=0)).model == "dear"
    assert asked(stage) == ["cheap", "dear"]


async def test_without_a_second_sample_the_judge_decides(cascade):
    stage = cascade(
        {"cheap": ["yes", DOWN], "judge": [score(0.95)], "dear": ["dear"]},
        models=[("primary", "cheap"), ("fallback", "judge")],
    )
    stage.fake.scripts["judge"].insert(0, DOWN)  # it would have been the second sample

    answer = await stage.chain.chat("hi")

    assert asked(stage) == ["cheap", "cheap", "judge", "judge"]
    assert (answer.model, answer.extra["strategy"]["by"]) == ("cheap", "judge")


# -- who answers then


async def test_an_exhausted_cheap_chain_escalates_and_whom_it_asked_is_not_asked_again(cascade):
    stage = cascade(
        {"cheap": [DOWN], "small": [DOWN], "dear": [DOWN], "rest": ["rest"]},
        models=[("primary", "cheap"), ("primary", "small")],
        escalation=(("expensive", "dear"), ("primary", "cheap"), ("primary", "small"), ("fallback", "rest")),
    )

    answer = await stage.chain.chat("hi")

    assert asked(stage) == ["cheap", "small", "dear", "rest"]
    assert answer.extra["strategy"]["reason"] == "no cheap model answered"
    assert answer.extra["strategy"]["tries"] == 0
    assert skips(answer) == []


async def test_an_answer_that_was_not_sure_enough_is_not_asked_for_again(cascade):
    stage = cascade({"cheap": ["one", "two"], "dear": [DOWN]})

    answer = await stage.chain.chat("hi")

    assert asked(stage) == ["cheap", "cheap", "dear"]
    assert (answer.text, answer.model, answer.confidence) == ("one", "cheap", 0.0)
    decided = answer.extra["strategy"]
    assert (decided["reached"], decided["escalated"]) == (False, False)
    assert decided["reason"] == "its confidence, 0.00, is below 0.8; the others did not answer"


async def test_when_nobody_answers_the_error_tells_of_all(cascade):
    stage = cascade({"cheap": [DOWN], "dear": [DOWN]})

    with pytest.raises(ChainExhausted) as raised:
        await stage.chain.chat("hi")

    assert [made.model for made in raised.value.attempts if made.outcome != "skipped"] == ["cheap", "dear"]
    assert "dear" in str(raised.value)


async def test_what_no_model_can_do_is_said_so_and_one_expensive_model_that_can_is_enough(cascade):
    image = ChatRequest(messages=(Message.user("hi"),), tools=(), n=2)
    none = cascade({"cheap": ["x"], "dear": ["y"]}, able={"n": False})
    with pytest.raises(CapabilityMissing):
        await none.chain.chat(image)

    one = cascade({"cheap": ["x"], "dear": ["y"]}, able={"n": False})
    one_can = cascade({"cheap": ["x"], "dear": ["y"]})
    one_can.fake.scripts["cheap"] = [DOWN]
    assert (await one_can.chain.chat(image)).text == "y"
    assert asked(one) == []


async def test_made_up_answers_are_not_measured_and_escalate(staged):
    stage = staged(
        {"cheap": [DOWN], "dear": ["dear"]},
        models=[("primary", "cheap")],
        offline=["made up"],
        strategy="cascade",
        retries=0,
        cascade=CascadeRules(escalation=(("expensive", "dear"),)),
    )

    answer = await stage.chain.chat("hi")

    assert (answer.text, answer.extra["strategy"]["reason"]) == ("dear", "the answer is made up")


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_request_for_an_expensive_model_goes_there_at_once(cascade, streamed):
    stage = cascade({"cheap": ["one", "two"], "dear": ["dear", DOWN]})
    request = ChatRequest(messages=(Message.user("hi"),), scope=Scope(prefer="fake:dear"))

    answer = (await events_of(stage.chain.stream(request)))[-1].response if streamed else await stage.chain.chat(request)

    assert (answer.text, asked(stage)) == ("dear", ["dear"])
    assert answer.extra["strategy"]["reason"] == "fake:dear was asked for"
    assert (await stage.chain.chat(request)).text == "one"  # it is down: those behind it in its tier answer
    assert asked(stage) == ["dear", "dear", "cheap"]


async def test_no_made_up_answer_takes_the_place_of_a_real_one(cascade):
    escalation = (("expensive", "dear"), ("offline", "offline"))
    stage = cascade({"cheap": ["one", "two"], "dear": [DOWN]}, offline=["made up"], escalation=escalation)

    answer = await stage.chain.chat("hi")

    assert (answer.text, answer.offline) == ("one", False)
    assert answer.extra["strategy"]["reason"].endswith("the others did not answer")


# -- money and time


async def test_an_escalation_that_the_budget_refuses_keeps_the_cheap_answer_and_says_so(cascade):
    stage = cascade({"cheap": ["one", "two"], "dear": [REFUSED]})

    answer = await stage.chain.chat("hi")

    assert answer.text == "one"
    assert answer.extra["strategy"]["reason"].endswith("the budget refused the others")
    assert skips(answer) == [("dear", "the escalation is left out: the day's budget is used up")]


async def test_a_second_sample_and_a_judge_that_the_budget_refuses_are_left_out(cascade):
    stage = cascade(
        {"cheap": ["one", REFUSED], "judge": [REFUSED], "dear": ["dear"]},
        models=[("primary", "cheap"), ("duplicate", "judge")],
    )

    answer = await stage.chain.chat("hi")

    assert answer.model == "dear"
    assert skips(answer) == [
        ("cheap", "a second sample is left out: the day's budget is used up"),
        ("judge", "the judge is left out: the day's budget is used up"),
    ]


@pytest.mark.parametrize("script", [[REFUSED], [DOWN]])
async def test_a_call_that_somebody_waits_for_raises_when_the_budget_refuses_it(cascade, script):
    stage = cascade({"cheap": script, "dear": [REFUSED]})

    with pytest.raises(BudgetExceeded):
        await stage.chain.chat("hi")


async def test_the_cheap_part_has_half_of_the_time(cascade, acts):
    stage = cascade({"cheap": [acts.hang], "dear": [acts.slow(40, "dear")]}, timeout=100, deadline=100)

    answer = await stage.chain.chat("hi")

    assert answer.text == "dear"
    assert answer.attempts[0].seconds == pytest.approx(50)
    assert answer.attempts[-1].seconds == pytest.approx(40)


async def test_samples_and_judges_take_of_the_cheap_half(cascade, acts):
    stage = cascade(
        {"cheap": ["one", acts.hang], "judge": [acts.hang], "dear": [acts.slow(40, "dear")]},
        models=[("primary", "cheap"), ("duplicate", "judge")],
        timeout=100,
        deadline=100,
    )

    answer = await stage.chain.chat("hi")

    assert answer.text == "dear"
    assert sum(made.seconds for made in answer.attempts[:-1]) == pytest.approx(50)


async def test_an_expensive_model_that_hangs_ends_in_the_cheap_answer_at_the_deadline(cascade, acts):
    stage = cascade({"cheap": ["one", "two"], "dear": [acts.hang]}, timeout=100, deadline=100)

    answer = await stage.chain.chat("hi")

    assert (answer.text, answer.attempts[-1].seconds) == ("one", 100)


# -- streams


async def events_of(stream: ChatStream) -> list[Any]:
    async with stream:
        return [event async for event in stream]


async def test_a_stream_shows_the_cheap_answer_once_it_stands(cascade):
    stage = cascade({"cheap": [sure("It is so.", 0.9)], "dear": ["dear"]}, logprobs=["cheap"])

    events = await events_of(stage.chain.stream("hi"))

    assert isinstance(events[0], Progress)
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["It is so."]
    assert isinstance(events[-1], Done)
    assert events[-1].response.extra["strategy"]["escalated"] is False
    assert sum(isinstance(event, Done) for event in events) == 1


async def test_a_stream_shows_nothing_of_a_cheap_answer_that_does_not_stand(cascade):
    stage = cascade({"cheap": ["cheap one", "two"], "dear": ["so it is"]})

    events = await events_of(stage.chain.stream("hi"))

    assert [event.text for event in events if isinstance(event, TextDelta)] == ["so", "it", "is"]
    assert "below 0.8" in events[1].message
    assert events[-1].response.extra["strategy"]["escalated"] is True
    assert [made.model for made in events[-1].response.attempts] == ["cheap", "cheap", "dear"]


@pytest.mark.parametrize("error", [DOWN, REFUSED])
async def test_a_stream_falls_back_on_the_cheap_answer_before_the_first_piece(cascade, error):
    stage = cascade({"cheap": ["one", "two"], "dear": [error]})

    events = await events_of(stage.chain.stream("hi"))

    assert [event.text for event in events if isinstance(event, TextDelta)] == ["one"]
    assert not any(isinstance(event, Restart) for event in events)


async def test_a_stream_that_is_cut_in_the_middle_begins_anew_with_the_cheap_answer(cascade, acts):
    stage = cascade({"cheap": ["one", "two"], "dear": [acts.cut("so it", then=DOWN)]})

    events = await events_of(stage.chain.stream("hi"))

    kinds = [type(event) for event in events if not isinstance(event, Progress)]
    assert kinds == [TextDelta, Restart, TextDelta, Done]
    assert events[-1].response.text == "one"


async def test_a_stream_that_is_closed_early_closes_the_expensive_one(cascade):
    stage = cascade({"cheap": ["one", "two"], "dear": ["so it is"]})

    async with stage.chain.stream("hi") as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                break

    assert stage.fake.closed == ["dear"]
    assert stage.sink.records[-1].attempt.outcome == "cancelled"


async def test_a_stream_that_is_cut_where_no_other_answer_is_says_what_cut_it(cascade, acts):
    stage = cascade({"cheap": [DOWN], "dear": [acts.cut("so it", then=DOWN)]})

    with pytest.raises(ProviderUnavailable):
        await events_of(stage.chain.stream("hi"))


async def test_a_stream_for_which_nobody_answers_raises(cascade):
    stage = cascade({"cheap": [DOWN], "dear": [DOWN]})

    with pytest.raises(ChainExhausted) as raised:
        await events_of(stage.chain.stream("hi"))

    assert len(raised.value.attempts) >= 2


# -- what cannot be carried out


@pytest.mark.parametrize("escalation", [(), (("expensive", "cheap"),), (("expensive", "unknown"),)])
async def test_a_cascade_without_anybody_to_turn_to_runs_as_single_and_says_so(cascade, escalation):
    stage = cascade({"cheap": ["yes"]}, escalation=escalation)

    answer = await stage.chain.chat("hi")

    assert (answer.text, answer.extra, asked(stage)) == ("yes", {}, ["cheap"])
    assert "no expensive tier" in stage.chain.notes[0]
    assert stage.warnings == list(stage.chain.notes)


def test_the_fingerprint_holds_what_changes_answers(cascade):
    scripts = {"cheap": ["x"], "dear": ["y"]}
    prints = [
        cascade(scripts, **options).chain.fingerprint
        for options in (
            {},
            {"threshold": 0.9},
            {"escalation": (("expensive", "cheap"),)},
            {"judge": JudgeRules(criteria="short")},
            {"judge": JudgeRules(model="dear")},
            {"strategy": "single"},
            {"strategy": "single", "confidence": 0.8},
        )
    ]

    assert len(set(prints)) == len(prints)
    assert cascade(scripts).chain.fingerprint == prints[0]


# -- a least confidence, whatever the strategy


def sure_enough(cascade, scripts, **options):
    return cascade(scripts, **{"strategy": "single", "confidence": 0.8, "tries": 2, **options})


async def test_an_answer_below_the_confidence_is_asked_for_once_more(cascade):
    stage = sure_enough(cascade, {"cheap": [sure("no", 0.3), sure("yes", 0.9)], "dear": ["dear"]}, logprobs=["cheap"])

    answer = await stage.chain.chat("hi", seed=1, temperature=0.4)

    assert (answer.text, answer.confidence) == ("yes", pytest.approx(0.9))
    assert [(request.seed, request.temperature) for _, request in stage.fake.asked] == [(1, 0.4), (2, 0.4)]
    decided = answer.extra["confidence"]
    assert (decided["name"], decided["tries"], decided["reached"], decided["escalated"]) == ("confidence", 2, True, False)
    assert "strategy" not in answer.extra


async def test_then_the_expensive_models_answer(cascade):
    stage = sure_enough(cascade, {"cheap": [sure("no", 0.3)], "dear": ["dear"]}, logprobs=["cheap"])

    answer = await stage.chain.chat("hi")

    assert asked(stage) == ["cheap", "cheap", "dear"]
    assert (answer.text, answer.extra["confidence"]["escalated"]) == ("dear", True)


async def test_without_expensive_models_the_surest_answer_is_returned_and_marked(cascade):
    answers = [sure("no", 0.3), sure("maybe", 0.6), sure("perhaps", 0.5)]
    stage = sure_enough(cascade, {"cheap": answers}, logprobs=["cheap"], escalation=(), tries=3)

    answer = await stage.chain.chat("hi")

    assert (answer.text, answer.confidence) == ("maybe", pytest.approx(0.6))
    assert answer.extra["confidence"]["reached"] is False
    assert answer.extra["confidence"]["tries"] == 3
    assert stage.chain.notes == ()


async def test_an_answer_that_comes_twice_outweighs_one_that_comes_once(cascade):
    stage = sure_enough(cascade, {"cheap": ["Rome", "Paris", "Rome"], "dear": ["dear"]})

    answer = await stage.chain.chat("hi")

    assert asked(stage) == ["cheap", "cheap", "cheap"]
    assert (answer.text, answer.confidence, answer.extra["confidence"]["tries"]) == ("Rome", 1.0, 2)


async def test_a_sample_counts_like_an_answer(cascade):
    stage = sure_enough(cascade, {"cheap": ["Paris", "Rome", "rome"], "dear": ["dear"]})

    answer = await stage.chain.chat("hi")

    assert (answer.text, answer.confidence) == ("rome", 1.0)


async def test_a_model_that_only_repeats_itself_is_not_asked_again_and_its_repetition_proves_nothing(cascade):
    stage = sure_enough(
        cascade,
        {"cheap": ["Rome"], "judge": [score(0.2)], "dear": ["dear"]},
        models=[("primary", "cheap"), ("duplicate", "judge")],
    )

    answer = await stage.chain.chat("hi", temperature=0)

    assert asked(stage) == ["cheap", "judge", "dear"]
    assert answer.text == "dear"


async def test_a_further_try_that_fails_or_is_refused_keeps_what_was_there(cascade):
    for error in (DOWN, REFUSED):
        stage = sure_enough(cascade, {"cheap": [sure("no", 0.3), error]}, logprobs=["cheap"], escalation=())

        answer = await stage.chain.chat("hi")

        assert (answer.text, answer.extra["confidence"]["tries"]) == ("no", 1)


async def test_made_up_answers_are_not_asked_for_again(staged):
    stage = staged({}, offline=["made up"], confidence=0.8, cascade=CascadeRules(tries=2))

    answer = await stage.chain.chat("hi")

    assert (answer.text, answer.confidence, len(answer.attempts)) == ("made up", None, 1)


async def test_the_better_of_two_answers_is_measured_as_well(cascade):
    stage = sure_enough(
        cascade,
        {"cheap": ["Rome"], "small": ["Rome"], "judge": ['{"reason": "", "winner": "A"}'], "dear": ["dear"]},
        strategy="best_of_two",
        models=[("primary", "cheap"), ("primary", "small"), ("duplicate", "judge")],
    )

    answer = await stage.chain.chat("hi")

    assert answer.text == "Rome"
    assert answer.extra["strategy"]["name"] == "best_of_two"
    assert answer.extra["confidence"]["reached"] is True


async def test_a_request_without_a_scope_of_its_own_can_be_cascaded(cascade):
    stage = cascade({"cheap": ["yes"], "dear": ["dear"]})
    request = ChatRequest(messages=(Message.user("hi"),), scope=Scope(stage="own", run="r1"))

    answer = await stage.chain.llm.chat(request)

    assert answer.text == "yes"
    assert {(record.stage, record.run) for record in stage.sink.records} == {("own", "r1")}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("strategy", ["best_of_two", "cascade"])
async def test_wherever_it_is_cancelled_nothing_runs_on_and_every_call_is_told(cascade, acts, strategy, streamed):
    async def answered(stage) -> ChatResponse:
        return (await events_of(stage.chain.stream("hi")))[-1].response if streamed else await stage.chain.chat("hi")

    for steps in range(1, 200):
        one, two = acts.slow(0, "one"), acts.slow(0, "two")
        judged = acts.slow(0, '{"reason": "so", "winner": "A", "score": 0.1}')
        stage = cascade(
            {"cheap": [one, two], "small": [two], "judge": [judged], "dear": [acts.slow(0, "dear")]},
            models=[("primary", "cheap"), ("primary", "small"), ("duplicate", "judge")],
            strategy=strategy,
            confidence=0.8,
        )
        task = asyncio.ensure_future(answered(stage))
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.done():
            break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert [record.attempt.model for record in stage.sink.records] == asked(stage)
    assert task.result().text == "dear"
    assert steps > 3


@pytest.mark.parametrize("streamed", [False, True])
async def test_whatever_fails_there_is_an_answer_in_time_while_a_model_is_healthy(cascade, acts, streamed):
    """Random faults, seeded: an answer whenever one of the models is healthy, never past the deadline, no call twice over."""
    random = Random(4)
    loop = asyncio.get_running_loop()
    for _ in range(300):
        faults = [DOWN, acts.hang, acts.slow(3, DOWN), acts.cut("be", then=DOWN)]
        healthy = {name: random.random() < 0.5 for name in ("cheap", "small", "dear", "spare", "judge")}
        good = [lambda: "short", lambda: LONG, lambda: sure("sure", random.random()), lambda: acts.slow(2, "slow")]
        scripts = {
            name: [random.choice(good)() if well else random.choice(faults) for _ in range(3)] for name, well in healthy.items()
        }
        scripts["judge"] = [score(random.random()) if healthy["judge"] else random.choice(faults)]
        stage = cascade(
            scripts,
            models=[("primary", "cheap"), ("primary", "small"), ("duplicate", "judge")],
            escalation=(("expensive", "dear"), ("primary", "spare"), ("primary", "cheap")),
            logprobs=random.choice([(), ("cheap",), ("cheap", "small", "dear")]),
            **random.choice([{}, {"strategy": "single", "confidence": 0.8, "tries": 2}]),
            continuation="restart",
            timeout=20,
            deadline=60,
        )
        began = loop.time()
        try:
            if streamed:
                answer = (await events_of(stage.chain.stream("hi")))[-1].response
            else:
                answer = await stage.chain.chat("hi")
        except (ChainExhausted, ProviderUnavailable):
            answer = None
        assert loop.time() - began <= 60 + 1e-6
        if any(healthy[name] for name in ("cheap", "small", "dear", "spare")):
            assert answer is not None, f"{scripts}: {stage.outcomes(record.attempt for record in stage.sink.records)}"
        assert len(stage.fake.asked) <= 2 * 3 * 2 + 3
