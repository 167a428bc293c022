"""Make a model answer in the shape of a schema, by its own means or by instruction, and mend an answer that does not fit."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any, Literal

from flowcraft.errors import InvalidOutput, LLMError
from flowcraft.llm.base import calls_of, rescoped
from flowcraft.llm.parse import parse_output, told
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.chat import ChatRequest, ChatResponse, OutputSpec, StreamEvent
from flowcraft.plugin.llm import LLM
from flowcraft.plugin.messages import Message, Text
from flowcraft.redaction import Redactor

Mode = Literal["auto", "native", "text"]

_WRAPPED = "value"
_ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


class Structured:
    """Asks for the request's ``output`` and puts what came, parsed and checked, into ``parsed``.

    A model that is known to follow schemas gets the schema; any other gets an instruction with the schema, and one that is
    known to write JSON is held to some JSON object besides. An answer that does not fit is shown to ``mender`` (the same
    model, if None) once, with what is wrong; after that it is InvalidOutput. A stream is checked at its end and never
    mended. After ``most_calls`` of its calls a model is not asked to repair its answer any more.
    """

    def __init__(
        self,
        inner: LLM,
        info: ModelInfo,
        mode: Mode,
        repair: bool,
        most_calls: int,
        mender: LLM | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self._inner = inner
        self._redactor = redactor or Redactor()
        self._info = info
        self._repair = repair
        self._most_calls = most_calls
        self._mender = mender
        known = info.capabilities
        self._schema = mode == "native" or (mode == "auto" and bool(known.json_schema))
        self._object = mode == "auto" and not self._schema and bool(known.json_object)

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer ``request``, in the shape it asks for if it does."""
        output = request.output
        fit = None if output is None else self._fit(output)
        asked = request if output is None else self._asked(request, output, fit)
        told_before = len(request.scope.ledger)
        try:
            return await self._inner.chat(asked)
        except InvalidOutput as error:
            if not self._repair:
                raise
            failed = error
        refused = None if fit is None else fit.refused
        mends_itself = self._mender is None or refused is None
        if mends_itself and calls_of(self._info, request.scope.ledger[told_before:]) >= self._most_calls:
            raise failed
        if output is None or refused is None:
            # The answer was empty. There is nothing to show to the model, so it is asked the same once more.
            return await self._inner.chat(asked)
        return await self._mended(request, output, refused, failed)

    def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream the answer; ``Done`` holds the parsed value."""
        output = request.output
        return self._inner.stream(request if output is None else self._asked(request, output, self._fit(output)))

    def _fit(self, output: OutputSpec) -> _Fit:
        if self._wraps(output):
            return _Fit(_wrap(output).schema, self._redactor, wrapped=True)
        return _Fit(output.schema, self._redactor)

    def _wraps(self, output: OutputSpec) -> bool:
        # What follows schemas by itself follows only those of objects.
        return self._schema and not _is_object(output.schema)

    def _asked(self, request: ChatRequest, output: OutputSpec, check: _Fit | None) -> ChatRequest:
        request = rescoped(request, check=check)
        if self._schema and output.schema != _ANY_OBJECT:
            return replace(request, output=_wrap(output)) if self._wraps(output) else request
        # A schema that says no more than "object" is how one asks for JSON of any shape; those who hold to that want to be
        # told of JSON besides.
        held = (self._object or self._schema) and _is_object(output.schema)
        shapeless = replace(output, schema=_ANY_OBJECT, strict=False) if held else None
        return replace(request, messages=_instructed(request.messages, output.schema), output=shapeless)

    async def _mended(
        self, request: ChatRequest, output: OutputSpec, response: ChatResponse, failed: InvalidOutput
    ) -> ChatResponse:
        told_again = f"That does not fit: {told(failed.details)}. Answer again, with the whole corrected JSON and nothing else."
        messages = (*request.messages, Message.assistant(response.text), Message.user(told_again))
        again = replace(request, messages=messages)
        if self._mender is None:
            return await self._inner.chat(self._asked(again, output, self._fit(output)))
        instructed = replace(again, messages=_instructed(messages, output.schema), output=None, tools=())
        # For the mender's chain the end of this attempt is the deadline: the models behind this one need time as well.
        until = request.scope.until
        limits = {} if until is None else {"deadline": until}
        try:
            return await self._mender.chat(rescoped(instructed, check=_Fit(output.schema, self._redactor), **limits))
        except LLMError:
            raise failed from None  # what went wrong with the mender stands in the attempts


class _Fit:
    """Puts the value of an answer into ``parsed``, or keeps the answer in ``refused`` and raises InvalidOutput.

    What is wrong with an answer quotes it, so secrets are taken out of that.
    """

    def __init__(self, schema: Mapping[str, Any], redactor: Redactor, *, wrapped: bool = False) -> None:
        self.refused: ChatResponse | None = None
        self._redactor = redactor
        self._schema = schema
        self._wrapped = wrapped

    def __call__(self, response: ChatResponse) -> ChatResponse:
        if response.tool_calls:
            return response
        try:
            value = parse_output(response.text, self._schema)
        except InvalidOutput as error:
            self.refused = response
            details = self._redactor.value([dict(item) for item in error.details])
            raise InvalidOutput(self._redactor.text(error.message), details=details) from None
        return replace(response, parsed=value[_WRAPPED] if self._wrapped else value)


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object"


def _wrap(output: OutputSpec) -> OutputSpec:
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
