"""Streams that break in the middle: who goes on, from where, how often, until when, and what the reader makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowcraft.errors import (
    BudgetExceeded,
    ChainExhausted,
    ContentFiltered,
    InvalidOutput,
    LLMError,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
)
from flowcraft.llm.seam import last_words
from flowcraft.plugin import (
    AudioDelta,
    ChatRequest,
    ChatResponse,
    Done,
    LogprobsDelta,
    Message,
    ModelInfo,
    OutputSpec,
    Reasoning,
    ReasoningDelta,
    Restart,
    Rollback,
    Switch,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
    collect,
)
from flowcraft.testing.clock import run_virtual

pytestmark = pytest.mark.unit

TEXT = "The stream breaks 👩‍👩‍👧 here, и никто не 今天 notices: e\u0301te\u0301 in seven pieces."
LOST = ProviderUnavailable("reset")


@dataclass(frozen=True)
class Part:
    """A model writes what is left of TEXT: ``shown`` characters in pieces of ``size``, then ``then``; None: all of it."""

    shown: int | None = None
    then: Any = LOST
    size: int = 3
    pause: float = 0.0


def left_of(request: ChatRequest) -> str:
    """Return what a model still has to write: behind the prefix, or from the words that it is told to repeat."""
    if request.prefix:
        assert TEXT.startswith(request.prefix)
        return TEXT[len(request.prefix) :]
    if request.messages[-1].text.startswith("The connection broke"):
        so_far = request.messages[-2].text
        assert TEXT.startswith(so_far)
        return TEXT[so_far.rstrip().rindex(last_words(so_far)) :]
    return TEXT


@pytest.fixture
def play(staged: Any, acts: Any) -> Callable[..., Any]:
    """Make a chain of models that write TEXT as their parts say."""

    class Writer(acts.fake):  # type: ignore[misc]  # its base comes from a fixture
        opened = 0
        whole = 0

        async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
            self.whole += 1
            act = self.next_of(model, request)
            if not isinstance(act, Part):
                return await self.play(act)  # type: ignore[no-any-return]
            await asyncio.sleep(act.pause)
            if act.shown is not None:
                raise LOST
            return ChatResponse(text=TEXT, usage=Usage(input=10, output=20))

        async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[Any, None]:
            act = self.next_of(model, request)
            self.opened += 1
            try:
                left = left_of(request)
                shown = left if act.shown is None else left[: act.shown]
                for start in range(0, len(shown), act.size):
                    await asyncio.sleep(act.pause)
                    yield TextDelta(shown[start : start + act.size])
                if act.shown is not None:
                    await self.play(act.then)
                parts = (Text(text=shown),) if shown else ()
                yield Done(ChatResponse(text=shown, parts=parts, usage=Usage(input=10, output=20)))
            finally:
                self.closed.append(model)

    def make(scripts: Any, **spec: Any) -> Any:
        spec.setdefault("continuation", "restart")
        spec.setdefault("retries", 0)
        return staged({model: as_list(script) for model, script in scripts.items()}, kind=Writer, **spec)

    return make


def as_list(script: Any) -> list[Any]:
    return script if isinstance(script, list) else [script]


class Reader:
    """Follows events as a reader would."""

    def __init__(self) -> None:
        self.text = ""
        self.events: list[Any] = []
        self.seams: list[dict[str, Any]] = []
        self.response = ChatResponse()

    async def read(self, stream: Any, pause: float = 0.0) -> Reader:
        async with stream:
            async for event in stream:
                self.see(event)
                if pause:
                    await asyncio.sleep(pause)
        self.response = stream.response
        return self

    def see(self, event: Any) -> None:
        self.events.append(event)
        if isinstance(event, TextDelta):
            self.text += event.text
        elif isinstance(event, Restart):
            self.text, self.seams = "", []
        elif isinstance(event, Rollback):
            self.text = self.text[: -event.characters]
        elif isinstance(event, Switch):
            self.seams.append({"at": len(self.text), "to": f"{event.provider}:{event.model}"})

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events if type(event) is not TextDelta]


def told(reader: Reader) -> list[dict[str, Any]]:
    return [{"at": seam["at"], "to": seam["to"]} for seam in reader.response.extra["continuation"]["seams"]]


def outcomes(attempts: Sequence[Any]) -> list[tuple[str, str]]:
    return [(attempt.model, attempt.outcome) for attempt in attempts]


def filling(info_of: Any, *models: str) -> dict[str, ModelInfo]:
    return {model: info_of(model, prefill=True) for model in models}


# -- the modes


async def test_restart_makes_void_what_was_read_and_begins_anew(play: Any) -> None:
    stage = play({"a": Part(9), "b": Part()})
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.kinds == ["Restart", "Done"]
    assert Restart("fake:a: ProviderUnavailable: reset") in reader.events
    assert reader.text == reader.response.text == TEXT
    assert reader.response.model == "b"
    assert reader.response.usage == Usage(input=10, output=20)
    assert reader.response.extra["continuation"] == {"mode": "restart", "seams": [], "restarts": 1}
    assert outcomes(reader.response.attempts) == [("a", "ProviderUnavailable"), ("b", "ok")]


async def test_the_text_stands_until_another_one_begins(play: Any) -> None:
    stage = play({"a": [Part(9), Part(0)], "b": Part(0, ContentFiltered("no"))})
    reader = Reader()
    with pytest.raises(ChainExhausted):
        await reader.read(stage.chain.stream("hi"))
    assert reader.text == TEXT[:9]
    assert reader.kinds == []


async def test_continue_goes_on_from_the_last_character_where_a_model_can(play: Any, info_of: Any) -> None:
    stage = play({"a": Part(9, pause=1), "b": Part(pause=0.5)}, continuation="continue", infos=filling(info_of, "b"))
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.kinds == ["Switch", "Done"]
    assert reader.text == reader.response.text == reader.response.message.text == TEXT
    assert reader.seams == told(reader) == [{"at": 9, "to": "fake:b"}]
    assert reader.response.extra["continuation"]["seams"][0] == {"at": 9, "from": "fake:a", "to": "fake:b", "by": "prefill"}
    assert stage.fake.asked[1][1].prefix == TEXT[:9]
    assert stage.fake.asked[1][1].messages == stage.fake.asked[0][1].messages
    cut, answered = reader.response.attempts
    assert cut.usage.output > 0
    assert reader.response.usage == cut.usage + answered.usage
    assert reader.response.first_token == cut.first_token == 1
    assert reader.response.seconds == cut.seconds + answered.seconds
    assert reader.response.usd is None


async def test_continue_tells_a_model_to_go_on_that_cannot_begin_in_the_middle(play: Any) -> None:
    stage = play({"a": Part(9), "b": Part(size=2)}, continuation="continue")
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.text == reader.response.text == TEXT
    assert reader.seams == told(reader) == [{"at": 9, "to": "fake:b"}]
    assert reader.response.extra["continuation"]["seams"][0]["by"] == "instruction"
    asked = stage.fake.asked[1][1]
    assert [message.role for message in asked.messages] == ["user", "assistant", "user"]
    assert asked.messages[1].text == TEXT[:9]
    assert last_words(TEXT[:9]) in asked.messages[2].text


async def test_what_goes_on_may_be_cut_as_well(play: Any, info_of: Any) -> None:
    scripts = {"a": Part(9), "b": Part(6), "c": Part(4), "d": Part()}
    stage = play(scripts, continuation="continue", infos=filling(info_of, "b", "d"))
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.text == reader.response.text == TEXT
    assert reader.seams == told(reader)
    by = [(seam["from"], seam["to"], seam["by"]) for seam in reader.response.extra["continuation"]["seams"]]
    # What c wrote was a repetition of the last words so far, so nobody has seen it write.
    assert by == [("fake:a", "fake:b", "prefill"), ("fake:b", "fake:d", "prefill")]
    assert outcomes(reader.response.attempts) == [(name, "ProviderUnavailable") for name in "abc"] + [("d", "ok")]


async def test_an_answer_that_was_cut_behind_its_last_character_is_complete(play: Any, info_of: Any) -> None:
    for infos in (filling(info_of, "b"), {}):
        stage = play({"a": Part(len(TEXT)), "b": Part()}, continuation="continue", infos=infos)
        reader = await Reader().read(stage.chain.stream("hi"))
        assert reader.text == reader.response.text == TEXT
        assert reader.kinds == ["Switch", "Done"]
        assert outcomes(reader.response.attempts) == [("a", "ProviderUnavailable"), ("b", "ok")]


async def test_what_looks_like_a_repetition_up_to_the_end_and_is_none_is_shown(acts: Any, staged: Any) -> None:
    stage = staged({"a": [acts.cut("one, two, and then again: ", then=LOST)], "b": ["two"]}, continuation="continue", retries=0)
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.text == reader.response.text == "one, two, and then again: two"
    assert reader.kinds == ["Switch", "Done"]


async def test_a_prefix_of_the_request_is_gone_on_from_too(play: Any, info_of: Any) -> None:
    stage = play({"a": Part(6), "b": Part()}, continuation="continue", infos=filling(info_of, "a", "b"))
    reader = await Reader().read(stage.chain.stream("hi", prefix=TEXT[:4]))
    assert reader.text == reader.response.text == TEXT[4:]
    assert stage.fake.asked[1][1].prefix == TEXT[:10]


async def test_halves_of_a_character_are_taken_back_before_it_comes_whole(play: Any, acts: Any, staged: Any) -> None:
    class Halves(acts.fake):  # type: ignore[misc]  # its base comes from a fixture
        async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[Any, None]:
            self.next_of(model, request)
            if model == "a":
                yield TextDelta("so \ufffd\ufffd")
                raise LOST
            assert request.messages[-2].text == "so "
            yield TextDelta("so 🙂")
            yield Done(ChatResponse(text="so 🙂"))

    stage = staged({"a": ["x"], "b": ["x"]}, kind=Halves, continuation="continue", retries=0)
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.text == reader.response.text == "so 🙂"
    assert reader.kinds == ["Rollback", "Switch", "Done"]
    assert reader.seams == told(reader) == [{"at": 3, "to": "fake:b"}]


async def test_the_limit_of_tokens_is_for_all_pieces_together(play: Any, info_of: Any) -> None:
    stage = play({"a": Part(9), "b": Part()}, continuation="continue", infos=filling(info_of, "b"))
    await Reader().read(stage.chain.stream("hi", max_tokens=100))
    assert [request.max_tokens for _, request in stage.fake.asked] == [100, 97]


async def test_keep_takes_the_text_so_far_for_the_answer(play: Any) -> None:
    stage = play({"a": Part(9, pause=1), "b": Part()}, continuation="keep")
    for _ in range(2):
        reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.kinds == ["Done"]
    assert reader.text == reader.response.text == reader.response.message.text == TEXT[:9]
    assert reader.response.finish_reason == "cut"
    assert (reader.response.model, reader.response.provider, reader.response.first_token) == ("a", "fake", 1)
    assert reader.response.usage == reader.response.attempts[0].usage
    assert reader.response.usage.output > 0
    assert reader.response.extra["continuation"]["why"] == "fake:a: ProviderUnavailable: reset"
    assert set(stage.warnings) == {"a stream of fake:a was cut; the text so far is taken for the answer"}


async def test_keep_says_nothing_where_nobody_wants_to_hear_it(play: Any) -> None:
    stage = play({"a": Part(9)}, continuation="keep", warn_streams=False)
    assert (await collect(stage.chain.stream("hi"))).finish_reason == "cut"
    assert stage.warnings == []


@pytest.mark.parametrize("shown", [ReasoningDelta("hm"), ToolCallDelta(0, "1", "look"), TextDelta("\n")])
async def test_where_there_is_no_text_to_keep_the_answer_begins_anew(acts: Any, staged: Any, shown: Any) -> None:
    class Breaks(acts.fake):  # type: ignore[misc]  # its base comes from a fixture
        async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[Any, None]:
            if model == "a":
                self.next_of(model, request)
                yield shown
                raise LOST
            async for event in super().stream(model, request):
                yield event

    stage = staged({"a": ["x"], "b": ["yes"]}, kind=Breaks, continuation="keep", retries=0)
    reader = await Reader().read(stage.chain.stream("hi"))
    assert (reader.text, reader.response.text, reader.response.finish_reason) == ("yes", "yes", "stop")
    assert reader.response.extra["continuation"] == {"mode": "keep", "seams": [], "restarts": 1}
    assert stage.warnings == []


async def test_what_was_begun_anew_for_want_of_text_may_be_kept(acts: Any, staged: Any) -> None:
    class Thinks(acts.fake):  # type: ignore[misc]  # its base comes from a fixture
        async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[Any, None]:
            self.next_of(model, request)
            yield ReasoningDelta("hm") if model == "a" else TextDelta("one ")
            raise LOST

    stage = staged({"a": ["x"], "b": ["x"]}, kind=Thinks, continuation="keep", retries=0)
    reader = await Reader().read(stage.chain.stream("hi"))
    assert (reader.text, reader.response.text, reader.response.finish_reason) == ("one ", "one ", "cut")
    told = reader.response.extra["continuation"]
    assert (told["restarts"], told["why"]) == (1, f"fake:b: ProviderUnavailable: {LOST.message}")


async def test_json_that_breaks_off_is_not_kept(play: Any) -> None:
    stage = play({"a": Part(9)}, continuation="keep")
    with pytest.raises(ProviderUnavailable, match="reset"):
        await collect(stage.chain.stream("hi", output=OutputSpec(schema={"type": "object"})))


async def test_unstreamed_asks_for_a_whole_answer(play: Any) -> None:
    stage = play({"a": Part(9), "b": Part(9), "c": Part()}, continuation="unstreamed")
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.events[-3:-1] == [Restart("fake:a: ProviderUnavailable: reset"), TextDelta(TEXT)]
    assert reader.text == reader.response.text == TEXT
    assert (stage.fake.opened, stage.fake.whole) == (1, 2)
    assert outcomes(reader.response.attempts) == [("a", "ProviderUnavailable"), ("b", "ProviderUnavailable"), ("c", "ok")]


async def test_unstreamed_asks_the_only_model_for_the_whole(play: Any) -> None:
    stage = play({"a": [Part(9), Part()]}, continuation="unstreamed")
    assert (await collect(stage.chain.stream("hi"))).text == TEXT
    assert (stage.fake.opened, stage.fake.whole) == (1, 1)


async def test_fail_lets_the_error_out(play: Any) -> None:
    stage = play({"a": Part(9), "b": Part()}, continuation="fail")
    with pytest.raises(ProviderUnavailable, match="reset") as caught:
        await collect(stage.chain.stream("hi"))
    assert outcomes(caught.value.attempts) == [("a", "ProviderUnavailable")]


@pytest.mark.parametrize("mode", ["restart", "continue", "keep", "unstreamed"])
async def test_whole_answers_and_streams_that_hold_are_left_alone(play: Any, mode: str) -> None:
    stage = play({"a": Part(), "b": Part()}, continuation=mode)
    plain = await stage.chain.chat("hi")
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.kinds == ["Done"]
    assert plain.text == reader.response.text == TEXT
    assert plain.extra == reader.response.extra == {}
    assert stage.fake.opened == stage.fake.whole == 1


# -- what cannot be gone on with

CALL = ToolCall(id="1", name="look", arguments="{}")


@pytest.mark.parametrize(
    "shown",
    [
        [ReasoningDelta("hm")],
        [TextDelta("I look"), ToolCallDelta(0, "1", "look", "{")],
        [TextDelta("I look"), ToolCallEvent(0, CALL)],
        [TextDelta("I say"), AudioDelta(b"la")],
        [TextDelta("I"), LogprobsDelta((TokenLogprob(token="I", logprob=-1.0),))],
        [TextDelta("  \n")],
    ],
)
async def test_what_is_not_all_text_begins_anew(acts: Any, staged: Any, shown: list[Any]) -> None:
    class Speaks(acts.fake):  # type: ignore[misc]  # its base comes from a fixture
        async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[Any, None]:
            self.next_of(model, request)
            for event in shown if model == "a" else [TextDelta("fine")]:
                yield event
            if model == "a":
                raise LOST
            yield Done(ChatResponse(text="fine"))

    stage = staged({"a": ["x"], "b": ["x"]}, kind=Speaks, continuation="continue", retries=0)
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.kinds[-2:] == ["Restart", "Done"]
    assert reader.text == reader.response.text == "fine"
    assert reader.response.extra["continuation"] == {"mode": "continue", "seams": [], "restarts": 1}


@pytest.mark.parametrize(
    "asked",
    [
        {"output": OutputSpec(schema={"type": "string"})},
        {"logprobs": True},
        {"top_logprobs": 2},
        {"n": 2},
        {"modalities": ("text", "audio")},
        {"extra": {"grammar": 'root ::= "a"'}},
    ],
)
async def test_answers_of_a_certain_form_begin_anew(play: Any, info_of: Any, asked: dict[str, Any]) -> None:
    stage = play({"a": Part(9), "b": Part()}, continuation="continue", infos=filling(info_of, "b"))
    reader = await Reader().read(stage.chain.stream("hi", **asked))
    assert reader.kinds == ["Restart", "Done"]


async def test_seams_that_a_restart_makes_void_are_forgotten(acts: Any, staged: Any) -> None:
    class Calls(acts.fake):  # type: ignore[misc]  # its base comes from a fixture
        async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[Any, None]:
            self.next_of(model, request)
            yield TextDelta("I look " if model == "a" else "I look it up")
            if model == "c":
                yield Done(ChatResponse(text="I look it up", usage=Usage(input=5, output=5)))
            if model == "b":
                yield ToolCallDelta(0, "1", "look", "{")
            raise LOST

    stage = staged({"a": ["x"], "b": ["x"], "c": ["x"]}, kind=Calls, continuation="continue", retries=0)
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.kinds == ["Switch", "ToolCallDelta", "Restart", "Done"]
    assert reader.text == reader.response.text == "I look it up"
    assert reader.response.extra["continuation"] == {"mode": "continue", "seams": [], "restarts": 1}
    assert reader.response.usage == Usage(input=5, output=5)


async def test_thoughts_before_the_text_do_not_hinder_going_on(acts: Any, staged: Any) -> None:
    class Thinks(acts.fake):  # type: ignore[misc]  # its base comes from a fixture
        async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[Any, None]:
            self.next_of(model, request)
            yield ReasoningDelta("hm")
            yield TextDelta("one two " if model == "a" else "one two three")
            if model == "a":
                raise LOST
            yield Done(ChatResponse(text="one two three", parts=(Reasoning(text="hm"), Text(text="one two three"))))

    stage = staged({"a": ["x"], "b": ["x"]}, kind=Thinks, continuation="continue", retries=0)
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.kinds == ["ReasoningDelta", "Switch", "ReasoningDelta", "Done"]
    assert reader.text == "one two three"
    assert reader.response.parts == (Reasoning(text="hm"), Text(text="one two three"))


# -- what counts as a cut


@pytest.mark.parametrize(
    "error",
    [ProviderUnavailable("x"), ProviderTimeout("x"), RateLimited("x", retry_after=99), ProviderError("x"), KeyError("x")],
)
async def test_every_failure_of_a_provider_is_a_cut(play: Any, error: Exception) -> None:
    stage = play({"a": Part(9, error), "b": Part()})
    assert (await collect(stage.chain.stream("hi"))).text == TEXT


async def test_a_stream_that_stalls_is_cut(play: Any, acts: Any) -> None:
    stage = play({"a": Part(9, acts.hang), "b": Part()})
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.text == TEXT
    assert asyncio.get_running_loop().time() == 60
    assert outcomes(reader.response.attempts) == [("a", "ProviderTimeout"), ("b", "ok")]


async def test_a_typed_answer_that_does_not_fit_begins_anew_at_the_next_model(staged: Any) -> None:
    asked = {"output": OutputSpec(schema={"type": "object", "required": ["born"]})}
    stage = staged({"a": ['{"name": "Ada"}'], "b": ['{"born": 1815}']}, continuation="restart", retries=0)
    reader = await Reader().read(stage.chain.stream("hi", **asked))
    assert reader.response.parsed == {"born": 1815}
    assert reader.kinds == ["Restart", "Done"]
    assert outcomes(reader.response.attempts) == [("a", "InvalidOutput"), ("b", "ok")]
    kept = staged({"a": ['{"name": "Ada"}'], "b": ['{"born": 1815}']}, continuation="keep", retries=0)
    with pytest.raises(InvalidOutput):
        await collect(kept.chain.stream("hi", **asked))


async def test_a_budget_that_is_spent_ends_the_answer(play: Any) -> None:
    stage = play({"a": Part(9, BudgetExceeded("no money")), "b": Part()})
    with pytest.raises(BudgetExceeded):
        await collect(stage.chain.stream("hi"))
    stage = play({"a": Part(9), "b": Part(0, BudgetExceeded("no money")), "c": Part()})
    with pytest.raises(BudgetExceeded):
        await collect(stage.chain.stream("hi"))
    assert [model for model, _ in stage.fake.asked] == ["a", "b"]


async def test_a_cut_before_the_first_event_is_mended_in_silence(play: Any) -> None:
    stage = play({"a": Part(0), "b": Part()})
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.kinds == ["Done"]
    assert reader.response.extra == {}


# -- who is asked, how often, until when


async def test_first_come_those_that_were_not_asked_yet_and_the_one_that_was_cut_last(play: Any) -> None:
    scripts = {"a": [Part(9), Part()], "b": [Part(0)], "c": [Part(9), Part(9)]}
    stage = play(scripts)
    response = await collect(stage.chain.stream("hi"))
    assert [model for model, _ in stage.fake.asked] == ["a", "b", "c", "a"]
    assert response.text == TEXT
    assert all(attempt.outcome != "skipped" for attempt in response.attempts)


async def test_the_same_model_is_asked_again_where_it_is_the_only_one_and_once(play: Any) -> None:
    stage = play({"a": [Part(9), Part()]})
    assert (await collect(stage.chain.stream("hi"))).text == TEXT
    stage = play({"a": Part(9)})
    with pytest.raises(ChainExhausted) as caught:
        await collect(stage.chain.stream("hi"))
    assert outcomes(caught.value.attempts) == [("a", "ProviderUnavailable")] * 2


async def test_an_answer_that_nobody_ends_tells_all(play: Any) -> None:
    stage = play({"a": Part(9), "b": Part(0)})
    with pytest.raises(ChainExhausted) as caught:
        await collect(stage.chain.stream("hi"))
    assert [model for model, _ in stage.fake.asked] == ["a", "b", "b", "a"]
    assert str(caught.value).count("reset") == 4
    assert [attempt.outcome for attempt in caught.value.attempts] == ["ProviderUnavailable"] * 4


async def test_skips_are_told_once_and_not_for_what_this_answer_has_asked(play: Any) -> None:
    models = [("primary", "a"), ("primary", "elsewhere"), ("primary", "b")]
    stage = play({"a": Part(9), "b": [Part(9), Part()]}, models=models)
    response = await collect(stage.chain.stream(ChatRequest(messages=(Message.user("hi"),))))
    assert outcomes(response.attempts) == [
        ("a", "ProviderUnavailable"),
        ("elsewhere", "skipped"),
        ("b", "ProviderUnavailable"),
        ("a", "ProviderUnavailable"),
        ("b", "ok"),
    ]


async def test_models_that_the_request_avoids_stay_avoided(play: Any) -> None:
    stage = play({"a": Part(9), "b": Part(), "c": Part()})
    request = ChatRequest(messages=(Message.user("hi"),)).within(avoid=frozenset({"fake:b"}))
    response = await collect(stage.chain.stream(request))
    assert [model for model, _ in stage.fake.asked] == ["a", "c"]
    assert outcomes(response.attempts) == [("a", "ProviderUnavailable"), ("b", "skipped"), ("c", "ok")]


async def test_made_up_answers_come_last_and_never_go_on_with_a_real_one(play: Any) -> None:
    stage = play({"a": Part(9)}, offline=["made up"])
    response = await collect(stage.chain.stream("hi"))
    assert response.offline
    assert outcomes(response.attempts)[:2] == [("a", "ProviderUnavailable")] * 2
    stage = play({"a": Part(9)}, offline=["made up"], continuation="continue")
    with pytest.raises(ChainExhausted):
        await collect(stage.chain.stream("hi"))


async def test_nobody_is_asked_after_the_deadline(play: Any, acts: Any) -> None:
    stage = play({"a": Part(9, acts.hang), "b": Part()}, timeout=20, deadline=40)
    with pytest.raises(ProviderTimeout, match="not complete at the deadline"):
        await collect(stage.chain.stream("hi"))
    assert asyncio.get_running_loop().time() == 40
    assert len(stage.fake.asked) == 1


async def test_the_readers_time_does_not_count(play: Any) -> None:
    stage = play({"a": Part(9), "b": Part()}, timeout=20, deadline=40, continuation="continue")
    reader = await Reader().read(stage.chain.stream("hi"), pause=100)
    assert reader.text == TEXT


@pytest.mark.parametrize("mode", ["restart", "continue", "unstreamed"])
async def test_a_reader_may_leave_anywhere_and_nothing_stays_open(play: Any, info_of: Any, mode: str) -> None:
    events = 0
    left = 0
    while left <= events:
        scripts = {"a": Part(6), "b": Part(6), "c": Part()}
        stage = play(scripts, continuation=mode, infos=filling(info_of, "b"))
        stream = stage.chain.stream("hi")
        seen = 0
        async with stream:
            async for _ in stream:
                seen += 1
                if seen > left:
                    break
        events = max(events, seen)
        left += 1
        assert len(stage.fake.closed) == stage.fake.opened
    assert events > 4


@pytest.mark.parametrize("mode", ["restart", "continue", "unstreamed"])
async def test_a_reader_may_be_cancelled_at_any_time_and_nothing_stays_open(play: Any, info_of: Any, mode: str) -> None:
    for seconds in range(40):
        scripts = {"a": Part(6, pause=1.5), "b": Part(6, pause=1.5), "c": Part(pause=1.5)}
        stage = play(scripts, continuation=mode, infos=filling(info_of, "b"))
        task = asyncio.ensure_future(Reader().read(stage.chain.stream("hi")))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.done()
        assert len(stage.fake.closed) == stage.fake.opened


# -- strategies


@pytest.mark.parametrize("mode", ["restart", "continue", "unstreamed"])
async def test_a_hedge_that_is_cut_comes_to_its_end(play: Any, info_of: Any, mode: str) -> None:
    stage = play({"a": Part(9), "b": Part()}, strategy="hedge", continuation=mode, infos=filling(info_of, "b"))
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.text == reader.response.text == TEXT
    assert reader.kinds == ["Switch" if mode == "continue" else "Restart", "Done"]
    assert len(stage.fake.closed) == stage.fake.opened


@pytest.mark.parametrize("mode", ["restart", "continue", "unstreamed"])
async def test_the_rest_of_a_contest_that_is_cut_comes_to_its_end(play: Any, info_of: Any, mode: str) -> None:
    models = [("primary", "a"), ("duplicate", "b"), ("reserve", "c"), ("reserve", "d")]
    lost = Part(0)  # both contestants are asked for whole answers, and have none
    stage = play(
        {"a": lost, "b": lost, "c": Part(9), "d": Part()},
        models=models,
        strategy="best_of_two",
        continuation=mode,
        infos=filling(info_of, "d"),
    )
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.text == reader.response.text == TEXT
    assert [kind for kind in reader.kinds if kind != "Progress"] == ["Switch" if mode == "continue" else "Restart", "Done"]
    assert [model for model, _ in stage.fake.asked] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("mode", ["restart", "continue", "unstreamed"])
async def test_an_expensive_answer_that_is_cut_comes_to_its_end(play: Any, info_of: Any, mode: str) -> None:
    from flowcraft.llm.rules import CascadeRules

    stage = play(
        {"cheap": Part(0), "dear": Part(9), "dearer": Part()},
        models=[("primary", "cheap")],
        strategy="cascade",
        cascade=CascadeRules(escalation=(("primary", "dear"), ("primary", "dearer"))),
        continuation=mode,
        infos=filling(info_of, "dearer"),
    )
    reader = await Reader().read(stage.chain.stream("hi"))
    assert reader.text == reader.response.text == TEXT
    assert [kind for kind in reader.kinds if kind != "Progress"] == ["Switch" if mode == "continue" else "Restart", "Done"]
    assert [model for model, _ in stage.fake.asked] == ["cheap", "dear", "dearer"]


# -- whatever comes

TIMEOUT, DEADLINE = 20.0, 60.0
error = st.sampled_from(
    [LOST, ProviderTimeout("slow"), RateLimited("slow down"), RateLimited("slow down", retry_after=3.0), ProviderError("odd")]
)
part = st.builds(
    Part,
    shown=st.one_of(st.none(), st.integers(0, len(TEXT))),
    then=st.one_of(error, st.just("hang")),
    size=st.integers(1, 9),
    pause=st.sampled_from([0.0, 0.1, 2.0]),
)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors, HealthCheck.too_slow],
)
@given(
    scripts=st.lists(st.tuples(st.lists(part, min_size=1, max_size=3), st.booleans()), min_size=1, max_size=4),
    mode=st.sampled_from(["restart", "continue", "unstreamed", "keep"]),
    retries=st.integers(0, 2),
    held=st.sampled_from([0.0, 0.0, 5.0]),
)
def test_whatever_breaks_the_answer_is_whole_or_an_error_in_time_and_nothing_stays_open(
    play: Any, acts: Any, info_of: Any, scripts: Any, mode: str, retries: int, held: float
) -> None:
    named = {f"m{place}": [played(acts, one) for one in script] for place, (script, _) in enumerate(scripts)}
    infos = filling(info_of, *(f"m{place}" for place, (_, fills) in enumerate(scripts) if fills))
    stage = play(named, continuation=mode, retries=retries, infos=infos, timeout=TIMEOUT, deadline=DEADLINE)
    reader = Reader()

    async def read() -> tuple[LLMError | None, float, float]:
        loop = asyncio.get_running_loop()
        slept = 0.0
        try:
            async with stage.chain.stream("hi") as stream:
                async for event in stream:
                    reader.see(event)
                    await asyncio.sleep(held)
                    slept += held
        except LLMError as caught:
            return caught, loop.time(), slept
        reader.response = stream.response
        return None, loop.time(), slept

    failed, ended, slept = run_virtual(read())
    assert ended <= DEADLINE + slept + 1e-6
    assert len(stage.fake.closed) == stage.fake.opened
    called = [record.attempt for record in stage.sink.records if record.attempt.outcome != "skipped"]
    assert len(called) == len(stage.fake.asked)
    for model in named:
        assert sum(attempt.model == model for attempt in called) <= 2 * (max(retries, 1) + 1)
    if failed is not None:
        assert [attempt for attempt in failed.attempts if attempt.outcome != "skipped"] == called
        return
    assert reader.kinds.count("Done") == 1
    assert reader.text == reader.response.text
    assert reader.text == TEXT or (mode == "keep" and TEXT.startswith(reader.text))
    assert reader.seams == (told(reader) if reader.response.extra else [])


def played(acts: Any, given: Part) -> Part:
    return Part(given.shown, acts.hang, given.size, given.pause) if given.then == "hang" else given
