"""One model of one provider as an LLM: the only place where a call is cut off by time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from flowcraft.errors import (
    BudgetExceeded,
    ContentFiltered,
    FlowCraftError,
    InvalidOutput,
    LLMError,
    ModelNotFound,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
)
from flowcraft.llm.alarm import Alarm
from flowcraft.llm.base import copied_response
from flowcraft.llm.prices import PriceBook
from flowcraft.llm.vectors import embedded
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, ReasoningDelta, StreamEvent, TextDelta
from flowcraft.plugin.messages import Reasoning
from flowcraft.plugin.provider import Provider
from flowcraft.redaction import Redactor

FIRST_LISTED = "*"
"""The model's name where nobody says which: the first that the server lists, else the provider's own name."""


class ProviderSource(Protocol):
    """Makes a provider on first use and keeps it in ``made``."""

    made: Provider | None

    def get(self) -> Provider:
        """Return the provider; raises PluginError or SettingsError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """Seconds: for one call, to the first event of a stream, between its events."""

    timeout: float = 200.0
    first_token: float = 30.0
    idle: float = 60.0


class ProviderLLM:
    """Asks one model, in time, and makes the provider's answers and errors ours: named, priced, without secrets.

    A call may take ``limits.timeout`` seconds, and never goes on after the request's ``scope.until``. A stream has to begin
    and to go on in time instead; once it has begun, only the answer's deadline ends it, and time that the reader spends is
    not counted.
    """

    def __init__(
        self,
        source: ProviderSource,
        info: ModelInfo,
        limits: CallLimits,
        redactor: Redactor,
        prices: PriceBook | None = None,
    ) -> None:
        self._source = source
        self._info = info
        self._model = info.model
        self._prices = prices or PriceBook()
        self._limits = limits
        self._redactor = redactor

    async def chat(self, request: ChatRequest) -> ChatResponse:
        """Answer ``request``; raises ProviderError."""
        loop = asyncio.get_running_loop()
        asked = began = loop.time()
        until = _earliest(asked + self._limits.timeout, request.scope.until)
        limit = asyncio.timeout_at(until)
        try:
            async with limit:
                provider = self._source.made
                if provider is None or self._model == FIRST_LISTED:
                    provider = await self._prepared()
                    began = loop.time()
                embeds = request.scope.embeds
                response = await (embedded if embeds else _answered)(provider, self._model, request)
            return self._answer(request, response, loop.time() - began, None)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises has to become one of our errors here
            failure = self._own(error, f"no answer within {until - asked:.3g} s" if limit.expired() else "")
        raise failure

    async def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Answer ``request`` as events; raises ProviderError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        watch = _Watch(self._limits, request, began)
        alarm = Alarm(loop)
        text: list[str] = []
        try:
            alarm.set(watch.until)
            provider = self._source.made
            if provider is None or self._model == FIRST_LISTED:
                provider = await self._prepared()
                began = loop.time()
                watch = _Watch(self._limits, request, began)
            watch.streams(type(provider).stream is not Provider.stream)
            async with aclosing(provider.stream(self._model, request)) as events:
                while True:
                    alarm.set(watch.until)
                    event = await anext(events, None)
                    alarm.off()
                    if event is None:
                        raise ProviderUnavailable("the stream ended before the answer was complete")
                    if type(event) is Done:
                        done = event
                        break
                    shown = loop.time()
                    if type(event) is TextDelta:
                        text.append(event.text)
                    if not _is_empty(event):
                        if watch.first_token is None:
                            watch.begin(shown)
                        yield event
                    watch.go_on(shown, loop.time())
            response = done.response if done.response.text else replace(done.response, text="".join(text))
            done = Done(self._answer(request, response, loop.time() - began - watch.held, watch.first_token))
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises has to become one of our errors here
            failure = self._own(error, watch.complaint() if alarm.rang() else "")
        except asyncio.CancelledError as error:
            if not alarm.rang():
                raise
            failure = self._own(TimeoutError(), watch.complaint())
            failure.__cause__ = error
        else:
            yield done
            return
        finally:
            alarm.close()
        raise failure

    async def _prepared(self) -> Provider:
        """Return the provider, ready to be asked, and know which model is meant."""
        provider = self._source.get()
        await provider.prepare()
        await self._prices.ready(self._info)
        if self._model == FIRST_LISTED:
            await self._ask_for_model(provider)
        return provider

    async def _ask_for_model(self, provider: Provider) -> None:
        if type(provider).list_models is Provider.list_models:
            # It cannot say which models it has, so it has one, of its own name.
            self._model = provider.section
            return
        listed = await provider.list_models()
        if not listed:
            raise ModelNotFound("the server lists no model; name one in settings, or load one")
        first = listed[0]
        self._model = first.model
        self._info = replace(self._info, model=first.model, price=self._info.price or first.price)

    def _answer(self, request: ChatRequest, response: ChatResponse, seconds: float, first_token: float | None) -> ChatResponse:
        # An answer that was begun for the model may need no further word.
        if not request.scope.embeds and (not request.prefix or response.finish_reason != "stop"):
            _refuse_empty(response)
        usd = response.usd if response.usd is not None else self._prices.usd(self._info, response.usage)
        info = self._info
        return copied_response(
            response,
            model=self._model,
            provider=info.provider,
            usd=usd,
            seconds=seconds,
            first_token=first_token,
            offline=info.offline or response.offline,
        )

    def _own(self, error: Exception, late: str) -> FlowCraftError:
        """Return ``error`` as one of ours, with its model named and no secret left in it."""
        ours = _translated(error, late)
        if isinstance(ours, ProviderError):
            ours.model = self._model
            ours.provider = self._info.provider
        if ours is not error:
            ours.__cause__ = error
        if self._redactor:
            _redact(ours, self._redactor)
        return ours


