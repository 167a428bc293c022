"""Chain: the face of an LLM that is made of many. Takes text, messages or a request; keeps the story of every answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields, replace
from types import TracebackType
from typing import Any, TypeVar, overload

from flowcraft.errors import InvalidOutput, LLMError
from flowcraft.llm.base import Link, copied_response, rescoped
from flowcraft.llm.tool_loop import MOST_TURNS, run_tools
from flowcraft.plugin.capabilities import CAPABILITY_NAMES, Capabilities
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, OutputSpec, Scope, StreamEvent
from flowcraft.plugin.llm import LLM
from flowcraft.plugin.messages import Message
from flowcraft.plugin.tools import Tool

T = TypeVar("T")
Question = str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]] | ChatRequest

PARAMS = frozenset(item.name for item in fields(ChatRequest)) - {"messages", "scope"}
"""What a request may say besides its messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainLabels:
    """What a chain is called and whom it works for: the tier's name, the stage and the task that statistics are kept by."""

    tier: str = ""
    stage: str = ""
    task: str = ""
    strategy: str = "single"


class ChatStream(AsyncGenerator[StreamEvent, None]):
    """The events of one answer. As a context manager it closes the connection however the block ends.

    ``response`` is None until the answer is complete.
    """

    def __init__(self, events: AsyncGenerator[StreamEvent, None]) -> None:
        self._events = events
        self.response: ChatResponse | None = None

    async def __aenter__(self) -> ChatStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._events.aclose()

    async def __anext__(self) -> StreamEvent:
        return self._seen(await anext(self._events))

    async def asend(self, value: None) -> StreamEvent:
        """Return the next event."""
        return self._seen(await self._events.asend(value))

    async def athrow(self, *error: Any) -> StreamEvent:
        """Raise ``error`` where the stream waits."""
        return self._seen(await self._events.athrow(*error))

    async def aclose(self) -> None:
        """Close the connection; an answer that was not complete counts as cancelled."""
        await self._events.aclose()

    def _seen(self, event: StreamEvent) -> StreamEvent:
        if isinstance(event, Done):
            self.response = event.response
        return event


