"""What a test server answers: replies that are well, and faults."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from email.utils import formatdate
from typing import Any, Literal

from flowcraft.plugin import TokenLogprob, ToolCall, Usage

Place = Literal["connect", "headers", "chunk", "character"]
"""Where an answer stops: before the headers, after them, after the first chunk, inside a character of several bytes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A good answer. ``Reply("hello")`` and ``"hello"`` are the same.

    ``chunks`` is how a stream cuts the text (default: at words); ``delay`` is in seconds, before every chunk of a stream and
    before a plain answer; ``bytes_per_write`` sends the body in pieces of so many bytes, through the middle of characters.
    ``fields`` are merged into the answer's top level, ``message`` into its message. With ``prefill`` the model goes on from
    the request's last message where that is the assistant's: it answers with the rest of the text.
    """

    text: str = ""
    _: KW_ONLY
    chunks: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_deltas: bool = True
    reasoning: str = ""
    refusal: str = ""
    finish_reason: str = ""
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    choices: tuple[str, ...] = ()
    delay: float = 0.0
    bytes_per_write: int = 0
    prefill: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    message: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pieces(self) -> tuple[str, ...]:
        """The chunks that a stream sends."""
        if self.logprobs:
            return tuple(token.token for token in self.logprobs)
        return self.chunks or tuple(words(self.text))

    @property
    def whole(self) -> str:
        """The whole text."""
        return self.text or "".join(self.pieces)

    def after(self, begun: str) -> Reply:
        """Return what is left of the answer behind ``begun``. Raises ValueError where it does not begin so."""
        if not self.whole.startswith(begun):
            raise ValueError(f"the answer does not begin with {begun!r}")
        rest, left = [], len(begun)
        for piece in self.pieces:
            rest.append(piece[left:])
            left = max(0, left - len(piece))
        return replace(self, text="", chunks=tuple(piece for piece in rest if piece))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An answer that goes wrong: an error status, a body that is no answer, a hang or a cut. Made by its class methods.

    ``hang_at`` and ``cut_at`` say where the answer stops; a hang goes on when the server's ``release()`` is called.
    ``cut_after`` closes a stream when so many bytes of its text have gone out.
    """

    reply: Reply = field(default_factory=lambda: Reply("Well, then: голос 🙂."))
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    raw: bytes | None = None
    content_type: str = ""
    hang_at: Place | None = None
    cut_at: Place | None = None
    cut_after: int | None = None
    error_at: Place | None = None

    @classmethod
    def of_status(
        cls,
        status: int,
        message: str = "",
        *,
        code: str | None = None,
        type: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Fault:
        """Answer with an error status and the usual body."""
        error = {"message": message or f"status {status}", "type": type or "error", "param": None, "code": code}
        return cls(status=status, error=error, headers=headers or {})

    @classmethod
    def rate_limit(cls, retry_after: float | None = None, *, form: Literal["seconds", "date", "ms"] = "seconds") -> Fault:
        """Answer 429; ``retry_after`` in seconds, told as seconds, as an HTTP date or in milliseconds."""
        headers: dict[str, str] = {}
        if retry_after is not None and form == "date":
            headers = {"Retry-After": formatdate(time.time() + retry_after, usegmt=True)}
        elif retry_after is not None and form == "ms":
            headers = {"Retry-After-Ms": f"{retry_after * 1000:g}"}
        elif retry_after is not None:
            headers = {"Retry-After": f"{retry_after:g}"}
        return cls.of_status(429, "slow down", code="rate_limit_exceeded", type="requests", headers=headers)

    @classmethod
    def quota(cls, status: int = 429) -> Fault:
        """Answer that no money is left: 429 with ``insufficient_quota``, or 402."""
        return cls.of_status(status, "you exceeded your current quota", code="insufficient_quota", type="insufficient_quota")

    @classmethod
    def unauthorized(cls, status: int = 401) -> Fault:
        """Answer 401, or 403."""
        return cls.of_status(status, "the key is wrong", code="invalid_api_key", type="authentication_error")

    @classmethod
    def model_not_found(cls, status: int = 404) -> Fault:
        """Answer that there is no such model."""
        return cls.of_status(status, "the model does not exist", code="model_not_found", type="invalid_request_error")

    @classmethod
    def bad_request(cls, status: int = 400) -> Fault:
        """Answer that the request is malformed: 400, or 422."""
        fault = cls.of_status(status, "temperature must be at most 2", code="invalid_value", type="invalid_request_error")
        return replace(fault, error={**(fault.error or {}), "param": "temperature"})

    @classmethod
    def context_too_long(cls, *, code: bool = True) -> Fault:
        """Answer that the request does not fit; without ``code`` only the message says so."""
        message = "this model's maximum context length is 8 tokens, your messages have 9"
        return cls.of_status(400, message, code="context_length_exceeded" if code else None, type="invalid_request_error")

    @classmethod
    def content_filter(cls) -> Fault:
        """Answer 400: the content was refused."""
        return cls.of_status(400, "the prompt was filtered", code="content_filter", type="invalid_request_error")

    @classmethod
    def failure(cls, status: int = 500, *, retry_after: float | None = None) -> Fault:
        """Answer 5xx."""
        headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
        return cls.of_status(status, "the server failed", type="server_error", headers=headers)

    @classmethod
    def hang(cls, at: Place = "connect", reply: Reply | str = "") -> Fault:
        """Stop at ``at`` and hold the connection, until ``release()``; then ``reply`` goes on."""
        return cls(hang_at=at, reply=_reply(reply) or cls().reply)

    @classmethod
    def cut(cls, at: Place = "connect", reply: Reply | str = "") -> Fault:
        """Close the connection at ``at``, in the middle of ``reply``."""
        return cls(cut_at=at, reply=_reply(reply) or cls().reply)

    @classmethod
    def cut_stream(cls, after: int, reply: Reply | str) -> Fault:
        """Close the connection of a stream after so many bytes of its text, which may be inside a character; 0: before it.

        What was begun of a chunk goes out, as bytes that are no event yet. A plain answer is cut in its middle.
        """
        return cls(cut_after=after, reply=_reply(reply) or cls().reply)

    @classmethod
    def garbage(cls) -> Fault:
        """Answer 200 with the right content type and a body, or a stream, that is no JSON."""
        return cls(raw=b'data: {"choices": [{"delta" <html>\xff\xfe oops\n\n')

    @classmethod
    def not_json(cls) -> Fault:
        """Answer 200 with a page, as a proxy's login page does."""
        return cls(raw=b"<html><body>Please log in</body></html>", content_type="text/html")

    @classmethod
    def empty_body(cls) -> Fault:
        """Answer 200 with nothing."""
        return cls(raw=b"")

    @classmethod
    def no_choices(cls) -> Fault:
        """Answer 200 with JSON that is no answer."""
        return cls(raw=b'{"object": "chat.completion", "choices": []}')

    @classmethod
    def error_in_answer(cls, code: int = 502, message: str = "the upstream failed", *, at: Place = "headers") -> Fault:
        """Answer 200 with an error inside, as gateways do: in the body, or in the stream before or after its first chunk."""
        return cls(error={"code": code, "message": message}, error_at=at)

    @classmethod
    def broken_json(cls) -> Reply:
        """Answer a structured request with JSON that breaks off."""
        return Reply('{"name": "Ada", "born": ')

    @classmethod
    def slow(cls, text: str, seconds: float = 0.05) -> Reply:
        """Answer with ``seconds`` before every word."""
        return Reply(text, delay=seconds)


Step = str | Reply | Fault | Callable[[Any], Any]
"""One step of a script; a callable takes the received request and returns a step."""


def words(text: str) -> list[str]:
    """Return ``text`` cut behind its spaces."""
    return [piece for piece in text.replace(" ", " \0").split("\0") if piece]


def cut_events(events: Sequence[bytes], pieces: Sequence[str], after: int) -> list[bytes]:
    """Return the events of a stream as far as they go until ``after`` bytes of the text in ``pieces`` are out.

    Each piece stands in an event of its own, as JSON; the last event that is returned may be cut anywhere.
    """
    place = 0
    for piece in pieces:
        while (inside := events[place].rfind(b'"' + _escaped(piece) + b'"')) < 0:
            place += 1
        raw = piece.encode()
        if after < len(raw):
            whole = raw[:after].decode("utf-8", "ignore")
            end = inside + 1 + len(_escaped(whole)) + after - len(whole.encode())
            return [*events[:place], *([events[place][:end]] if after else [])]
        after -= len(raw)
        place += 1
    return list(events[:place])


def _escaped(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False)[1:-1].encode()


def default_usage(prompt: str, reply: Reply) -> Usage:
    """Return a usage that counts words as tokens."""
    output = len(reply.whole.split()) + sum(len(json.dumps(call.arguments)) // 4 + 1 for call in reply.tool_calls)
    return Usage(input=len(prompt.split()), output=output)


def _reply(value: Reply | str) -> Reply | None:
    if isinstance(value, Reply):
        return value
    return Reply(value) if value else None
