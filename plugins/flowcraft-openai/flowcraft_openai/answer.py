"""What came back, whole or in chunks, as a response and as events."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowcraft.plugin import (
    Audio,
    AudioDelta,
    ChatResponse,
    Choice,
    ContentFiltered,
    Done,
    FinishReason,
    LogprobsDelta,
    Part,
    ProviderUnavailable,
    Reasoning,
    ReasoningDelta,
    Refusal,
    StreamEvent,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
    Vectors,
)
from flowcraft_openai.errors import from_body

FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "abort": "cut",
}

REASONING = ("reasoning_content", "reasoning")
"""Where compatible servers put what a model thought."""

NOTED = ("model", "system_fingerprint", "service_tier", "provider", "citations")
"""What of an answer's top level is kept in ``extra``."""


class Reader:
    """Makes a response of an answer, for one model of one section."""

    def __init__(self, model: str, section: str) -> None:
        self.model = model
        self.section = section

    def response(self, data: Any) -> ChatResponse:
        """Return the response that ``data`` holds. Raises our errors."""
        check(data)
        choices = data.get("choices")
        if not isinstance(choices, list) or not choices:
            raise ProviderUnavailable("the server answered without any choice")
        first = choices[0]
        if isinstance(first.get("error"), Mapping):
            raise from_body(first["error"])
        message = first.get("message") or {}
        parts = self.parts(message)
        logprobs = first.get("logprobs")
        return self.finished(
            data,
            parts=parts,
            reason=first.get("finish_reason"),
            logprobs=tokens(logprobs) if isinstance(logprobs, Mapping) else None,
            choices=tuple(self._choice(choice) for choice in choices) if len(choices) > 1 else (),
        )

    def finished(
        self,
        data: Mapping[str, Any],
        *,
        parts: tuple[Part, ...],
        reason: Any,
        logprobs: tuple[TokenLogprob, ...] | None,
        choices: tuple[Choice, ...] = (),
    ) -> ChatResponse:
        """Return the response of these parts; ``data`` holds id, usage and notes. Raises ContentFiltered."""
        text = _text(parts)
        finish = _finish(reason, parts)
        if finish == "content_filter" and not text:
            raise ContentFiltered("the vendor's filter held the whole answer back")
        usage = data.get("usage") or {}
        cost = usage.get("cost")
        return ChatResponse(
            text=text,
            parts=parts,
            model=self.model,
            provider=self.section,
            response_id=str(data.get("id") or ""),
            finish_reason=finish,
            usage=usage_of(usage),
            usd=float(cost) if isinstance(cost, int | float) else None,
            logprobs=logprobs,
            choices=choices,
            extra={key: data[key] for key in NOTED if data.get(key) is not None},
        )

    def parts(self, message: Mapping[str, Any]) -> tuple[Part, ...]:
        """Return the parts of an answer's message."""
        parts: list[Part] = []
        thought = next((message[key] for key in REASONING if isinstance(message.get(key), str) and message[key]), "")
        if thought:
            parts.append(Reasoning(text=thought, provider=self.section, model=self.model))
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(item.get("text", "") for item in content if isinstance(item, Mapping))
        if content:
            parts.append(Text(text=str(content)))
        if message.get("refusal"):
            parts.append(Refusal(text=str(message["refusal"])))
        parts += [_call(index, call) for index, call in enumerate(message.get("tool_calls") or ())]
        audio = message.get("audio")
        if isinstance(audio, Mapping):
            parts += _audio(audio, spoken=not content)
        return tuple(parts)

    def _choice(self, choice: Mapping[str, Any]) -> Choice:
        parts = self.parts(choice.get("message") or {})
        return Choice(text=_text(parts), parts=parts, finish_reason=_finish(choice.get("finish_reason"), parts))


