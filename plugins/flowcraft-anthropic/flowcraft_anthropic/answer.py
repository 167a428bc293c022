"""What came back, whole or in events, as a response and as our events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowcraft.plugin import (
    ChatResponse,
    ContentFiltered,
    Done,
    FinishReason,
    Part,
    ProviderUnavailable,
    Reasoning,
    ReasoningDelta,
    Refusal,
    StreamEvent,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
)
from flowcraft_anthropic.content import arguments
from flowcraft_anthropic.errors import from_body

FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
}

NOTED = ("model", "stop_sequence", "stop_details", "container", "diagnostics")
"""What of an answer's top level is kept in ``extra``."""

KNOWN = ("text", "thinking", "redacted_thinking", "tool_use")


class Reader:
    """Makes a response of an answer, for one model of one section.

    ``blank`` is white space that the prefix ended with and that could not be sent: where the answer begins with it, it is
    taken off. ``left_out`` is what of the request could not be sent; it is told in ``extra``.
    """

    def __init__(self, model: str, section: str, *, blank: str = "", left_out: Sequence[str] = ()) -> None:
        self.model = model
        self.section = section
        self._blank = blank
        self._left_out = tuple(left_out)

    def response(self, data: Any) -> ChatResponse:
        """Return the response that ``data`` holds. Raises our errors."""
        check(data)
        blocks = data.get("content")
        if not isinstance(blocks, list) or not data.get("stop_reason") or not all(isinstance(block, dict) for block in blocks):
            raise ProviderUnavailable("the server answered without content or the reason why it ended")
        for block in blocks:
            if block.get("type") == "text":
                block["text"] = self.without_blank(str(block.get("text") or ""))
        return self.finished(data, blocks)

    def finished(self, data: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> ChatResponse:
        """Return the response of these blocks; ``data`` holds the rest. Raises ContentFiltered."""
        parts = self.parts(blocks)
        text = "".join(part.text for part in parts if isinstance(part, Text))
        finish = FINISH.get(str(data["stop_reason"]), "stop")
        if finish == "refusal":
            parts = self._refused(data.get("stop_details"), parts, text)
        extra = {key: data[key] for key in NOTED if data.get(key) is not None}
        if any(block.get("type") not in KNOWN for block in blocks):
            extra["content"] = [_whole(block) for block in blocks]
        if self._left_out:
            extra["left_out"] = self._left_out
        return ChatResponse(
            text=text,
            parts=parts,
            model=self.model,
            provider=self.section,
            response_id=str(data.get("id") or ""),
            finish_reason=finish,
            usage=usage_of(data.get("usage") or {}),
            extra=extra,
        )

    def parts(self, blocks: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
        """Return the parts that content blocks make."""
        return tuple(part for block in blocks if (part := self._part(block)) is not None)

    def without_blank(self, text: str) -> str:
        """Return the answer's next text without what the prefix said already."""
        while self._blank and text:
            if text[0] != self._blank[0]:
                self._blank = ""
                break
            text, self._blank = text[1:], self._blank[1:]
        return text

    def _part(self, block: Mapping[str, Any]) -> Part | None:
        kind = block.get("type")
        if kind == "text":
            return Text(text=str(block["text"])) if block.get("text") else None
        if kind == "tool_use":
            return ToolCall(id=str(block.get("id") or ""), name=str(block.get("name") or ""), arguments=_arguments(block))
        if kind == "redacted_thinking":
            return self._thought("", str(block.get("data") or ""), redacted=True)
        if kind == "thinking" and (block.get("thinking") or block.get("signature")):
            return self._thought(str(block.get("thinking") or ""), str(block.get("signature") or ""), redacted=False)
        return None

    def _thought(self, text: str, signature: str, *, redacted: bool) -> Reasoning:
        return Reasoning(text=text, signature=signature, redacted=redacted, provider=self.section, model=self.model)

    def _refused(self, details: Any, parts: tuple[Part, ...], text: str) -> tuple[Part, ...]:
        told = details if isinstance(details, Mapping) else {}
        why = str(told.get("explanation") or "")
        if not text:
            detail = {key: told[key] for key in ("category", "explanation") if told.get(key)}
            raise ContentFiltered(why or "the vendor's filter held the whole answer back", details=(detail,) if detail else ())
        return (*parts, Refusal(text=why)) if why else parts


class EventReader(Reader):
    """Makes our events of a stream's; ``done`` makes the last one."""

    def __init__(self, model: str, section: str, *, blank: str = "", left_out: Sequence[str] = ()) -> None:
        super().__init__(model, section, blank=blank, left_out=left_out)
        self._top: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._calls: list[int] = []
        self._told: set[int] = set()

    def events(self, event: Any) -> Iterator[StreamEvent]:
        """Yield the events of one event. Raises our errors."""
        check(event)
        kind = event.get("type")
        if kind == "content_block_delta":
            yield from self._delta(_index(event), event.get("delta") or {})
        elif kind == "content_block_start":
            yield from self._start(_index(event), event.get("content_block") or {})
        elif kind == "content_block_stop":
            yield from self._complete(_index(event))
        elif kind == "message_start":
            self._note(event.get("message") or {})
        elif kind == "message_delta":
            self._note(event.get("delta") or {})
            self._note(event)

    def done(self) -> Iterator[StreamEvent]:
        """Yield what is still missing and ``Done``. Raises ProviderUnavailable if the stream ended too early."""
        if not self._top.get("stop_reason"):
            raise ProviderUnavailable("the stream ended before the answer did")
        for index in sorted(self._blocks):
            yield from self._complete(index)
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        yield Done(self.finished({**self._top, "usage": self._usage}, blocks))

    def _note(self, told: Mapping[str, Any]) -> None:
        for key in ("id", "stop_reason", *NOTED):
            if told.get(key) is not None:
                self._top[key] = told[key]
        self._usage.update((key, value) for key, value in (told.get("usage") or {}).items() if value is not None)

    def _start(self, index: int, block: Mapping[str, Any]) -> Iterator[StreamEvent]:
        begun = self._blocks[index] = dict(block)
        if begun.get("type") == "tool_use":
            self._calls.append(index)
            yield ToolCallDelta(len(self._calls) - 1, str(begun.get("id") or ""), str(begun.get("name") or ""))
        elif begun.get("text"):
            begun["text"] = self.without_blank(str(begun["text"]))
            if begun["text"]:
                yield TextDelta(begun["text"])
        elif begun.get("thinking"):
            yield ReasoningDelta(str(begun["thinking"]))

    def _delta(self, index: int, delta: Mapping[str, Any]) -> Iterator[StreamEvent]:
        kind = delta.get("type")
        block = self._blocks.setdefault(index, {"type": "thinking" if kind == "thinking_delta" else "text"})
        if kind == "text_delta":
            text = self.without_blank(str(delta.get("text") or ""))
            block["text"] = (block.get("text") or "") + text
            if text:
                yield TextDelta(text)
        elif kind == "thinking_delta" and delta.get("thinking"):
            block["thinking"] = (block.get("thinking") or "") + delta["thinking"]
            yield ReasoningDelta(delta["thinking"])
        elif kind == "signature_delta":
            block["signature"] = (block.get("signature") or "") + str(delta.get("signature") or "")
        elif kind == "input_json_delta" and delta.get("partial_json"):
            block["json"] = block.get("json", "") + delta["partial_json"]
            if index in self._calls:
                yield ToolCallDelta(self._calls.index(index), arguments=delta["partial_json"])

    def _complete(self, index: int) -> Iterator[StreamEvent]:
        if index not in self._calls or index in self._told:
            return
        self._told.add(index)
        (call,) = self.parts([self._blocks[index]])
        if isinstance(call, ToolCall):
            yield ToolCallEvent(self._calls.index(index), call)


def check(data: Any) -> None:
    """Raise what is wrong with an answer or an event as a whole."""
    if isinstance(data, str) or data is None:
        said = " ".join((data or "").split())[:80]
        raise ProviderUnavailable(f"the server answered with {f'no JSON: {said}' if said else 'an empty body'}")
    if not isinstance(data, Mapping):
        raise ProviderUnavailable(f"the server answered with a JSON {type(data).__name__} in place of an object")
    if data.get("type") == "error" or data.get("error"):
        error = data.get("error")
        raise from_body(data if isinstance(error, Mapping) else {"message": str(error or "no reason given")})


def usage_of(usage: Mapping[str, Any]) -> Usage:
    """Return the tokens of a ``usage`` object. Its input tokens are without those read from the cache and written to it."""
    cached, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    return Usage(
        input=(usage.get("input_tokens") or 0) + cached + written,
        cached=cached,
        cache_write=written,
        output=usage.get("output_tokens") or 0,
        reasoning=(usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
    )


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0


def _whole(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a block as a whole answer has it."""
    if "json" not in block:
        return block
    rest = {key: value for key, value in block.items() if key != "json"}
    return {**rest, "input": arguments(block["json"])}


def _arguments(block: Mapping[str, Any]) -> str:
    # A stream tells them as text, a whole answer as JSON.
    if block.get("json"):
        return str(block["json"])
    return json.dumps(block.get("input") or {}, ensure_ascii=False)
