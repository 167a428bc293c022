"""The wire format of Anthropic's Messages API, as a server speaks it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

from flowcraft.plugin import ToolCall
from flowcraft.testing.dialect import content_text, dump
from flowcraft.testing.script import Reply, default_usage

FINISH = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "pause": "pause_turn",
}

TYPES = {
    "insufficient_quota": "billing_error",
    "rate_limit_exceeded": "rate_limit_error",
    "invalid_api_key": "authentication_error",
    "model_not_found": "not_found_error",
    "server_error": "api_error",
    "error": "api_error",
    "script": "api_error",
}
"""By the code or the type that a fault names."""

SIGNATURE = "c2lnbmF0dXJl"


class MessagesDialect:
    """Turns replies into messages and their events. ``message`` of a reply may hold ``content``: blocks as they are."""

    chat_path = "/v1/messages"
    models_path = "/v1/models"

    def speaks(self, path: str, headers: Mapping[str, str]) -> bool:
        """Return whether a request is one of this format."""
        return path == self.chat_path or "anthropic-version" in headers

    def prompt(self, body: Mapping[str, Any]) -> str:
        """Return the text of the system prompt and of all messages of a request."""
        told = [content_text(message.get("content")) for message in body.get("messages") or ()]
        return "\n".join([content_text(body.get("system")), *told])

    def last_text(self, body: Mapping[str, Any]) -> str:
        """Return the text of the last message of a request."""
        messages = body.get("messages")
        return content_text(messages[-1].get("content")) if messages else ""

    def models(self, names: list[str], query: str = "") -> bytes:
        """Return one page of the list of models."""
        asked = {key: values[-1] for key, values in parse_qs(query).items()}
        after, limit = asked.get("after_id"), int(asked.get("limit", 20))
        rest = names[names.index(after) + 1 :] if after in names else names
        page = rest[:limit]
        data = [{"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"} for name in page]
        ends = {"first_id": page[0], "last_id": page[-1]} if page else {"first_id": None, "last_id": None}
        return dump({"data": data, "has_more": len(rest) > limit, **ends})

    def error(self, error: Mapping[str, Any]) -> bytes:
        """Return the body of an error."""
        named = next((str(error[key]) for key in ("code", "type") if isinstance(error.get(key), str)), "error")
        kind = TYPES.get(named) or (
            str(error.get("type")) if str(error.get("type")).endswith("_error") else "invalid_request_error"
        )
        told = {"type": kind, "message": error.get("message", "")}
        if error.get("code") == "content_filter":
            told["message"] = "Output blocked by content filtering policy"
        if error.get("details"):
            told["details"] = error["details"]
        return dump({"type": "error", "error": told, "request_id": "req_1"})

    def body(self, reply: Reply, request: Mapping[str, Any], number: int) -> bytes:
        """Return the body of a plain answer."""
        content = _blocks(reply)
        ended = {"content": content, "usage": self._usage(reply, request), **_ended(reply)}
        return dump({**self._head(request, number), **ended} | {**reply.fields, "usage": ended["usage"]})

    def events(self, reply: Reply, request: Mapping[str, Any], number: int) -> Iterator[bytes]:
        """Yield the events of a streamed answer, each as its bytes; the first piece holds content, if there is any."""
        usage = self._usage(reply, request)
        begun: dict[str, Any] = {
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**usage, "output_tokens": 1},
        }
        message = {**self._head(request, number), **reply.fields, **begun}
        held = _event("message_start", {"message": message}) + _event("ping", {})
        for index, block in enumerate(_blocks(reply)):
            held += _event("content_block_start", {"index": index, "content_block": _begun(block, reply)})
            for delta in _deltas(block, reply):
                yield held + _event("content_block_delta", {"index": index, "delta": delta})
                held = b""
            held += _event("content_block_stop", {"index": index})
        ended = {key: value for key, value in {**_ended(reply), **reply.fields}.items() if key.startswith("stop_")}
        yield held + _event("message_delta", {"delta": ended, "usage": usage})
        yield _event("message_stop", {})

    def error_event(self, error: Mapping[str, Any]) -> bytes:
        """Return an error inside a stream."""
        return b"event: error\ndata: " + self.error(error) + b"\n\n"

    def _head(self, request: Mapping[str, Any], number: int) -> dict[str, Any]:
        return {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": request.get("model", "")}

    def _usage(self, reply: Reply, request: Mapping[str, Any]) -> dict[str, Any]:
        usage = reply.usage or default_usage(self.prompt(request), reply)
        told = {
            "input_tokens": usage.input - usage.cached - usage.cache_write,
            "cache_read_input_tokens": usage.cached,
            "cache_creation_input_tokens": usage.cache_write,
            "output_tokens": usage.output,
            "output_tokens_details": {"thinking_tokens": usage.reasoning},
        }
        return {**told, **(reply.fields.get("usage") or {})}


def _ended(reply: Reply) -> dict[str, Any]:
    if reply.refusal:
        details = {"type": "refusal", "category": "general_harms", "explanation": reply.refusal}
        return {"stop_reason": "refusal", "stop_sequence": None, "stop_details": details}
    reason = reply.finish_reason or ("tool_calls" if reply.tool_calls else "stop")
    return {"stop_reason": FINISH.get(reason, reason), "stop_sequence": None}


def _blocks(reply: Reply) -> list[dict[str, Any]]:
    if "content" in reply.message:
        return [dict(block) for block in reply.message["content"]]
    blocks: list[dict[str, Any]] = []
    if reply.reasoning:
        blocks.append({"type": "thinking", "thinking": reply.reasoning, "signature": SIGNATURE})
    if reply.whole:
        blocks.append({"type": "text", "text": reply.whole})
    return [*blocks, *(_call(call) for call in reply.tool_calls)]


def _call(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)}


def _begun(block: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    empty: dict[str, Any] = {"text": "", "thinking": "", "signature": ""}
    if reply.tool_deltas:
        empty["input"] = {}
    return {key: empty.get(key, value) for key, value in block.items()}


def _deltas(block: Mapping[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    kind = block.get("type")
    if kind == "text":
        pieces = reply.pieces if block["text"] == reply.whole else (block["text"],)
        yield from ({"type": "text_delta", "text": piece} for piece in pieces)
    elif kind == "thinking":
        if block.get("thinking"):
            yield {"type": "thinking_delta", "thinking": block["thinking"]}
        yield {"type": "signature_delta", "signature": block.get("signature", "")}
    elif kind == "tool_use" and reply.tool_deltas:
        text = json.dumps(block["input"], ensure_ascii=False)
        yield {"type": "input_json_delta", "partial_json": ""}
        for start in range(0, len(text), 5):
            yield {"type": "input_json_delta", "partial_json": text[start : start + 5]}


def _event(kind: str, data: Mapping[str, Any]) -> bytes:
    return f"event: {kind}\n".encode() + b"data: " + dump({"type": kind, **data}) + b"\n\n"