class Chain:
    """Answers by the models of ``links``, composed to ``llm``; an answer takes ``deadline`` seconds at most.

    ``params`` fill in what a request leaves open; ``policies`` are those that change answers, as data. Also an LLM itself.
    Errors are LLMError, mostly ChainExhausted; their ``attempts``, like those of a response, tell every call and every skip
    in order.
    """

    def __init__(
        self,
        llm: LLM,
        links: Sequence[Link],
        *,
        deadline: float,
        labels: ChainLabels | None = None,
        params: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
        policies: Mapping[str, Any] | None = None,
    ) -> None:
        self.llm = llm
        self.links = tuple(links)
        self.deadline = deadline
        self.labels = labels or ChainLabels()
        self.notes = tuple(notes)
        self._policies = dict(policies or {})
        self._params = _checked(params or {})

    async def chat(self, request: Question, **params: Any) -> ChatResponse:
        """Return the answer to a text, messages or a request; ``params`` are fields of ChatRequest."""
        asked = self._request(request, params)
        ledger = asked.scope.ledger
        try:
            response = await self.llm.chat(asked)
        except LLMError as error:
            error.attempts = tuple(ledger)
            raise
        return copied_response(response, attempts=tuple(ledger))

    def stream(self, request: Question, **params: Any) -> ChatStream:
        """Return the answer as a stream of events, ``Done`` last."""
        return ChatStream(self._events(request, params))

    async def _events(self, question: Question, params: Mapping[str, Any]) -> AsyncGenerator[StreamEvent, None]:
        request = self._request(question, params)
        ledger = request.scope.ledger
        try:
            async with aclosing(self.llm.stream(request)) as events:
                async for event in events:
                    if isinstance(event, Done):
                        yield Done(replace(event.response, attempts=tuple(ledger)))
                    else:
                        yield event
        except LLMError as error:
            error.attempts = tuple(ledger)
            raise

    @overload
    async def parse(self, question: Question, shape: type[T], **params: Any) -> T: ...
    @overload
    async def parse(self, question: Question, shape: Any, **params: Any) -> Any: ...
    async def parse(self, question: Question, shape: Any, **params: Any) -> Any:
        """Return the answer as ``shape``, a pydantic model or any type that pydantic knows.

        What fits the schema and not the model's own validators is shown to the model once. Raises InvalidOutput.
        """
        from pydantic import TypeAdapter, ValidationError

        adapter: TypeAdapter[Any] = TypeAdapter(shape)
        output = OutputSpec(schema=adapter.json_schema(), name=getattr(shape, "__name__", "output"))
        request = self._request(question, {**params, "output": output})
        response = await self.chat(request)
        try:
            return adapter.validate_python(response.parsed)
        except ValidationError as error:
            complaint = _details(error)
        told_again = Message.user(f"That is not valid: {_told(complaint)}. Answer again.")
        second = await self.chat(replace(request, messages=(*request.messages, response.message, told_again)))
        try:
            return adapter.validate_python(second.parsed)
        except ValidationError as error:
            details = _details(error)
        attempts = (*response.attempts, *second.attempts)
        raise InvalidOutput(
            f"the answer does not fit {output.name}: {_told(details)}",
            details=details,
            model=second.model,
            provider=second.provider,
            attempts=attempts,
        )

    async def use_tools(
        self, question: Question, tools: Iterable[Tool], *, max_turns: int = MOST_TURNS, **params: Any
    ) -> ChatResponse:
        """Return the answer of a model that may call ``tools``, which are carried out until it answers.

        Every question has the chain's deadline. Raises LLMError where it still calls tools after ``max_turns`` questions.
        """
        request = self._request(question, params)
        given = question.scope.deadline if isinstance(question, ChatRequest) else None
        return await run_tools(self, rescoped(request, deadline=given), tools, max_turns=max_turns)

    def capabilities(self) -> Capabilities:
        """Return what the chain can do: it lacks a thing only if all its models do."""
        asked = [link.info.capabilities for link in self.links if link.llm is not None]
        return Capabilities(**{name: _any(getattr(known, name) for known in asked) for name in CAPABILITY_NAMES})

    @property
    def fingerprint(self) -> str:
        """A hash of the chain as it is written: its models, their roles, its params, the policies that change answers."""
        written = {"strategy": self.labels.strategy, "policies": self._policies, "params": self._params}
        return fingerprint_of(self.links, written)

    def _request(self, question: Question, params: Mapping[str, Any]) -> ChatRequest:
        deadline = asyncio.get_running_loop().time() + self.deadline
        labels = self.labels
        if not isinstance(question, ChatRequest):
            scope = Scope(deadline=deadline, stage=labels.stage, task=labels.task)
            asked = {**self._params, **_checked(params)} if params else self._params
            return ChatRequest(messages=_messages(question), scope=scope, **asked)
        given = question.scope
        scope = replace(
            given,
            deadline=deadline if given.deadline is None else min(given.deadline, deadline),
            stage=given.stage or labels.stage,
            task=given.task or labels.task,
            ledger=[],
        )
        filled = {name: value for name, value in self._params.items() if getattr(question, name) in (None, "", (), {})}
        if question.extra and "extra" in self._params:
            filled["extra"] = {**self._params["extra"], **question.extra}
        return replace(question, scope=scope, **{**filled, **_checked(params)})


def fingerprint_of(links: Iterable[Link], written: Mapping[str, Any]) -> str:
    """Return a hash of models with their roles, and of what else makes a chain answer as it does; ``offline`` left out."""
    told = {
        "links": [[link.role, link.info.provider, link.info.model] for link in links if not link.info.offline],
        **written,
    }
    text = json.dumps(told, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _checked(params: Mapping[str, Any]) -> Mapping[str, Any]:
    unknown = sorted(set(params) - PARAMS)
    if unknown:
        raise TypeError(f"unknown parameter {unknown[0]!r}; a request has: {', '.join(sorted(PARAMS))}")
    if isinstance(params.get("stop"), str):
        return {**params, "stop": (params["stop"],)}
    return params


def _messages(question: Question) -> tuple[Message, ...]:
    if isinstance(question, ChatRequest):
        return question.messages
    if isinstance(question, str):
        return (Message.user(question),)
    if isinstance(question, Message | Mapping):
        return (_message(question),)
    return tuple(_message(item) for item in question)


def _message(item: Message | Mapping[str, Any]) -> Message:
    if isinstance(item, Message):
        return item
    makers = {"system": Message.system, "user": Message.user, "assistant": Message.assistant}
    role, content = item.get("role"), item.get("content")
    if role not in makers or not isinstance(content, str):
        raise TypeError(f"a message is a Message or has a role ({', '.join(makers)}) and content, a text; not {item!r}")
    return makers[role](content)


def _any(known: Iterable[bool | None]) -> bool | None:
    values = set(known)
    if True in values:
        return True
    return False if values == {False} else None


def _details(error: Any) -> list[dict[str, str]]:
    from flowcraft.llm.parse import field_name

    return [{"field": field_name(item["loc"]), "message": item["msg"]} for item in error.errors()]


def _told(details: Sequence[Mapping[str, str]]) -> str:
    from flowcraft.llm.parse import told

    return told(details)
