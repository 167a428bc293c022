"""FlowCraftLLM: an LLM of CrewAI's that a chain of models answers."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from crewai.events.types.llm_events import LLMCallType
from crewai.hooks.dispatch import HookAborted
from crewai.llms.base_llm import BaseLLM, LLMCallBlockedError, llm_call_context
from pydantic import BaseModel, PrivateAttr, ValidationError

from flowcraft.attempts import Attempt, spent_usd
from flowcraft.crewai.asking import Answers, Heard
from flowcraft.crewai.failures import FAILURES, for_crewai
from flowcraft.crewai.translate import DELEGATIONS, billed, calls_for_crewai, messages_of, tools_of, usage_for_crewai
from flowcraft.errors import FlowCraftError
from flowcraft.llm.tokens import estimate_tokens
from flowcraft.plugin import (
    ChatRequest,
    ChatResponse,
    Message,
    OutputSpec,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallEvent,
)

UNKNOWN_WINDOW: Final = 128_000
"""Tokens that the window is taken for where no model of the chain says its own."""

USABLE_WINDOW: Final = 0.85
"""The share of a window that CrewAI fills before it summarizes, as with its own LLMs."""

ASKS_BESIDE: Final = "crewai.memory."
"""Where CrewAI copies an agent's LLM to ask it questions beside the agent's: it gives no other sign of that."""

Answer = ChatResponse | FlowCraftError

PARAMS: Final = ("temperature", "top_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty")


@dataclass(slots=True)
class Ledger:
    """What one LLM was answered so far. Used from several threads."""

    attempts: list[Attempt] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call of CrewAI's: what it asks for, on whose behalf, and what it sent."""

    request: ChatRequest
    shape: type[BaseModel] | None
    origin: Mapping[str, Any]
    messages: Any
    functions: Mapping[str, Callable[..., Any]]


