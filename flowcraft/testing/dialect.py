"""The wire format of the OpenAI-compatible chat endpoint, as a server speaks it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from flowcraft.plugin import TokenLogprob, ToolCall, Usage
from flowcraft.testing.script import Reply, default_usage

CREATED = 1_700_000_000
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Dialect(Protocol):
    """What a server asks of a wire format. A vendor with another one gets a class with these methods."""

    chat_path: str
    models_path: str

    def speaks(self, path: str, headers: Mapping[str, str]) -> bool:
        """Return whether a request is one of this format."""
        ...

    def prompt(self, body: Mapping[str, Any]) -> str:
        """Return the text of all messages of a request."""
        ...

    def last_text(self, body: Mapping[str, Any]) -> str:
        """Return the text of the last message of a request."""
        ...

    def models(self, names: list[str], query: str = "") -> bytes:
        """Return the body of the list of models, or the page of it that ``query`` asks for."""
        ...

    def error(self, error: Mapping[str, Any]) -> bytes:
        """Return the body of an error."""
        ...

    def body(self, reply: Reply, request: Mapping[str, Any], number: int) -> bytes:
        """Return the body of a plain answer."""
        ...

    def events(self, reply: Reply, request: Mapping[str, Any], number: int) -> Iterator[bytes]:
        """Yield the events of a streamed answer, each as its bytes; the first one holds content, if there is any."""
        ...

    def error_event(self, error: Mapping[str, Any]) -> bytes:
        """Return an error inside a stream."""
        ...


class OpenAIDialect:
    """Turns replies into bodies and stream events."""

    chat_path = "/v1/chat/completions"
    models_path = "/v1/models"
    embed_path = "/v1/embeddings"

    def speaks(self, path: str, headers: Mapping[str, str]) -> bool:
        """Return whether a request is one of this format."""
        return path in (self.chat_path, self.embed_path)

    def prompt(self, body: Mapping[str, Any]) -> str:
        """Return the text of all messages of a request."""
        return "\n".join(content_text(message.get("content")) for message in body.get("messages") or ())

    def last_text(self, body: Mapping[str, Any]) -> str:
        """Return the text of the last message of a request."""
        messages = body.get("messages")
        return content_text(messages[-1].get("content")) if messages else ""

    def models(self, names: list[str], query: str = "") -> bytes:
        """Return the body of the list of models; it has one page, whatever ``query`` asks for."""
        data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "tests"} for name in names]
        return dump({"object": "list", "data": data})

    def error(self, error: Mapping[str, Any]) -> bytes:
        """Return the body of an error."""
        return dump({"error": dict(error)})

    def body(self, reply: Reply, request: Mapping[str, Any], number: int) -> bytes:
        """Return the body of a plain answer; a request for vectors gets some that tell which letters its texts have."""
        if "messages" not in request and "input" in request:
            return _vectors(reply, request)
        message: dict[str, Any] = {"role": "assistant", "content": reply.whole or None, "refusal": reply.refusal or None}
        if not reply.tool_calls and not reply.refusal:
            message["content"] = reply.whole
        if reply.tool_calls:
            message["tool_calls"] = [_call(call) for call in reply.tool_calls]
        if reply.reasoning:
            message["reasoning_content"] = reply.reasoning
        message |= reply.message
        choices = [{"index": 0, "message": message, "finish_reason": _finish(reply), "logprobs": _logprobs(reply.logprobs)}]
        for index, text in enumerate(reply.choices, 1):
            other = {"role": "assistant", "content": text}
            choices.append({"index": index, "message": other, "finish_reason": "stop", "logprobs": None})
        answer = {**self._head(request, number, "chat.completion"), "choices": choices, "usage": self._usage(reply, request)}
        return dump(answer | dict(reply.fields))

    def events(self, reply: Reply, request: Mapping[str, Any], number: int) -> Iterator[bytes]:
        """Yield the events of a streamed answer, each as its bytes; the first one holds content, if there is any."""
        head = self._head(request, number, "chat.completion.chunk") | dict(reply.fields)
        for delta, logprobs in _deltas(reply):
            yield self._event(head, delta, None, logprobs)
        for index, text in enumerate(reply.choices, 1):
            choice = {"index": index, "delta": {"content": text}, "finish_reason": "stop"}
            yield sse(dump({**head, "choices": [choice]}))
        yield self._event(head, {}, _finish(reply), None)
        if (request.get("stream_options") or {}).get("include_usage"):
            yield sse(dump({**head, "choices": [], "usage": self._usage(reply, request)}))
        yield sse(b"[DONE]")

    def error_event(self, error: Mapping[str, Any]) -> bytes:
        """Return an error inside a stream."""
        return sse(self.error(error))

    def _event(self, head: dict[str, Any], delta: dict[str, Any], finish: str | None, logprobs: Any) -> bytes:
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        return sse(dump({**head, "choices": [choice]}))

    def _head(self, request: Mapping[str, Any], number: int, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{number}", "object": kind, "created": CREATED, "model": request.get("model", "")}

    def _usage(self, reply: Reply, request: Mapping[str, Any]) -> dict[str, Any]:
        usage = reply.usage or default_usage(self.prompt(request), reply)
        return {**_usage(usage), **(reply.fields.get("usage") or {})}


def _vectors(reply: Reply, request: Mapping[str, Any]) -> bytes:
    given = request["input"]
    texts = [given] if isinstance(given, str) else list(given)
    data = [
        {"object": "embedding", "index": index, "embedding": [1.0, *(float(text.lower().count(letter)) for letter in LETTERS)]}
        for index, text in enumerate(texts)
    ]
    tokens = reply.usage.input if reply.usage is not None else sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": data[::-1], "model": request.get("model", ""), "usage": usage}
    return dump(answer | dict(reply.fields))


def content_text(content: Any) -> str:
    """Return the text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or () if isinstance(part, dict))


def dump(value: Any) -> bytes:
    """Return JSON with its characters as they are, so that answers hold characters of several bytes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sse(data: bytes) -> bytes:
    """Return a server-sent event."""
    return b"data: " + data + b"\n\n"


def _finish(reply: Reply) -> str:
    return reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _deltas(reply: Reply) -> Iterator[tuple[dict[str, Any], Any]]:
    role = {"role": "assistant"}
    if reply.reasoning:
        yield {**role, "reasoning_content": reply.reasoning}, None
    for index, piece in enumerate(reply.pieces):
        token = reply.logprobs[index : index + 1]
        yield {**role, "content": piece}, _logprobs(token)
    if reply.refusal:
        yield {**role, "refusal": reply.refusal}, None
    for index, call in enumerate(reply.tool_calls):
        for delta in _call_deltas(index, call, reply.tool_deltas):
            yield {"tool_calls": [delta]}, None
    if reply.message:
        yield dict(reply.message), None


def _call_deltas(index: int, call: ToolCall, deltas: bool) -> Iterator[dict[str, Any]]:
    if not deltas:
        yield {"index": index, **_call(call)}
        return
    yield {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
    for start in range(0, len(call.arguments), 5):
        yield {"index": index, "function": {"arguments": call.arguments[start : start + 5]}}


def _logprobs(tokens: tuple[TokenLogprob, ...]) -> dict[str, Any] | None:
    if not tokens:
        return None
    return {"content": [{**_token(token), "top_logprobs": [_token(other) for other in token.top]} for token in tokens]}


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": None if token.bytes is None else list(token.bytes)}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": usage.audio},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
