"""Make a model answer in the shape of a schema, by its own means or by instruction, and mend an answer that does not fit."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

from flowcraft.attempts import Attempt
from flowcraft.errors import InvalidOutput
from flowcraft.llm.parse import parse_output, told
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, OutputSpec, StreamEvent
from flowcraft.plugin.llm import LLM
from flowcraft.plugin.messages import Message, Text

Mode = Literal["auto", "native", "text"]

_WRAPPED = "value"
_ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


class Structured:
    """Asks for the request's ``output`` and puts what came, parsed and checked, into ``parsed``.

    A model that is known to follow schemas gets the schema; any other gets an instruction with the schema, and one that is
    known to write JSON is held to some JSON object besides. An answer that does not fit is shown to ``mender`` (the same
    model, if None) once, with what is wrong; after that it is InvalidOutput. A stream is checked at its end and never
    mended.
    """

    def __init__(self, inner: LLM, info: ModelInfo, mode: Mode, repair: bool, mender: LLM | None = None) -> None:
        self._inner = inner
        self._info = info
        self._repair = repair
        self._mender = mender
        known = info.capabilities
        self._schema = mode == "native" or (mode == "auto" and bool(known.json_schema))
        self._object = mode == "auto" and not self._schema and bool(known.json_object)

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer ``request``, in the shape it asks for if it does."""
        output = request.output
        asked = request if output is None else self._asked(request, output)
        repairs = self._repair
        try:
            response = await self._inner.chat(asked)
        except InvalidOutput:
            # The answer was empty. There is nothing to show to the model, so it is asked the same once more.
            if not repairs:
                raise
            repairs = False
            response = await self._inner.chat(asked)
        if output is None or response.tool_calls:
            return response
        try:
            return self._fitted(response, output)
        except InvalidOutput as error:
            failed = self._named(error)
        _amend(request.scope.ledger, response, failed)
        if not repairs:
            raise failed
        return await self._mended(request, output, response, failed)

    def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream the answer; ``Done`` holds the parsed value."""
        if request.output is None:
            return self._inner.stream(request)
        return self._checked_stream(request, request.output)

    async def _checked_stream(self, request: ChatRequest, output: OutputSpec) -> AsyncGenerator[StreamEvent, None]:
        async with aclosing(self._inner.stream(self._asked(request, output))) as events:
            async for event in events:
                if isinstance(event, Done) and not event.response.tool_calls:
                    try:
                        done = Done(self._fitted(event.response, output))
                    except InvalidOutput as error:
                        failed = self._named(error)
                        _amend(request.scope.ledger, event.response, failed)
                        raise failed from None
                    yield done
                else:
                    yield event

    def _asked(self, request: ChatRequest, output: OutputSpec) -> ChatRequest:
        if self._schema and output.schema != _ANY_OBJECT:
            return request if _is_object(output.schema) else replace(request, output=_wrap(output))
        # A schema that says no more than "object" is how one asks for JSON of any shape; those who hold to that want to be
        # told of JSON besides.
        held = (self._object or self._schema) and _is_object(output.schema)
        shapeless = replace(output, schema=_ANY_OBJECT, strict=False) if held else None
        return replace(request, messages=_instructed(request.messages, output.schema), output=shapeless)

    def _fitted(self, response: ChatResponse, output: OutputSpec) -> ChatResponse:
        if self._schema and not _is_object(output.schema):
            return replace(response, parsed=parse_output(response.text, _wrap(output).schema)[_WRAPPED])
        return replace(response, parsed=parse_output(response.text, output.schema))

    async def _mended(
        self, request: ChatRequest, output: OutputSpec, response: ChatResponse, failed: InvalidOutput
    ) -> ChatResponse:
        told_again = f"That does not fit: {told(failed.details)}. Answer again, with the whole corrected JSON and nothing else."
        messages = (*request.messages, Message.assistant(response.text), Message.user(told_again))
        again = replace(request, messages=messages)
        if self._mender is None:
            second = await self._inner.chat(self._asked(again, output))
        else:
            instructed = _instructed(messages, output.schema)
            second = await self._mender.chat(replace(again, messages=instructed, output=None, tools=()))
        try:
            if self._mender is None:
                return self._fitted(second, output)
            return replace(second, parsed=parse_output(second.text, output.schema))
        except InvalidOutput as error:
            failed = self._named(error)
        _amend(request.scope.ledger, second, failed)
        raise failed

    def _named(self, error: InvalidOutput) -> InvalidOutput:
        error.model = self._info.model
        error.provider = self._info.provider
        return error


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object"


def _wrap(output: OutputSpec) -> OutputSpec:
    # What follows schemas by itself follows only those of objects.
    definitions = {key: output.schema[key] for key in ("$defs", "definitions") if key in output.schema}
    inner = {key: value for key, value in output.schema.items() if key not in definitions}
    schema = {
        "type": "object",
        "properties": {_WRAPPED: inner},
        "required": [_WRAPPED],
        "additionalProperties": False,
        **definitions,
    }
    return replace(output, schema=schema)


def _instructed(messages: tuple[Message, ...], schema: Mapping[str, Any]) -> tuple[Message, ...]:
    if schema.get("type") == "string" and set(schema) <= {"type", "title", "description"}:
        return messages
    told_schema = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    text = f"Answer with one JSON value that fits this JSON Schema, and with nothing else, no code fence:\n{told_schema}"
    # Into the first system message where there is one: not every model takes a second.
    if messages and messages[0].role == "system":
        first = messages[0]
        return (replace(first, parts=(*first.parts, Text(text=f"\n\n{text}"))), *messages[1:])
    return (Message.system(text), *messages)


def _amend(ledger: list[Attempt], response: ChatResponse, failed: InvalidOutput) -> None:
    """Say in the ledger that the call which brought ``response`` was answered, but of no use."""
    for place in range(len(ledger) - 1, -1, -1):
        attempt = ledger[place]
        same = attempt.model == response.model and attempt.provider == response.provider
        if same and attempt.outcome == "ok" and attempt.seconds == response.seconds:
            ledger[place] = replace(attempt, outcome=type(failed).__name__, message=failed.message)
            return
