"""Streams over a real connection that is cut anywhere: every answer comes to its end, whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from flowcraft.errors import ProviderUnavailable, SettingsError
from flowcraft.events import Bus, Event, Said
from flowcraft.llm.seam import last_words
from flowcraft.manager import LLMManager
from flowcraft.plugin import (
    ChatResponse,
    OutputSpec,
    Reasoning,
    ReasoningDelta,
    Restart,
    Rollback,
    Switch,
    TextDelta,
    ToolCall,
    ToolCallEvent,
    ToolSpec,
)
from flowcraft.settings import load_settings
from flowcraft.testing import Fault, FaultServer, Reply
from flowcraft.testing.dialect import OpenAIDialect
from flowcraft.testing.messages import MessagesDialect
from flowcraft_anthropic.client import load as load_anthropic
from flowcraft_openai.client import load as load_openai

pytestmark = pytest.mark.integration

CUTS = 200
VENDORS = ("openai", "anthropic")
DIALECTS = {"openai": OpenAIDialect(), "anthropic": MessagesDialect()}
WORDS = (
    *("The stream breaks here, and nobody notices.\n", 'he said: "go on" \\ and {on}', "\t- a list\n\n", "  two  spaces  "),
    *("Привет, мир! ", "съешь ещё этих мягких ", "№ 5 — «да» ", "наконец-то.\n"),
    *("今天天气很好，", "我们去公园散步吧。", "流式传输在这里中断", "東京タワー"),
    *("👩‍👩‍👧‍👦", "🏳️‍🌈 ", "👍🏽", "🙂🙃", "🇺🇦"),
    *("e\u0301te\u0301 ", "n\u0303", "क्षत्रिय ", "ก็ดี", "Z\u0351\u036b\u0343a\u0328lgo "),
)
"""Latin, Cyrillic, Chinese, Japanese, emoji joined to one, skin tones, flags, combining marks, what JSON must escape."""


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


def managed(
    server: FaultServer,
    folder: Path,
    chains: Mapping[str, Any],
    bus: Bus | None = None,
    environ: Mapping[str, str] | None = None,
    vendor: str = "openai",
    **llm: Any,
) -> LLMManager:
    load_openai()  # an SDK takes a second, which is not to count as a first token
    load_anthropic()
    chained = {model for chain in (*chains.values(), llm.get("model_roles", {}).get("primary", ())) for model in chain}
    able = {model: {"capabilities": {"prefill": True}} for model in chained if "fill" in model}
    page = {
        "storage": f"sqlite:///{folder}/calls.db",
        "llm": {"tiers": chains, "retry_attempts": 0, **llm},
        "providers": {"local": {"type": vendor, "base_url": server.url, "api_key": "none", "models": able}},
    }
    file = folder / "settings.yaml"
    file.write_text(json.dumps(page))
    return LLMManager(load_settings(file, environ=environ or {}, cwd=folder), bus=bus)


def written(random: Random) -> tuple[str, ...]:
    """Return a text as the tokens that a model might make of it: of a few code points, whatever belongs together."""
    text = "".join(random.choice(WORDS) for _ in range(random.randint(3, 8)))
    tokens = []
    while text:
        size = random.randint(1, 5)
        tokens.append(text[:size])
        text = text[size:]
    return tuple(tokens)


def anywhere(random: Random, tokens: Sequence[str]) -> int:
    """Return after how many bytes to cut: behind the first word that is shown, at the very end at the latest."""
    first = next(place for place, token in enumerate(tokens, 1) if token.strip())
    return random.randint(len("".join(tokens[:first]).encode()), len("".join(tokens).encode()))


class Read:
    """What a reader makes of a stream's events, and where it saw models change."""

    def __init__(self) -> None:
        self.text = ""
        self.seams: list[tuple[int, str]] = []
        self.restarts = 0
        self.response = ChatResponse()

    async def read(self, stream: Any) -> Read:
        async with stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    self.text += event.text
                elif isinstance(event, Restart):
                    self.text, self.seams, self.restarts = "", [], self.restarts + 1
                elif isinstance(event, Rollback):
                    self.text = self.text[: -event.characters]
                elif isinstance(event, Switch):
                    self.seams.append((len(self.text), f"{event.provider}:{event.model}"))
        self.response = stream.response
        return self


async def all_read(manager: LLMManager, tiers: Sequence[str]) -> dict[str, Read]:
    async def one(tier: str) -> Read:
        return await Read().read(manager.llm(tier).stream("hi"))

    return dict(zip(tiers, await asyncio.gather(*map(one, tiers)), strict=True))


def seams_told(read: Read) -> list[tuple[int, str]]:
    return [(seam["at"], seam["to"]) for seam in read.response.extra["continuation"]["seams"]]


