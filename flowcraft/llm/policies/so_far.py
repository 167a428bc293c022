"""What the reader of a stream has of an answer, and the whole answer that is made of it in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flowcraft.attempts import Attempt, Usage
from flowcraft.llm.base import Link, copied_request, copied_response, rescoped
from flowcraft.llm.policies.going_on import means
from flowcraft.llm.tokens import estimate_usage, text_tokens
from flowcraft.plugin.chat import (
    ChatRequest,
    ChatResponse,
    Done,
    Progress,
    ReasoningDelta,
    Restart,
    Rollback,
    Scope,
    StreamEvent,
    Switch,
    ToolCallEvent,
)
from flowcraft.plugin.messages import Part, Text, ToolCall

SHAPED = ("grammar", "response_format")
"""Keys of ``extra`` that give an answer a form which a second model would begin anew."""


def cut_attempt(scope: Scope) -> Attempt:
    """Return the attempt that ended last."""
    called = (attempt for attempt in reversed(scope.ledger) if attempt.outcome != "skipped")
    return next(called, Attempt(model=""))


class SoFar:
    """The text that stands, where its seams are, and what it cost.

    ``held`` are the seconds that the reader took, ``cuts`` how often a model failed that was writing.
    """

    def __init__(self, request: ChatRequest, mode: str, links: Sequence[Link]) -> None:
        self.texts: list[str] = []
        self.held = 0.0
        self.cuts = 0
        self._request = request
        self._mode = mode
        self._infos = {link.info.id: link.info for link in links}
        self._thought = False
        self._other = False
        self._calls: list[ToolCall] = []
        self._seams: list[dict[str, Any]] = []
        self._restarts = 0
        self._pieces: list[Attempt] = []
        self._counted = 0
        self._broken = ""

    @property
    def text(self) -> str:
        """The text that the reader has, but for void and taken back one."""
        return "".join(self.texts)

    @property
    def begun(self) -> bool:
        """Whether the reader has anything of the answer."""
        return bool(self.texts) or self._thought or self._other

    @property
    def can_be_gone_on_with(self) -> bool:
        """Whether another model can go on from here: there is text, and nothing but text."""
        asked = self._request
        plain = not (asked.output or asked.logprobs or asked.top_logprobs or (asked.n or 1) > 1 or self._other)
        free = "audio" not in asked.modalities and not any(key in asked.extra for key in SHAPED)
        return plain and free and bool(self.text.strip())

    @property
    def can_be_kept(self) -> bool:
        """Whether there is something that may stand for the answer: not thoughts or halves of tool calls alone."""
        return bool(self.text.strip())

    def see(self, event: StreamEvent) -> None:
        """Take an event that is shown to the reader and is no text."""
        kind = type(event)
        if kind is Progress:
            return
        if isinstance(event, Restart):
            self.texts.clear()
            self._thought = self._other = False
            self._calls, self._seams, self._pieces, self._counted = [], [], [], 0
            self._restarts += 1
        elif isinstance(event, Rollback):
            self.texts[:] = [self.text[: -event.characters or None]]
        elif isinstance(event, Switch):
            self._switched(event)
        elif kind is ReasoningDelta:
            self._thought = True
        else:
            self._other = True
            if isinstance(event, ToolCallEvent):
                self._calls.append(event.call)

    def cut(self) -> str:
        """Note that the model failed that was writing, and return what it died of."""
        self.cuts += 1
        attempt = cut_attempt(self._request.scope)
        text = self.text
        usage = attempt.usage if attempt.usage.total else self._estimated(text[self._counted :])
        self._broken = f"{attempt.provider}:{attempt.model}"
        self._pieces.append(_with_usage(attempt, usage))
        self._counted = len(text)
        return ": ".join(word for word in (self._broken, attempt.outcome, attempt.message) if word)

    @property
    def damaged(self) -> int:
        """How many characters at the end are halves that a cut token left: they come again with what follows."""
        text = self.text
        whole = len(text)
        while whole and (text[whole - 1] == "\ufffd" or "\ud800" <= text[whole - 1] <= "\udfff"):
            whole -= 1
        return len(text) - whole

    def asked(self, passed: frozenset[str], going_on: bool) -> ChatRequest:
        """Return the request for those who are to write on, or anew; not for those in ``passed``."""
        deadline = self._request.scope.deadline
        later = None if deadline is None else deadline + self.held
        avoid = self._request.scope.avoid | passed
        request = rescoped(self._request, avoid=avoid, passed=passed, deadline=later)
        if not going_on:
            return request
        # A piece is a token at least: so nobody writes less than was asked for, and hardly more.
        limit = None if request.max_tokens is None else max(1, request.max_tokens - len(self.texts))
        text = self.text
        return copied_request(rescoped(request, so_far=text[: len(text) - self.damaged]), max_tokens=limit)

    def done(self, event: Done) -> Done:
        """Return the end of the answer: what came last, made whole."""
        if not self._seams and not self._restarts:
            return event
        response = event.response
        told: dict[str, Any] = {"mode": self._mode, "seams": self._seams, "restarts": self._restarts}
        extra = {"continuation": told, **response.extra}
        if not self._seams:
            return Done(copied_response(response, extra=extra))
        costs = [response.usd, *(piece.usd for piece in self._pieces)]
        return Done(
            copied_response(
                response,
                text=self.text,
                parts=_with_text(response.parts, self.text),
                usage=sum((piece.usage for piece in self._pieces), response.usage),
                usd=None if None in costs else sum(cost for cost in costs if cost is not None),
                seconds=response.seconds + sum(piece.seconds for piece in self._pieces),
                first_token=self._pieces[0].first_token,
                extra=extra,
            )
        )

    def kept(self) -> ChatResponse:
        """Return the text so far as an answer that was cut."""
        why = self.cut()
        piece = self._pieces[-1]
        return ChatResponse(
            text=self.text,
            parts=(Text(text=self.text), *self._calls),
            model=piece.model,
            provider=piece.provider,
            finish_reason="cut",
            usage=piece.usage,
            usd=piece.usd,
            seconds=piece.seconds,
            first_token=piece.first_token,
            offline=piece.offline,
            extra={"continuation": {"mode": self._mode, "seams": [], "restarts": self._restarts, "why": why}},
        )

    def _switched(self, event: Switch) -> None:
        id = f"{event.provider}:{event.model}"
        info = self._infos.get(id)
        by = "prefill" if info is None else means(info, self._request)
        self._seams.append({"at": len(self.text), "from": self._broken, "to": id, "by": by})

    def _estimated(self, piece: str) -> Usage:
        return estimate_usage(self._request, text_tokens(piece))


def _with_usage(attempt: Attempt, usage: Usage) -> Attempt:
    return attempt if attempt.usage == usage else replace(attempt, usage=usage, estimated=True)


def _with_text(parts: Sequence[Part], text: str) -> tuple[Part, ...]:
    """Return the parts with ``text`` in place of the texts among them."""
    where = next((place for place, part in enumerate(parts) if isinstance(part, Text)), None)
    if where is None:
        return tuple(parts)
    rest = [part for part in parts if not isinstance(part, Text)]
    return (*rest[:where], Text(text=text), *rest[where:])
