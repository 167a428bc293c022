"""What a call costs: whose price counts, how tokens are counted, and that what is not known stays unknown."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any

import pytest
from genai_prices import Usage as ListedUsage
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import TieredPrices

from flowcraft.llm.prices import PRICE_LIST, Market, PriceBook, cost
from flowcraft.plugin import ModelInfo, Price, Usage

pytestmark = pytest.mark.unit

OPENAI = "https://api.openai.com/v1"
ANTHROPIC = "https://api.anthropic.com"
OPENROUTER = "https://openrouter.ai/api/v1"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai"
PERPLEXITY = "https://api.perplexity.ai"

MILLION = 1_000_000


def book(address: str = "", price_id: str = "", at: str = "2026-11-01T12:00") -> PriceBook:
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()
    return PriceBook(lambda provider: Market(address=address, price_id=price_id), clock=lambda: moment)


def model(name: str, **facts: Any) -> ModelInfo:
    return ModelInfo(model=name, provider="shop", **facts)


def usd(address: str, name: str, **usage: int) -> float | None:
    return book(address).usd(model(name), Usage(**usage))


def test_the_price_of_settings_or_preset_comes_before_the_list() -> None:
    told = model("gpt-4o-mini", price=Price(input=1, output=2), sources={"price": "settings"})
    assert book(OPENAI).usd(told, Usage(input=MILLION, output=MILLION)) == 3
    assert book(OPENAI).priced(told) is told


def test_the_list_stands_in_where_nothing_else_is_known() -> None:
    found = book(OPENAI).priced(model("gpt-4o-mini"))
    assert (found.price, found.sources["price"]) == (Price(input=0.15, output=0.6, cached=0.075), PRICE_LIST)
    assert book(OPENAI).usd(found, Usage(input=MILLION, output=MILLION)) == pytest.approx(0.75)


def test_prices_are_usd_per_million_tokens() -> None:
    assert usd(OPENAI, "gpt-4o-mini", input=1000, output=100) == pytest.approx((1000 * 0.15 + 100 * 0.6) / MILLION)


def test_cached_input_is_part_of_the_input_and_reasoning_part_of_the_output() -> None:
    plain = usd(OPENAI, "gpt-4o-mini", input=1000, output=100)
    assert usd(OPENAI, "gpt-4o-mini", input=1000, cached=400, output=100) == pytest.approx(
        (600 * 0.15 + 400 * 0.075 + 100 * 0.6) / MILLION
    )
    assert usd(OPENAI, "gpt-4o-mini", input=1000, output=100, reasoning=80) == plain


def test_writing_to_the_cache_has_its_price() -> None:
    # 1,000 tokens as the vendor counts them: 100 plain, 600 read from the cache, 300 written to it.
    spent = usd(ANTHROPIC, "claude-sonnet-4-5", input=1000, cached=600, cache_write=300, output=50)
    assert spent == pytest.approx((100 * 3 + 600 * 0.3 + 300 * 3.75 + 50 * 15) / MILLION)


def test_reasoning_that_has_a_price_of_its_own_is_charged_by_it() -> None:
    name = "sonar-deep-research"
    found = get_snapshot().find_provider_model(name, None, None, PERPLEXITY)[1].get_prices(datetime.now(UTC))
    apart = usd(PERPLEXITY, name, input=10, output=100, reasoning=60)
    assert apart is not None
    assert found.output_reasoning_mtok is not None
    assert found.output_reasoning_mtok != found.output_mtok
    without = usd(PERPLEXITY, name, input=10, output=100)
    assert without is not None
    assert apart - without == pytest.approx(60 * float(found.output_reasoning_mtok - found.output_mtok) / MILLION)


def test_a_long_input_is_charged_by_the_step_that_it_reaches() -> None:
    short = usd(ANTHROPIC, "claude-sonnet-4-5", input=200_000, output=10)
    long = usd(ANTHROPIC, "claude-sonnet-4-5", input=200_001, output=10)
    assert short == pytest.approx((200_000 * 3 + 10 * 15) / MILLION)
    assert long == pytest.approx((200_001 * 6 + 10 * 22.5) / MILLION)


def test_an_estimate_of_a_stepped_price_is_that_of_a_short_input() -> None:
    price = book(ANTHROPIC).priced(model("claude-sonnet-4-5")).price
    assert price == Price(input=3, output=15, cached=0.3, cache_write=3.75)


def test_prices_that_change_with_the_hour_follow_the_clock() -> None:
    address, name = "https://api.deepseek.com", "deepseek-chat"
    listed = get_snapshot().find_provider_model(name, None, None, address)[1]
    hours: dict[int, float] = {}
    for hour in range(24):
        at = datetime(2025, 6, 1, hour, tzinfo=UTC)
        expected = listed.get_prices(at).calc_price(ListedUsage(input_tokens=MILLION, output_tokens=0))["total_price"]
        hours[hour] = book(address, at=f"2025-06-01T{hour:02}:00").usd(model(name), Usage(input=MILLION)) or 0.0
        assert hours[hour] == pytest.approx(float(expected))
    assert len(set(hours.values())) > 1, "the list has two prices a day for this model"


@pytest.mark.parametrize(
    ("address", "name", "same"),
    [
        (OPENAI, "gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        (ANTHROPIC, "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("https://API.OpenAI.com/v1", "gpt-4o-mini", "gpt-4o-mini"),
    ],
)
def test_dated_names_and_spelt_addresses_mean_the_same(address: str, name: str, same: str) -> None:
    known = usd(address.lower(), same, input=1000, output=1000)
    assert known is not None
    assert usd(address, name, input=1000, output=1000) == known


def test_a_gateway_has_prices_of_its_own_for_names_with_the_maker_in_front() -> None:
    assert usd(OPENROUTER, "openai/gpt-4o-mini", input=1000) == pytest.approx(1000 * 0.15 / MILLION)
    assert usd(OPENROUTER, "meta-llama/llama-3.2-1b-instruct", input=1000) is not None
    assert usd(OPENAI, "meta-llama/llama-3.2-1b-instruct", input=1000) is None


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (OPENAI, "no-such-model"),
        (OPENAI, "*"),
        (OPENAI, ""),
        (OPENAI, "ft:gpt-4o-mini:me::1"),
        ("", "gpt-4o-mini"),
        ("https://gateway.example/v1", "gpt-4o-mini"),
        ("http://127.0.0.1:8080/v1", "gpt-4o-mini"),
        ("http://localhost:1234/v1", "gpt-4o-mini"),
        ("http://10.1.2.3/v1", "gpt-4o-mini"),
        ("http://[::1]:80/v1", "gpt-4o-mini"),
        ("http://gpu.local/v1", "gpt-4o-mini"),
        ("http://box:8000/v1", "gpt-4o-mini"),
    ],
)
def test_what_nobody_sells_by_the_list_has_no_price(address: str, name: str) -> None:
    assert usd(address, name, input=1000, output=1000) is None
    assert book(address).priced(model(name)).price is None


def test_a_provider_without_an_address_is_found_by_the_id_that_its_plugin_gives() -> None:
    known = book(price_id="anthropic").usd(model("claude-sonnet-4-5"), Usage(input=1000))
    assert known == pytest.approx(1000 * 3 / MILLION)
    assert book("https://gateway.example", price_id="anthropic").usd(model("claude-sonnet-4-5"), Usage(input=1000)) == known
    assert book(price_id="nobody").usd(model("claude-sonnet-4-5"), Usage(input=1000)) is None


def test_free_is_zero_and_gone_is_unknown() -> None:
    free = next(item.id for provider in get_snapshot().providers for item in provider.models if item.id.endswith(":free"))
    address = {"azure": "https://x.openai.azure.com", "mistral": "https://api.mistral.ai"}
    seller = next(provider.id for provider in get_snapshot().providers for item in provider.models if item.id == free)
    assert usd(address.get(seller, OPENROUTER), free, input=1000, output=1000) == 0
    # An entry without prices whose name does not say "free" may also be a model that is no longer sold.
    assert usd("https://api.cerebras.ai/v1", "qwen-3-coder-480b", input=1000) is None
    assert book(OPENAI).usd(model("x", price=Price(input=0, output=0)), Usage(input=5, output=5)) == 0


def test_tokens_that_nobody_told_cost_an_unknown_sum() -> None:
    assert book(OPENAI).usd(model("gpt-4o-mini"), Usage()) is None
    assert book().usd(model("x", price=Price(input=1, output=1)), Usage()) is None
    assert book().usd(model("x", price=Price(input=0, output=0)), Usage()) == 0


def test_output_without_a_price_is_not_taken_for_free() -> None:
    assert usd(OPENAI, "text-embedding-3-small", input=1000) is not None
    assert usd(OPENAI, "text-embedding-3-small", input=1000, output=5) is None
    assert book(OPENAI).priced(model("text-embedding-3-small")).price is None


def test_sound_is_charged_as_sound_where_it_is_clear_who_made_it() -> None:
    name = "gpt-audio"
    prices = get_snapshot().find_provider_model(name, None, None, OPENAI)[1].get_prices(datetime.now(UTC))
    heard = prices.calc_price(ListedUsage(input_tokens=500, input_audio_tokens=400, output_tokens=20))["total_price"]
    said = prices.calc_price(ListedUsage(input_tokens=20, output_tokens=500, output_audio_tokens=400))["total_price"]
    assert usd(OPENAI, name, input=500, audio=400, output=20) == pytest.approx(float(heard))
    assert usd(OPENAI, name, input=20, audio=400, output=500) == pytest.approx(float(said))
    assert usd(OPENAI, name, input=500, audio=400, output=500) is None, "either may have been sound"
    assert usd(OPENAI, name, input=500, audio=700, output=500) is None, "both were"
    only_hears = "gpt-4o-transcribe"
    assert usd(OPENAI, only_hears, input=500, audio=400, output=500) == pytest.approx(
        (100 * 2.5 + 400 * 6 + 500 * 10) / MILLION
    )
    cached = usd(GEMINI, "gemini-2.5-flash", input=500, audio=400, cached=50, output=500)
    assert cached == pytest.approx((50 * 0.3 + 50 * 0.03 + 400 * 1 + 500 * 2.5) / MILLION)


def test_offline_models_have_no_price() -> None:
    info = model("gpt-4o-mini", offline=True)
    assert book(OPENAI).priced(info) is info


def test_our_reckoning_is_that_of_the_list_for_all_that_it_knows() -> None:
    """Every model of the list, short and long inputs: the fast way here and the list's own come to the same."""
    now = datetime(2026, 11, 1, 12, tzinfo=UTC)
    kinds = {"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok"}
    compared = stepped = 0
    for provider in get_snapshot().providers:
        # The id leads to the same entry whatever address the vendor has.
        shop = PriceBook(lambda name, id=provider.id: Market(price_id=id), clock=now.timestamp)  # type: ignore[misc]
        for item in provider.models:
            try:
                found = get_snapshot().find_provider_model(item.id, None, provider.id, None)[1]
            except LookupError:
                continue
            prices = found.get_prices(now)
            named = {key: value for key, value in vars(prices).items() if value is not None}
            if not {"input_mtok", "output_mtok"} <= set(named) or "requests_kcount" in named:
                continue
            for usage in (Usage(input=900, cached=300, output=70), Usage(input=3 * MILLION, cached=5, output=9)):
                counted = {"input_tokens": usage.input, "output_tokens": usage.output, "cache_read_tokens": usage.cached}
                expected = float(prices.calc_price(ListedUsage(**counted))["total_price"])
                assert shop.usd(model(item.id), usage) == pytest.approx(expected), (provider.id, item.id)
                compared += 1
            stepped += any(isinstance(value, TieredPrices) for key, value in named.items() if key in kinds)
    assert compared > 2000
    assert stepped > 50


def test_no_price_is_asked_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError(f"a connection was wanted: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert usd(OPENAI, "gpt-4o-mini", input=1000) is not None


def test_an_entry_is_looked_up_once() -> None:
    asked: list[str] = []

    def market(provider: str) -> Market:
        asked.append(provider)
        return Market(address=OPENAI)

    shop = PriceBook(market)
    assert [shop.usd(model("gpt-4o-mini"), Usage(input=1)) for _ in range(3)] == [pytest.approx(0.15e-6)] * 3
    assert [shop.usd(model("nothing"), Usage(input=1)) for _ in range(3)] == [None] * 3
    assert asked == ["shop", "shop"]


def test_more_cached_than_asked_is_not_paid_back() -> None:
    assert cost(Usage(input=10, cached=30), Price(input=1, output=1, cached=0.1)) == pytest.approx(3e-6)