class FlowCraftLLM(BaseLLM):  # type: ignore[misc, unused-ignore]  # the library has types only where it is installed
    """Answers CrewAI's agents by a chain of models. Make it with ``create_llm_for_crewai``.

    What it used is counted by the instance; a shallow copy is another one on the same models, with a count of its own. Only
    memory's copy counts with the agent's; where it is not answered, memory goes on without, as CrewAI does with its own LLMs.
    """

    llm_type: str = "flowcraft"
    _answers: Answers = PrivateAttr()
    _ledger: Ledger = PrivateAttr(default_factory=Ledger)
    _beside: bool = PrivateAttr(default=False)

    def __copy__(self) -> Self:
        other: Self = super().__copy__()
        if sys._getframe(2).f_globals.get("__name__", "").startswith(ASKS_BESIDE):  # 1: copy.copy
            other._beside = True
            return other
        other._ledger = Ledger()
        other._token_usage = dict.fromkeys(self._token_usage, 0)
        return other

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.__copy__()  # of the models there is one; what a copied agent used, it counts itself

    # -- what CrewAI calls

    def call(
        self,
        messages: Any,
        tools: Any = None,
        callbacks: Any = None,
        available_functions: Any = None,
        from_task: Any = None,
        from_agent: Any = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        """Answer, the calling thread waiting: with text, with the calls of tools, or with ``response_model``.

        Tools are not carried out here, unless they come with ``available_functions``: it is CrewAI's business.
        """
        origin = {"from_task": from_task, "from_agent": from_agent}
        asked = self._asked(messages, tools, response_model, origin, available_functions)
        with llm_call_context():
            asked = self._begin(asked, tools)
            try:
                response = self._answers.ask(asked.request, self._hearing(asked))
                if again := self._again(response, asked):
                    response = self._answers.ask(again)
                found: Answer = response
            except FAILURES as error:
                found = error
            return self._told(asked, found)

    async def acall(
        self,
        messages: Any,
        tools: Any = None,
        callbacks: Any = None,
        available_functions: Any = None,
        from_task: Any = None,
        from_agent: Any = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        """Answer as ``call`` does, for a caller on a loop."""
        origin = {"from_task": from_task, "from_agent": from_agent}
        asked = self._asked(messages, tools, response_model, origin, available_functions)
        with llm_call_context():
            asked = self._begin(asked, tools)
            try:
                response = await self._answers.ask_async(asked.request, self._hearing(asked))
                if again := self._again(response, asked):
                    response = await self._answers.ask_async(again)
                found: Answer = response
            except FAILURES as error:
                found = error
            return self._told(asked, found)

    # -- what CrewAI asks about it

    def supports_function_calling(self) -> bool:
        """Say whether tools may be sent as such: unless every model of the chain is known to have none."""
        return self._answers.facts().tools

    def supports_stop_words(self) -> bool:
        """Say that answers end before stop words: where a model does not see to it, it is done here."""
        return True

    def supports_multimodal(self) -> bool:
        """Say whether a model of the chain takes images."""
        return self._answers.facts().images

    def get_context_window_size(self) -> int:
        """Return how many tokens CrewAI may fill: the usable share of the smallest window in the chain."""
        return int(self.smallest_window * USABLE_WINDOW)

    def get_input_tokens_count(self, messages: Any, tools: Any = None, response_model: type[BaseModel] | None = None) -> int:
        """Return about how many tokens a request has."""
        return estimate_tokens(self._asked(messages, tools, response_model, {}).request)

    @property
    def smallest_window(self) -> int:
        """The smallest context window of the chain's models, in tokens, as far as known."""
        return self._answers.facts().window or UNKNOWN_WINDOW

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every attempt to reach a model so far, judges' included, in order."""
        with self._ledger.lock:
            return tuple(self._ledger.attempts)

    @property
    def spent_usd(self) -> float | None:
        """USD of all attempts so far; None when no price is known."""
        return spent_usd(self.attempts)

    # -- inside

    def _asked(
        self,
        messages: Any,
        tools: Any,
        shape: type[BaseModel] | None,
        origin: Mapping[str, Any],
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> Asked:
        formatted = self._format_messages(messages)
        specs = tools_of(tools)
        params = {name: value for name in PARAMS if (value := getattr(self, name)) is not None}
        request = ChatRequest(
            messages=messages_of(formatted),
            tools=specs,
            parallel_tools=False if any(spec.name in DELEGATIONS for spec in specs) else None,
            output=None if shape is None else OutputSpec(schema=shape.model_json_schema(), name=shape.__name__),
            stop=() if shape is not None or specs else self._stops(),
            **params,
        )
        return Asked(request=request, shape=shape, origin=origin, messages=formatted, functions=functions or {})

    def _stops(self) -> tuple[str, ...]:
        """Return the stop words that may be sent: none where a model of the chain may refuse them."""
        return tuple(self.stop_sequences) if self._answers.facts().stop else ()

    def _begin(self, asked: Asked, tools: Any) -> Asked:
        """Tell that a call begins; return it with the messages as hooks left them, which may change the list they are shown."""
        self._emit_call_started_event(messages=asked.messages, tools=tools, **asked.origin)
        try:
            self._invoke_before_llm_call_hooks(asked.messages, asked.origin.get("from_agent"))
        except (HookAborted, LLMCallBlockedError) as denial:
            self._emit_call_denied_event(denial, **asked.origin)
            raise
        return replace(asked, request=replace(asked.request, messages=messages_of(asked.messages)))

    def _hearing(self, asked: Asked) -> Heard | None:
        """Return who is told of a stream's events, None where there is to be no stream."""
        if not self._effective_stream() or asked.shape is not None:
            return None

        def heard(event: StreamEvent) -> None:
            if isinstance(event, TextDelta):
                self._emit_stream_chunk_event(chunk=event.text, call_type=LLMCallType.LLM_CALL, **asked.origin)
            elif isinstance(event, ReasoningDelta):
                self._emit_thinking_chunk_event(chunk=event.text, **asked.origin)
            elif isinstance(event, ToolCallEvent):
                function = {"name": event.call.name, "arguments": event.call.arguments}
                call = {"id": event.call.id, "type": "function", "index": event.index, "function": function}
                self._emit_stream_chunk_event(chunk="", tool_call=call, call_type=LLMCallType.TOOL_CALL, **asked.origin)

        return heard

    def _again(self, response: ChatResponse, asked: Asked) -> ChatRequest | None:
        """Return the question to ask once more where the answer fits the schema and not the model's own validators."""
        if asked.shape is None or response.tool_calls:
            return None
        try:
            asked.shape.model_validate(response.parsed)
        except ValidationError as error:
            self._count(response.attempts)
            again = Message.user(f"That is not valid: {_complaint(error)}. Answer again.")
            return replace(asked.request, messages=(*asked.request.messages, response.message, again))
        return None

    def _told(self, asked: Asked, found: Answer) -> Any:
        """Return what CrewAI takes for an answer, or raise the error that it is to see: no other error is handled here."""
        if not isinstance(found, ChatResponse):
            self._count(getattr(found, "attempts", ()))
            error = for_crewai(found, tools=bool(asked.request.tools), ends=not self._beside)
            self._emit_call_failed_event(error=str(error), **asked.origin)
            raise error
        response = found
        self._count(response.attempts)
        answer = self._answer(asked, response)
        kind = LLMCallType.TOOL_CALL if response.tool_calls else LLMCallType.LLM_CALL
        self._emit_call_completed_event(
            response=answer,
            call_type=kind,
            messages=asked.messages,
            usage={**usage_for_crewai(response.usage), "usd": response.usd},
            finish_reason=response.finish_reason,
            response_id=response.response_id or None,
            **asked.origin,
        )
        if response.tool_calls:
            call = response.tool_calls[0]
            return _carried_out(call, asked.functions[call.name]) if call.name in asked.functions else answer
        if isinstance(answer, str):
            return self._invoke_after_llm_call_hooks(asked.messages, answer, asked.origin.get("from_agent"))
        return answer

    def _answer(self, asked: Asked, response: ChatResponse) -> Any:
        if response.tool_calls:
            return calls_for_crewai(response)
        if asked.shape is not None:
            try:
                return asked.shape.model_validate(response.parsed)
            except ValidationError:
                return response.text  # CrewAI says what is wrong with it
        return response.text if asked.request.tools else self._apply_stop_words(response.text)

    def _count(self, attempts: Iterable[Attempt]) -> None:
        attempts = tuple(attempts)
        with self._ledger.lock:
            self._ledger.attempts += attempts
            for attempt in billed(attempts):
                self._track_token_usage_internal(usage_for_crewai(attempt.usage))


def llm_of(answers: Answers, params: Mapping[str, Any]) -> FlowCraftLLM:
    """Return an LLM that ``answers`` answers; ``params`` are fields of CrewAI's LLMs. Raises TypeError for others."""
    known = {*PARAMS, "stop", "stream"}
    if unknown := sorted(set(params) - known):
        raise TypeError(f"there is no parameter {unknown[0]!r}; an LLM takes: {', '.join(sorted(known))}")
    made = FlowCraftLLM(model=answers.name, provider="flowcraft", **params)
    made._answers = answers
    return made


def _carried_out(call: ToolCall, function: Callable[..., Any]) -> str:
    """Return what a function gives that CrewAI sent along with a tool, as its plans do: for them it is the answer."""
    return str(function(**json.loads(call.arguments)))


def _complaint(error: ValidationError) -> str:
    details: Sequence[Any] = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'value'}: {item['msg']}" for item in details)