class ChunkReader(Reader):
    """Makes events of a stream's chunks; ``done`` makes the last one."""

    def __init__(self, model: str, section: str) -> None:
        super().__init__(model, section)
        self._top: dict[str, Any] = {}
        self._messages: dict[int, dict[str, Any]] = {}
        self._reasons: dict[int, Any] = {}
        self._calls: list[dict[str, str]] = []
        self._logprobs: list[TokenLogprob] = []
        self._audio = bytearray()

    def events(self, chunk: Any) -> Iterator[StreamEvent]:
        """Yield the events of one chunk. Raises our errors."""
        check(chunk)
        for key in ("id", "usage", *NOTED):
            if chunk.get(key) is not None:
                self._top[key] = chunk[key]
        for choice in chunk.get("choices") or ():
            if isinstance(choice.get("error"), Mapping):
                raise from_body(choice["error"])
            index = choice.get("index") or 0
            if choice.get("finish_reason"):
                self._reasons[index] = choice["finish_reason"]
            delta = choice.get("delta") or {}
            if index == 0:
                yield from self._first(delta, choice.get("logprobs"))
            else:
                self._add(index, "content", delta.get("content") or "")

    def done(self) -> Iterator[StreamEvent]:
        """Yield the complete tool calls and ``Done``. Raises ProviderUnavailable if the stream ended too early."""
        if 0 not in self._reasons:
            raise ProviderUnavailable("the stream ended before the answer did")
        message: dict[str, Any] = {**self._messages.get(0, {})}
        message["tool_calls"] = [{"id": call["id"], "function": call} for call in self._calls]
        parts = self.parts(message)
        if self._audio:
            parts = (*parts, Audio(data=bytes(self._audio)))
        calls = [part for part in parts if isinstance(part, ToolCall)]
        response = self.finished(
            self._top,
            parts=parts,
            reason=self._reasons[0],
            logprobs=tuple(self._logprobs) or None,
            choices=tuple(self._streamed(index) for index in sorted(self._messages)) if len(self._messages) > 1 else (),
        )
        for index, call in enumerate(calls):
            yield ToolCallEvent(index, call)
        yield Done(response)

    def _first(self, delta: Mapping[str, Any], logprobs: Any) -> Iterator[StreamEvent]:
        for key in REASONING:
            if isinstance(delta.get(key), str) and delta[key]:
                self._add(0, "reasoning", delta[key])
                yield ReasoningDelta(delta[key])
                break
        if delta.get("content"):
            self._add(0, "content", delta["content"])
            yield TextDelta(delta["content"])
        if delta.get("refusal"):
            self._add(0, "refusal", delta["refusal"])
        if isinstance(delta.get("audio"), Mapping):
            yield from self._sound(delta["audio"])
        for call in delta.get("tool_calls") or ():
            yield self._call_delta(call)
        if isinstance(logprobs, Mapping) and (news := tokens(logprobs)):
            self._logprobs += news
            yield LogprobsDelta(news)

    def _sound(self, audio: Mapping[str, Any]) -> Iterator[StreamEvent]:
        if audio.get("transcript"):
            self._add(0, "content", audio["transcript"])
            yield TextDelta(audio["transcript"])
        if audio.get("data"):
            data = base64.b64decode(audio["data"])
            self._audio += data
            yield AudioDelta(data)

    def _call_delta(self, delta: Mapping[str, Any]) -> ToolCallDelta:
        function = delta.get("function") or {}
        index = delta.get("index")
        if index is None:  # servers that send each call whole may leave the index out
            index = len(self._calls) if delta.get("id") or not self._calls else len(self._calls) - 1
        while len(self._calls) <= index:
            self._calls.append({"id": "", "name": "", "arguments": ""})
        call = self._calls[index]
        arguments = _arguments(function.get("arguments")) if function.get("arguments") else ""
        call["id"] = call["id"] or str(delta.get("id") or "")
        call["name"] = call["name"] or str(function.get("name") or "")
        call["arguments"] += arguments
        return ToolCallDelta(index, str(delta.get("id") or ""), str(function.get("name") or ""), arguments)

    def _streamed(self, index: int) -> Choice:
        parts = self.parts(self._messages[index])
        return Choice(text=_text(parts), parts=parts, finish_reason=_finish(self._reasons.get(index), parts))

    def _add(self, index: int, key: str, text: str) -> None:
        message = self._messages.setdefault(index, {})
        message[key] = message.get(key, "") + text