async def closed(server: FaultServer) -> None:
    await server.until(lambda: not server.open_connections and not server.running())


@pytest.mark.parametrize("vendor", VENDORS)
async def test_200_streams_cut_anywhere_are_gone_on_with_to_the_last_character(
    server: FaultServer, tmp_path: Path, vendor: str
) -> None:
    random = Random(7)
    chains, texts = {}, {}
    inside = 0
    for number in range(CUTS):
        tokens = written(random)
        text = texts[f"tier{number}"] = "".join(tokens)
        cut, fill, last = f"cut{number}", f"fill-cut{number}", f"fill{number}"
        place = anywhere(random, tokens)
        inside += place < len(text.encode()) and 0x80 <= text.encode()[place] < 0xC0
        server.script(cut, Fault.cut_stream(place, Reply(chunks=tokens)))
        # Every other stream is cut again in what was gone on with, at times before a character of it has come.
        again = Reply(chunks=tokens, prefill=True)
        server.script(fill, Fault.cut_stream(random.randint(0, 20), again) if number % 2 else again)
        server.script(last, again)
        chains[f"tier{number}"] = [cut, fill, last]
    async with managed(server, tmp_path, chains, vendor=vendor, continuation="continue") as manager:
        reads = await all_read(manager, list(chains))
    for tier, read in reads.items():
        assert read.text == read.response.text == texts[tier]
        assert read.response.message.text == texts[tier]
        assert read.seams == seams_told(read)
        assert read.seams
        assert read.restarts == 0
        assert all(seam["by"] == "prefill" for seam in read.response.extra["continuation"]["seams"])
        assert read.response.finish_reason == "stop"
    assert inside > CUTS / 5
    assert sum(len(read.seams) > 1 for read in reads.values()) > CUTS / 5
    await closed(server)


def obedient(random: Random, text: str) -> Callable[[Any], Reply]:
    """Return a model that does as it is told: repeats the last words, or more, or with white space before, and goes on."""

    def step(request: Any) -> Reply:
        so_far = request.body["messages"][-2]["content"]
        words = last_words(so_far)
        assert words in request.body["messages"][-1]["content"]
        begin = so_far.rstrip().rindex(words)
        if random.random() < 0.3:
            begin = max(0, begin - random.randint(1, 30))
        lead = random.choice(("", "", "\n", " "))
        rest = lead + text[begin:]
        size = random.randint(1, 7)
        return Reply(chunks=tuple(rest[start : start + size] for start in range(0, len(rest), size)))

    return step


@pytest.mark.parametrize("vendor", VENDORS)
async def test_200_streams_are_gone_on_with_by_models_that_can_only_be_told_to(
    server: FaultServer, tmp_path: Path, vendor: str
) -> None:
    random = Random(11)
    chains, texts = {}, {}
    for number in range(CUTS):
        tokens = written(random)
        text = texts[f"tier{number}"] = "".join(tokens)
        server.script(f"cut{number}", Fault.cut_stream(anywhere(random, tokens), Reply(chunks=tokens)))
        server.script(f"told{number}", obedient(random, text))
        chains[f"tier{number}"] = [f"cut{number}", f"told{number}"]
    async with managed(server, tmp_path, chains, vendor=vendor, continuation="continue") as manager:
        reads = await all_read(manager, list(chains))
    for tier, read in reads.items():
        assert read.text == read.response.text == texts[tier]
        assert read.seams == seams_told(read)
        assert [seam["by"] for seam in read.response.extra["continuation"]["seams"]] == ["instruction"]
    await closed(server)


@pytest.mark.parametrize("mode", ["restart", "unstreamed", "keep"])
async def test_200_streams_cut_anywhere_end_as_their_mode_says(server: FaultServer, tmp_path: Path, mode: str) -> None:
    random = Random(13)
    chains, texts = {}, {}
    for number in range(CUTS):
        tokens = written(random)
        texts[f"tier{number}"] = "".join(tokens)
        server.script(f"cut{number}", Fault.cut_stream(anywhere(random, tokens), Reply(chunks=tokens)))
        server.script(f"good{number}", Reply(chunks=tokens))
        chains[f"tier{number}"] = [f"cut{number}", f"good{number}"]
    async with managed(server, tmp_path, chains, continuation=mode) as manager:
        reads = await all_read(manager, list(chains))
    for tier, read in reads.items():
        assert read.text == read.response.text
        assert read.restarts == read.response.extra["continuation"]["restarts"]
        if mode == "keep":
            assert texts[tier].startswith(read.text)
            assert (read.response.finish_reason, read.restarts) == ("cut", 0)
            assert read.response.usage.output > 0
        else:
            assert read.text == texts[tier]
            assert (read.response.finish_reason, read.restarts) == ("stop", 1)
    assert server.count() == CUTS * (1 if mode == "keep" else 2)
    await closed(server)


