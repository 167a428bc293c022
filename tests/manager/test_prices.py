"""From the address of a provider to the USD that answers, statistics and lists tell, over everything that is between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft.llm import prices
from flowcraft.llm.prices import PRICE_LIST, Market, PriceBook
from flowcraft.manager import LLMManager
from flowcraft.plugin import ChatRequest, ChatResponse, Done, ModelInfo, Preset, Provider, ProviderConfig, TextDelta, Usage
from flowcraft_anthropic.answer import usage_of as anthropic_usage
from flowcraft_openai.answer import usage_of as openai_usage

pytestmark = pytest.mark.integration

SPENT = Usage(input=1000, cached=400, output=100, reasoning=60)
MINI = (600 * 0.15 + 400 * 0.075 + 100 * 0.6) / 1_000_000


class ShopConfig(ProviderConfig):
    base_url: str = ""


class Shop(Provider):
    """Answers as a vendor at any address would, and asks no network."""

    name = "shop"
    Config = ShopConfig
    usage = SPENT

    async def chat(self, model: str, request: ChatRequest) -> ChatResponse:
        return ChatResponse(text="ready", usage=self.usage)

    async def stream(self, model: str, request: ChatRequest) -> Any:
        yield TextDelta("ready")
        yield Done(ChatResponse(text="ready", usage=self.usage))


@pytest.fixture
def shop(managed: Callable[..., LLMManager]) -> Callable[..., LLMManager]:
    def make(address: str = "https://api.openai.com/v1", facts: str = "{}", offer: Any = Shop) -> LLMManager:
        where = f"base_url: '{address}', " if address else ""
        manager = managed(f"providers: {{shop: {{{where}models: {facts}}}}}")
        manager.register_provider("shop", offer)
        return manager

    return make


def known(manager: LLMManager, model: str) -> ModelInfo:
    return next(info for _, info, _ in manager.models() if info.model == model)


async def test_a_listed_price_is_told_by_answer_attempt_and_statistics(shop: Any) -> None:
    async with shop() as manager:
        chain = manager.llm("shop:gpt-4o-mini")
        answer = await chain.chat("hi")
        async with chain.stream("hi") as stream:
            async for _ in stream:
                pass
        assert stream.response is not None
        assert (answer.usd, answer.spent_usd, stream.response.usd) == (pytest.approx(MINI),) * 3
        assert [attempt.usd for attempt in answer.attempts] == [pytest.approx(MINI)]
        (row,) = manager.statistics()
        assert row.usd == pytest.approx(2 * MINI)


async def test_the_price_list_is_read_with_the_first_call_and_holds_up_no_other(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: list[threading.Thread] = []

    def found(model: str, market: Market) -> Any:
        readers.append(threading.current_thread())
        return look_up(model, market)

    look_up = prices._found
    monkeypatch.setattr(prices, "_found", found)
    async with shop() as manager:
        chain = manager.llm("shop:gpt-4o-mini")
        assert readers == []
        for _ in range(2):
            assert (await chain.chat("hi")).usd == pytest.approx(MINI)
        assert len(readers) == 1
        assert readers[0] is not threading.current_thread()


async def test_an_unknown_price_is_none_everywhere_and_never_zero(shop: Any) -> None:
    async with shop("https://gateway.example/v1") as manager:
        answer = await manager.llm("shop:gpt-4o-mini").chat("hi")
        assert (answer.usd, answer.spent_usd, answer.attempts[0].usd) == (None, None, None)
        (row,) = manager.statistics()
        assert (row.calls, row.usd) == (1, None)


async def test_the_price_in_settings_comes_first(shop: Any) -> None:
    async with shop(facts="{gpt-4o-mini: {price: {input: 1, output: 2, cached: 0}}}") as manager:
        answer = await manager.llm("shop:gpt-4o-mini").chat("hi")
        assert answer.usd == pytest.approx((600 * 1 + 100 * 2) / 1_000_000)
        assert known(manager, "gpt-4o-mini").sources["price"] == "settings"


async def test_models_tell_the_price_of_the_list_and_where_it_is_from(shop: Any) -> None:
    async with shop(facts="{gpt-4o-mini: {}, mystery: {}}") as manager:
        info = known(manager, "gpt-4o-mini")
        assert info.price is not None
        assert (info.price.input, info.price.output, info.sources["price"]) == (0.15, 0.6, PRICE_LIST)
        assert known(manager, "mystery").price is None
        assert manager.llm("shop:gpt-4o-mini", order="cheapest").links[0].info.price == info.price, "for the order"


async def test_a_plugin_may_say_under_which_id_its_vendor_is_listed(shop: Any) -> None:
    preset = Preset(provider=Shop, price_id="openai", config={"base_url": "https://shop.example/v1"})
    async with shop("", offer=preset) as manager:
        assert (await manager.llm("shop:gpt-4o-mini").chat("hi")).usd == pytest.approx(MINI)
    async with shop("http://127.0.0.1:9/v1", offer=preset) as manager:
        answer = await manager.llm("shop:gpt-4o-mini").chat("hi")
        assert answer.usd is None, "what answers at another address is not that vendor"


async def test_the_model_that_a_server_lists_first_has_its_own_price(shop: Any) -> None:
    class Lists(Shop):
        async def list_models(self) -> list[ModelInfo]:
            return [ModelInfo(model="gpt-4o-mini")]

    async with shop(offer=Lists) as manager:
        answer = await manager.llm("shop").chat("hi")
        assert (answer.model, answer.usd) == ("gpt-4o-mini", pytest.approx(MINI))


async def test_an_answer_that_tells_no_tokens_has_no_known_price(shop: Any) -> None:
    class Silent(Shop):
        usage = Usage()

    async with shop(offer=Silent) as manager:
        assert (await manager.llm("shop:gpt-4o-mini").chat("hi")).usd is None


def test_each_vendors_own_count_comes_to_its_own_price() -> None:
    """The same call as two vendors tell it: 600 tokens of input, 400 more from the cache, 100 of output, 60 of them thought."""
    openai = openai_usage(
        {
            "prompt_tokens": 1000,
            "prompt_tokens_details": {"cached_tokens": 400},
            "completion_tokens": 100,
            "completion_tokens_details": {"reasoning_tokens": 60},
        }
    )
    anthropic = anthropic_usage({"input_tokens": 600, "cache_read_input_tokens": 400, "output_tokens": 100})
    written = anthropic_usage({"input_tokens": 600, "cache_creation_input_tokens": 400, "output_tokens": 100})

    def usd(address: str, model: str, usage: Usage) -> float | None:
        return PriceBook(lambda provider: Market(address=address)).usd(ModelInfo(model=model, provider="p"), usage)

    claude = ("https://api.anthropic.com", "claude-sonnet-4-5-20250929")
    assert usd("https://api.openai.com/v1", "gpt-4o-mini", openai) == pytest.approx(MINI)
    assert usd(*claude, anthropic) == pytest.approx((600 * 3 + 400 * 0.3 + 100 * 15) / 1_000_000)
    assert usd(*claude, written) == pytest.approx((600 * 3 + 400 * 3.75 + 100 * 15) / 1_000_000)
