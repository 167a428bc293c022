"""The provider ``offline``: answers from the request's own text, without network or model."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, ClassVar

from flowcraft.attempts import Usage
from flowcraft.builtin.extract import PromptText, shortened
from flowcraft.builtin.schema_value import value_of
from flowcraft.plugin.capabilities import Capabilities, ModelInfo, Price
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, FinishReason, StreamEvent, TextDelta
from flowcraft.plugin.hooks import Preset, hookimpl
from flowcraft.plugin.provider import Provider
from flowcraft.plugin.vectors import Vectors

_CHARACTERS_PER_TOKEN = 4
_SENTENCES = 3
_ANSWER_LENGTH = 480
_DIMENSIONS = 256


class Offline(Provider):
    """Answers with what the request itself says: extracts for a prompt, a value of the schema for a typed output.

    Tools may be given to it; it calls none, and says so where the answer is text.
    """

    name = "offline"
    offline: ClassVar[bool] = True
    capabilities = Capabilities(
        stream=True,
        json_schema=True,
        json_object=True,
        system=True,
        stop=True,
        seed=True,
        list_models=True,
        embed=True,
        tools=True,  # it never calls one, and says so
        parallel_tools=False,
        tool_choice=False,
        gbnf=False,
        logprobs=False,
        n=False,
        prefill=False,
        continue_exact=False,
        images=False,
        audio_in=False,
        audio_out=False,
        video=False,
        files=False,
        reasoning=False,
    )

    async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
        """Answer ``request``; the same request always gets the same answer."""
        text = PromptText(_longest_text(request))
        finish_reason: FinishReason = "stop"
        if request.output is not None:
            answer = json.dumps(value_of(request.output.schema, text), ensure_ascii=False)
        else:
            answer, finish_reason = _extract(text, request)
            if request.tools and finish_reason == "stop":
                names = ", ".join(tool.name for tool in request.tools)
                answer += f"\n\n(Offline calls no tools; it was given: {names}.)"
        return ChatResponse(
            text=answer,
            model=model or self.name,
            provider=self.section,
            finish_reason=finish_reason,
            usage=Usage(input=_tokens(sum(len(message.text) for message in request.messages)), output=_tokens(len(answer))),
            usd=0.0,
            offline=True,
        )

    async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Answer word by word."""
        response = await self.chat(model, request)
        for word in re.findall(r"\s*\S+|\s+$", response.text):
            yield TextDelta(word)
        yield Done(response)

    async def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        """Return vectors that tell which words texts share, and nothing of what they mean."""
        return Vectors(
            vectors=tuple(map(_vector, texts)), usage=Usage(input=_tokens(sum(map(len, texts)))), usd=0.0, offline=True
        )

    async def list_models(self) -> Sequence[ModelInfo]:
        """Return the one model that there is."""
        return [_model(self.section)]


def _vector(text: str) -> tuple[float, ...]:
    """Return the counts of a text's words, each word at a place that its hash says, as a vector of length 1."""
    counts = [0.0] * _DIMENSIONS
    for word in re.findall(r"\w+", text.casefold()):
        number = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        counts[number % _DIMENSIONS] += 1.0 if number >> 63 else -1.0
    norm = math.sqrt(sum(count * count for count in counts))
    return tuple(count / norm for count in counts) if norm else (1.0, *counts[1:])


def _longest_text(request: ChatRequest) -> str:
    asked = [message.text for message in request.messages if message.role != "system" and message.text.strip()]
    return max(asked, key=len) if asked else request.system_text


def _extract(text: PromptText, request: ChatRequest) -> tuple[str, FinishReason]:
    told: list[str] = []
    for sentence in text.sentences[:_SENTENCES]:
        if told and sum(map(len, told)) + len(sentence) > _ANSWER_LENGTH:
            break
        told.append(sentence)
    answer = shortened(" ".join(told), _ANSWER_LENGTH)
    for stop in request.stop:
        answer = answer.partition(stop)[0] if stop else answer
    if request.max_tokens is not None and _tokens(len(answer)) > request.max_tokens:
        return shortened(answer, request.max_tokens * _CHARACTERS_PER_TOKEN), "length"
    return answer, "stop"


def _tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)


def _model(provider: str) -> ModelInfo:
    return ModelInfo(
        model=Offline.name,
        provider=provider,
        capabilities=Offline.capabilities,
        price=Price(input=0, output=0),
        family=Offline.name,
        offline=True,
        sources={"price": "preset"},
    )


@hookimpl
def flowcraft_providers() -> dict[str, Preset]:
    """Offer ``offline``, which needs no section and no key."""
    return {Offline.name: Preset(provider=Offline, default_model=Offline.name)}


@hookimpl
def flowcraft_models(provider: str, config: Mapping[str, Any]) -> list[ModelInfo]:
    """Say what the model ``offline`` can do and costs."""
    return [_model(provider)] if provider == Offline.name else []