def check(data: Any) -> None:
    """Raise what is wrong with an answer or a chunk as a whole."""
    if isinstance(data, str) or data is None:
        said = " ".join((data or "").split())[:80]
        raise ProviderUnavailable(f"the server answered with {f'no JSON: {said}' if said else 'an empty body'}")
    if not isinstance(data, Mapping):
        raise ProviderUnavailable(f"the server answered with a JSON {type(data).__name__} in place of an object")
    error = data.get("error")
    if error:
        raise from_body(error if isinstance(error, Mapping) else {"message": str(error)})


def vectors_of(data: Any) -> Vectors:
    """Return the vectors of an answer, in the order of the texts. Raises our errors."""
    check(data)
    items = data.get("data")
    if not isinstance(items, list) or not items:
        raise ProviderUnavailable("the server answered without any vector")
    try:
        ordered = sorted(items, key=lambda item: int(item["index"]))
        vectors = tuple(tuple(float(number) for number in item["embedding"]) for item in ordered)
    except (KeyError, TypeError, ValueError):
        raise ProviderUnavailable("the server answered with vectors that cannot be read") from None
    return Vectors(vectors=vectors, usage=usage_of(data.get("usage") or {}))


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """Return the tokens of a ``usage`` object. Its prompt tokens include the cached ones."""
    prompt, output = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return Usage(
        input=usage.get("prompt_tokens") or 0,
        cached=prompt.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or 0,
        cache_write=prompt.get("cache_write_tokens") or 0,
        output=usage.get("completion_tokens") or 0,
        reasoning=output.get("reasoning_tokens") or 0,
        audio=(prompt.get("audio_tokens") or 0) + (output.get("audio_tokens") or 0),
    )


def tokens(logprobs: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
    """Return the tokens of a ``logprobs`` object. -9999.0 is the vendor's word for "very unlikely" and stays."""
    return tuple(_token(item) for item in logprobs.get("content") or ())


def _token(item: Mapping[str, Any]) -> TokenLogprob:
    raw = item.get("bytes")
    top: Sequence[Mapping[str, Any]] = item.get("top_logprobs") or ()
    return TokenLogprob(
        token=str(item.get("token", "")),
        logprob=float(item.get("logprob") or 0.0),
        bytes=bytes(raw) if isinstance(raw, list) else None,
        top=tuple(_token(other) for other in top),
    )


def _text(parts: tuple[Part, ...]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Text))


def _finish(reason: Any, parts: tuple[Part, ...]) -> FinishReason:
    if any(isinstance(part, Refusal) for part in parts):
        return "refusal"
    if any(isinstance(part, ToolCall) for part in parts) and reason in (None, "stop"):
        return "tool_calls"
    return FINISH.get(str(reason), "stop")


def _call(index: int, call: Mapping[str, Any]) -> ToolCall:
    function = call.get("function") or {}
    arguments = _arguments(function.get("arguments"))
    return ToolCall(id=str(call.get("id") or f"call_{index}"), name=str(function.get("name") or ""), arguments=arguments)


def _arguments(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments or "{}"
    return json.dumps(arguments, ensure_ascii=False) if arguments is not None else "{}"


def _audio(audio: Mapping[str, Any], *, spoken: bool) -> list[Part]:
    parts: list[Part] = [Text(text=str(audio["transcript"]))] if spoken and audio.get("transcript") else []
    return [*parts, Audio(data=base64.b64decode(audio.get("data") or ""))]
