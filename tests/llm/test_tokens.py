"""Tokens of calls that nobody answered for: how many they are about, and which calls have any."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from flowcraft.errors import (
    AuthenticationFailed,
    ChainExhausted,
    ContentFiltered,
    ContextTooLong,
    InvalidOutput,
    InvalidRequest,
    ModelNotFound,
    ModelNotLoaded,
    PluginError,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
)
from flowcraft.llm.tokens import answer_tokens, estimate_tokens, estimate_usage, json_tokens, text_tokens
from flowcraft.plugin import (
    Audio,
    ChatRequest,
    ChatResponse,
    File,
    Image,
    Message,
    OutputSpec,
    Price,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    Video,
    collect,
)

pytestmark = pytest.mark.unit

ENGLISH = "The quick brown fox jumps over the lazy dog, and then it goes on to the next field without looking back."
RUSSIAN = "Съешь ещё этих мягких французских булок, да выпей же чаю, а потом иди домой и ложись спать."
CHINESE = "今天天气很好，我们去公园散步吧，然后一起吃晚饭，看看有什么新的电影可以看。"
JSON = '{"name": "Ada", "born": 1815, "works": ["notes", "letters"], "alive": false}'

PER_CHARACTER = [(ENGLISH, 0.2, 0.3), (RUSSIAN, 0.3, 0.6), (CHINESE, 0.6, 1.1)]
"""What tokenizers commonly need, from the newest to older ones."""


@pytest.mark.parametrize(("text", "least", "most"), PER_CHARACTER)
def test_texts_are_estimated_within_a_factor_of_two(text: str, least: float, most: float) -> None:
    assert most / 2 <= text_tokens(text) / len(text) <= 2 * least


def test_json_has_more_tokens_than_prose_of_its_length() -> None:
    assert json_tokens(JSON) > 1.3 * text_tokens("x" * len(JSON))


def asked(*parts: Any, **more: Any) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", parts=parts),), **more)


def test_everything_that_is_sent_counts() -> None:
    text = asked(Text(text=ENGLISH))
    alone = estimate_tokens(text)
    longer = [
        replace(text, messages=(Message.system(ENGLISH), *text.messages)),
        replace(text, tools=(ToolSpec(name="look", description="looks up a word"),)),
        replace(text, output=OutputSpec(schema={"type": "object", "properties": {"n": {"type": "integer"}}})),
        replace(text, prefix="It all began"),
        asked(Text(text=ENGLISH), ToolCall(id="1", name="look", arguments=JSON)),
        asked(Text(text=ENGLISH), ToolResult(id="1", content=JSON)),
    ]
    assert all(estimate_tokens(request) > alone + 2 for request in longer)


def test_media_count_by_their_size_or_as_they_usually_are() -> None:
    assert estimate_tokens(asked(Image(url="https://example.org/a.png"))) == estimate_tokens(asked(Image(data=b"x" * 500_000)))
    for kind in (Audio, Video, File):
        small, large = asked(kind(data=b"x" * 10_000)), asked(kind(data=b"x" * 10_000_000))
        assert 100 <= estimate_tokens(small) < estimate_tokens(large)
        assert estimate_tokens(asked(kind(path="somewhere"))) > 100
    assert estimate_tokens(asked(File(data=ENGLISH.encode() * 10, media_type="text/plain"))) < 300


def test_text_that_is_no_valid_unicode_counts_too() -> None:
    assert text_tokens("\ud83d" * 10) > 1


def test_usage_is_never_rounded_down_to_nothing() -> None:
    assert estimate_usage(asked(Text(text="hi")), 0.2).output == 1
    assert estimate_usage(asked(Text(text="hi"))).output == 0
    assert answer_tokens(ChatResponse(text=ENGLISH)) == pytest.approx(text_tokens(ENGLISH), abs=1)


# -- which calls have any


def priced(info_of: Any, *models: str) -> dict[str, Any]:
    return {model: replace(info_of(model), price=Price(input=1_000_000.0, output=2_000_000.0)) for model in models}


FREE = [
    AuthenticationFailed,
    ContentFiltered,
    ContextTooLong,
    InvalidRequest,
    ModelNotFound,
    ModelNotLoaded,
    OSError,
    PluginError,
    ProviderError,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
]


@pytest.mark.parametrize("error", FREE)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_that_was_refused_costs_nothing(staged: Any, acts: Any, info_of: Any, error: Any, streamed: bool) -> None:
    stage = staged({"a": [acts.fails(error)], "b": ["hello"]}, infos=priced(info_of, "a"), retries=0)
    response = await (collect(stage.chain.stream(ENGLISH)) if streamed else stage.chain.chat(ENGLISH))
    failed = response.attempts[0]
    assert failed.outcome != "ok"
    assert (failed.usage, failed.usd, failed.estimated) == (Usage(), None, False)
    assert failed.streamed == streamed


@pytest.mark.parametrize("error", [ProviderTimeout, InvalidOutput])
async def test_a_call_that_was_too_late_or_no_good_costs_its_question(staged: Any, acts: Any, info_of: Any, error: Any) -> None:
    stage = staged({"a": [acts.fails(error)], "b": ["hello"]}, infos=priced(info_of, "a"), retries=0, repair=False)
    failed = (await stage.chain.chat(ENGLISH)).attempts[0]
    assert failed.usage == Usage(input=estimate_tokens(asked(Text(text=ENGLISH))))
    assert failed.estimated
    assert failed.usd == failed.usage.input


@pytest.mark.parametrize("error", [ProviderUnavailable, RateLimited, ProviderError])
async def test_a_stream_that_was_cut_costs_what_had_come(staged: Any, acts: Any, info_of: Any, error: Any) -> None:
    pieces = [f"{word} " for word in ENGLISH.split()]
    stage = staged({"a": [acts.cut(*pieces, then=acts.fails(error))]}, infos=priced(info_of, "a"), retries=0)
    with pytest.raises(error) as caught:
        await collect(stage.chain.stream(ENGLISH))
    (failed,) = caught.value.attempts
    assert failed.estimated
    assert failed.usage.input == estimate_tokens(asked(Text(text=ENGLISH)))
    assert len(pieces) <= failed.usage.output <= 2 * len(pieces)
    assert failed.usd == failed.usage.input + 2 * failed.usage.output


async def test_a_stream_that_its_reader_leaves_costs_what_had_come(staged: Any, info_of: Any) -> None:
    stage = staged({"a": [ENGLISH]}, infos=priced(info_of, "a"))
    async with stage.chain.stream("hi") as stream:
        await anext(stream)
    (left,) = [record.attempt for record in stage.sink.records]
    assert (left.outcome, left.usage.output, left.estimated) == ("cancelled", 1, True)


async def test_a_call_that_somebody_cancels_costs_its_question(staged: Any, acts: Any, info_of: Any) -> None:
    stage = staged({"a": [acts.hang]}, infos=priced(info_of, "a"))
    task = asyncio.ensure_future(stage.chain.chat(ENGLISH))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (left,) = [record.attempt for record in stage.sink.records]
    assert left.estimated
    assert left.usd == left.usage.input == estimate_tokens(asked(Text(text=ENGLISH)))


async def test_an_empty_answer_costs_what_its_vendor_says(staged: Any, info_of: Any) -> None:
    thought = ChatResponse(finish_reason="length", usage=Usage(input=7, output=500, reasoning=500))
    stage = staged({"a": [thought]}, infos=priced(info_of, "a"), repair=False)
    with pytest.raises(ChainExhausted) as caught:
        await stage.chain.chat(ENGLISH)
    (failed,) = caught.value.attempts
    assert (failed.outcome, failed.usage, failed.usd, failed.estimated) == ("InvalidOutput", thought.usage, 1007.0, False)


@pytest.mark.parametrize(("billed", "estimated"), [(True, True), (False, False)])
@pytest.mark.parametrize("error", [ProviderUnavailable, ProviderTimeout])
async def test_a_plugin_may_know_better(
    staged: Any, acts: Any, info_of: Any, error: Any, billed: bool, estimated: bool
) -> None:
    stage = staged({"a": [acts.fails(error, billed=billed)], "b": ["hello"]}, infos=priced(info_of, "a"), retries=0)
    failed = (await stage.chain.chat(ENGLISH)).attempts[0]
    assert failed.estimated == estimated
    assert bool(failed.usage.input) == estimated


async def test_the_offline_model_never_costs_anything(staged: Any, acts: Any) -> None:
    stage = staged({}, offline=[acts.hang], timeout=5, deadline=5)
    with pytest.raises(ChainExhausted) as caught:
        await stage.chain.chat("hi")
    (failed,) = caught.value.attempts
    assert (failed.outcome, failed.usage, failed.estimated) == ("ProviderTimeout", Usage(), False)
