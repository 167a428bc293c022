"""The contract finds what is wrong: each of these providers breaks one rule."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import pytest

from flowcraft.plugin import (
    Capabilities,
    ChatRequest,
    ChatResponse,
    Done,
    Provider,
    ProviderUnavailable,
    StreamEvent,
    TextDelta,
)
from flowcraft.testing import FakeProvider, FaultServer, ProviderContract

pytestmark = pytest.mark.integration


class Contract(ProviderContract):
    """Not collected by itself: its name does not begin with Test."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def provider(self, server: FaultServer) -> Provider:
        return self._provider


class NeverDone(FakeProvider):
    async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        yield TextDelta("one two three")


class DoneTwice(FakeProvider):
    async def stream(self, model: str, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        for _ in range(2):
            yield Done(ChatResponse(text="one two three"))


class Raises(FakeProvider):
    async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
        raise ProviderUnavailable("no", model=model)


class NoTools(FakeProvider):
    capabilities: ClassVar[Capabilities] = Capabilities(tools=False)


class OwnStream(Provider):
    async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
        return ChatResponse(text=request.last_text, model=model)


def run(test: str, provider: Provider, **arguments: Any) -> None:
    with FaultServer() as server:
        getattr(Contract(provider), test)(server=server, **arguments)


@pytest.mark.parametrize(
    ("test", "provider"),
    [
        ("test_a_stream_ends_with_exactly_one_done", NeverDone()),
        ("test_a_stream_ends_with_exactly_one_done", DoneTwice()),
        ("test_chat_returns_text_model_and_reason", FakeProvider("Something else.")),
        ("test_usage_is_counted_with_its_parts", FakeProvider("Fine.")),
        ("test_many_at_once_get_their_own_answers", FakeProvider("the same for all")),
    ],
)
def test_a_broken_rule_is_found(test: str, provider: Provider) -> None:
    with pytest.raises(AssertionError):
        run(test, provider)


def test_an_error_that_names_its_model_is_found() -> None:
    with pytest.raises(AssertionError):
        run("test_errors_are_translated", Raises(ProviderUnavailable("no")), case="500")


def test_an_error_that_never_comes_is_found() -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        run("test_a_failure_is_not_retried", FakeProvider("all is well"))


def test_what_a_provider_denies_is_skipped() -> None:
    with pytest.raises(pytest.skip.Exception, match="NoTools says that it lacks tools"):
        run("test_tools_are_offered_and_called", NoTools())


def test_streams_made_of_whole_answers_need_not_come_early() -> None:
    with pytest.raises(pytest.skip.Exception, match="no stream of its own"):
        run("test_text_comes_before_the_answer_is_complete", OwnStream())


def test_a_subclass_must_say_how_its_provider_is_made() -> None:
    with pytest.raises(NotImplementedError, match="def provider"):
        ProviderContract().provider(FaultServer())