async def _answered(provider: Provider, model: str, request: ChatRequest) -> ChatResponse:
    return await provider.chat(model, request)


class _Watch:
    """How long a stream may keep us waiting for its next event. ``held`` are the seconds that the reader kept us waiting."""

    def __init__(self, limits: CallLimits, request: ChatRequest, now: float) -> None:
        self.held = 0.0
        self.first_token: float | None = None
        self._began = now
        self._limits = limits
        self._scope = request.scope
        self.streams(True)

    def streams(self, really: bool) -> None:
        """Set the time for the first event; where the stream is made of a whole answer, that is the time for this answer."""
        seconds = min(self._limits.first_token, self._limits.timeout) if really else self._limits.timeout
        self.until = _earliest(self._began + seconds, self._scope.until)

    def begin(self, now: float) -> None:
        """Note the first event that has content."""
        self.first_token = now - self._began

    def go_on(self, shown: float, now: float) -> None:
        """Wait anew after an event that was shown at ``shown`` and which the reader was done with at ``now``."""
        if self.first_token is None:
            return
        self.held += now - shown
        deadline = self._scope.deadline
        self.until = _earliest(now + self._limits.idle, None if deadline is None else deadline + self.held)

    def complaint(self) -> str:
        """Say what did not come in time."""
        if self.first_token is None:
            return f"no first token within {self.until - self._began:.3g} s"
        deadline = self._scope.deadline
        if deadline is not None and self.until == deadline + self.held:
            return "the stream was not complete at the deadline of the answer"
        return f"no further token within {self._limits.idle:.3g} s"


def _earliest(first: float, second: float | None) -> float:
    return first if second is None or first < second else second


def _is_empty(event: StreamEvent) -> bool:
    return (type(event) is TextDelta or type(event) is ReasoningDelta) and not event.text


def _refuse_empty(response: ChatResponse) -> None:
    if response.text or response.choices or any(not isinstance(part, Reasoning) for part in response.parts):
        return
    if response.finish_reason == "content_filter":
        raise ContentFiltered("the vendor's filter left nothing of the answer", usage=response.usage)
    cut = "; all of max_tokens was spent before the first word" if response.finish_reason == "length" else ""
    raise InvalidOutput(f"the answer is empty{cut}", usage=response.usage)


def _translated(error: Exception, late: str) -> FlowCraftError:
    if late:
        return ProviderTimeout(late)
    if isinstance(error, LLMError | BudgetExceeded):
        return error
    if isinstance(error, FlowCraftError):
        return ProviderError(error.message)
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, TimeoutError):
        return ProviderTimeout(told)
    if isinstance(error, OSError | EOFError):
        return ProviderUnavailable(told)
    return ProviderError(f"the provider's plugin raised {told}")


def _redact(error: FlowCraftError, redactor: Redactor) -> None:
    """Take secrets out of ``error``; causes that hold one are cut off, for a traceback would print them."""
    if _leaks(error.__cause__ or error.__context__, redactor):
        error.__cause__ = error.__context__ = None
    error.message = redactor.text(error.message)
    error.args = tuple(redactor.value(item) for item in error.args)
    if isinstance(error, ProviderError):
        error.details = tuple(redactor.value(dict(item)) for item in error.details)


def _leaks(error: BaseException | None, redactor: Redactor) -> bool:
    for _ in range(20):
        if error is None:
            return False
        if any(redactor.text(told) != told for told in (str(error), repr(error))):
            return True
        error = error.__cause__ or error.__context__
    return True