CALL = ToolCall(id="call_a", name="weather", arguments='{"city": "Zürich 🙂"}')
WEATHER = ToolSpec(name="weather", description="Tell the weather.")


@pytest.mark.parametrize("mode", ["restart", "continue"])
@pytest.mark.parametrize("vendor", VENDORS)
async def test_answers_with_thoughts_and_calls_come_whole_whatever_byte_is_the_last(
    server: FaultServer, tmp_path: Path, vendor: str, mode: str
) -> None:
    reply = Reply("Привет, 👩‍👩‍👧 мир!", reasoning="Так, so: 🙂", tool_calls=(CALL,))
    asked = {"model": "cut", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
    wire = b"".join(DIALECTS[vendor].events(reply, asked, 1))
    server.script("good", reply)
    rules: dict[str, Any] = {"breaker": {"calls": 10_000}, "vendor": vendor, "continuation": mode}
    ends = range(len(wire) % 11, len(wire), 11)
    async with managed(server, tmp_path, {"both": ["cut", "good"]}, **rules) as manager:
        for end in ends:
            server.script("cut", Fault(raw=wire[:end], content_type="text/event-stream", cut_at="end" if end % 2 else None))
            thoughts, calls, text = "", [], ""
            async with manager.llm("both").stream("hi", tools=(WEATHER,)) as stream:
                async for event in stream:
                    match event:
                        case Restart():
                            thoughts, calls, text = "", [], ""
                        case ReasoningDelta(piece):
                            thoughts += piece
                        case ToolCallEvent(call=call):
                            calls.append(call)
                        case TextDelta(piece):
                            text += piece
            response = stream.response
            assert response is not None
            assert text == response.text == response.message.text == reply.text
            assert tuple(calls) == response.tool_calls == (CALL,)
            if "continuation" not in response.extra or response.extra["continuation"]["restarts"]:
                told = "".join(part.text for part in response.parts if isinstance(part, Reasoning))
                assert thoughts == told == reply.reasoning
    assert server.count("cut") == len(ends)
    await closed(server)


@pytest.mark.parametrize("warned", [True, False])
async def test_text_that_is_kept_is_warned_of_once_for_each_model(server: FaultServer, tmp_path: Path, warned: bool) -> None:
    server.script("cut", Fault.cut("chunk", "one two"))
    said: list[str] = []
    bus = Bus()

    def watch(event: Event) -> None:
        if isinstance(event, Said):
            said.append(event.message)

    bus.subscribe(watch)
    names = {"LLM_FORCE_OPENAI_STREAMING": "true", "LLM_SUPPRESS_STREAM_WARNINGS": str(not warned).lower()}
    async with managed(server, tmp_path, {"only": ["cut"]}, bus, environ=names) as manager:
        for _ in range(2):
            assert (await Read().read(manager.llm("only").stream("hi"))).text == "one "
    assert said == ["a stream of local:cut was cut; the text so far is taken for the answer"] * warned


async def test_plain_pieces_are_gone_on_with_for_they_cannot_be_taken_back(server: FaultServer, tmp_path: Path) -> None:
    whole = Reply("one two three", prefill=True)
    server.script("cut", Fault.cut("chunk", whole))
    server.script("fill", whole)
    async with managed(server, tmp_path, {}, model_roles={"primary": ["cut", "fill"]}) as manager:
        assert "".join([piece async for piece in manager.stream_completion("hi")]) == "one two three"
        pieces = manager.stream_completion("hi", output=OutputSpec(schema={"type": "string"}))
        assert await anext(pieces) == "one "
        with pytest.raises(ProviderUnavailable, match="was cut and cannot be gone on with: local:cut: ProviderUnavailable"):
            await anext(pieces)
    await closed(server)


async def test_a_call_says_itself_what_becomes_of_its_stream(server: FaultServer, tmp_path: Path) -> None:
    server.script("cut", Fault.cut("chunk", "one two"))
    server.script("good", "one two")
    async with managed(server, tmp_path, {"both": ["cut", "good"]}, continuation="fail") as manager:
        with pytest.raises(ProviderUnavailable):
            await Read().read(manager.llm("both").stream("hi"))
        read = await Read().read(manager.llm("both", continuation="restart").stream("hi"))
        assert (read.text, read.restarts) == ("one two", 1)
        with pytest.raises(SettingsError, match=r"no continuation 'restrat' .*did you mean 'restart'"):
            manager.llm("both", continuation="restrat")
    tier = {"primary": ["cut", "good"], "continuation": "keep"}
    async with managed(server, tmp_path, {"both": tier}, continuation="fail") as manager:
        assert (await Read().read(manager.llm("both").stream("hi"))).text == "one "
