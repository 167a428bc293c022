"""What a call costs: by the price that settings or a plugin name, else by the public price list of genai-prices.

The list is data of an installed package. It is read when a model that somebody else sells and that has no other price is
asked or compared for the first time, and nothing here ever asks a network for it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flowcraft.attempts import Usage
from flowcraft.plugin.capabilities import ModelInfo, Price

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_prices.types import ModelInfo as ListedModel
    from genai_prices.types import ModelPrice, TieredPrices

PRICE_LIST = "price list"
"""What ``ModelInfo.sources`` says of a price that comes from the list."""

MILLION = 1_000_000

_LOCAL_ENDINGS = (".local", ".localhost", ".internal", ".lan", ".home.arpa")
_FREE = ":free"


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Who sells a model: the address that it is asked at, or the id under which the price list knows its vendor."""

    address: str = ""
    price_id: str = ""

    @property
    def local(self) -> bool:
        """Say whether nobody sells here: an address of this machine or of a private network, or none at all."""
        return not self.price_id and _is_local(urlsplit(self.address).hostname or "")


def cost(usage: Usage, price: Price | None) -> float | None:
    """Return the USD of ``usage``; None without a price."""
    if price is None:
        return None
    cached = price.input if price.cached is None else price.cached
    cache_write = price.input if price.cache_write is None else price.cache_write
    plain = max(0, usage.input - usage.cached - usage.cache_write)
    spent = plain * price.input + usage.cached * cached + usage.cache_write * cache_write + usage.output * price.output
    return spent / MILLION


class PriceBook:
    """The price of every model: that of its facts (settings before the plugin's preset), else that of the price list.

    ``market`` says of a provider, by its name in settings, who sells there; ``clock`` tells seconds since the epoch, for
    prices that change with the day or the hour. What is not known is None and never 0.
    """

    def __init__(
        self, market: Callable[[str], Market] = lambda provider: Market(), clock: Callable[[], float] = time.time
    ) -> None:
        self._market = market
        self._clock = clock
        self._entries: dict[str, _Entry | None] = {}

    def priced(self, info: ModelInfo) -> ModelInfo:
        """Return ``info`` with its price of the list, where it has no other: that of a short input, for estimates."""
        if info.price is not None or info.offline:
            return info
        entry = self._entry(info)
        price = None if entry is None else entry.rates(self._clock()).plain
        return info if price is None else replace(info, price=price, sources={**info.sources, "price": PRICE_LIST})

    def usd(self, info: ModelInfo, usage: Usage) -> float | None:
        """Return what a call that took ``usage`` costs in USD; None where the price, or what was used, is not known."""
        if info.price is not None and info.sources.get("price") != PRICE_LIST:
            if usage.total:
                return cost(usage, info.price)
            return None if info.price.input or info.price.output else 0.0
        entry = self._entry(info)
        return None if entry is None else entry.usd(usage, self._clock())

    async def ready(self, info: ModelInfo) -> None:
        """Read the list where this model's price is looked for in it: that takes a tenth of a second, on a thread."""
        sold = info.price is None and not info.offline and not self._market(info.provider).local
        if sold and info.id not in self._entries:
            await asyncio.to_thread(self._entry, info)

    def _entry(self, info: ModelInfo) -> _Entry | None:
        id = info.id
        if id not in self._entries:
            self._entries[id] = _found(info.model, self._market(info.provider))
        return self._entries[id]


def _found(model: str, market: Market) -> _Entry | None:
    if market.local or not model:
        return None
    from genai_prices.data_snapshot import get_snapshot

    try:
        if market.address:
            found = get_snapshot().find_provider_model(model, None, None, _plain(market.address))
        else:
            found = get_snapshot().find_provider_model(model, None, market.price_id, None)
    except LookupError:
        if not (market.address and market.price_id):
            return None
        return _found(model, replace(market, address=""))
    return _Entry(found[1])


def _plain(address: str) -> str:
    """Return an address as the list's patterns have it, the host in small letters and no one's name or port in it."""
    url = urlsplit(address)
    return f"{url.scheme}://{url.hostname}{url.path}"


def _is_local(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.lower().endswith(_LOCAL_ENDINGS)
    return True  # no vendor is asked at a bare number


class _Entry:
    """One model of the price list."""

    def __init__(self, model: ListedModel) -> None:
        self._model = model
        self._rates: dict[int, _Rates] = {}

    def rates(self, now: float) -> _Rates:
        """Return what holds now: some prices begin on a day, some hold for hours of the day."""
        given = self._model.get_prices(datetime.fromtimestamp(now, UTC))
        rates = self._rates.get(id(given))
        if rates is None:
            rates = self._rates[id(given)] = _Rates(given, free=self._model.id.endswith(_FREE))
        return rates

    def usd(self, usage: Usage, now: float) -> float | None:
        return self.rates(now).usd(usage)


class _Rates:
    """The prices of one model as the list has them, made ready to be reckoned with at every call."""

    def __init__(self, given: ModelPrice, *, free: bool) -> None:
        self._given = given
        named: Mapping[str, Decimal | TieredPrices] = {
            key: value for key, value in vars(given).items() if value is not None and not key.startswith("_")
        }
        # Nothing at all stands for "free" with some models and for "not sold any more" with others: only a name tells.
        self._free = free and not named
        self._takes_input, self._gives_output = "input_mtok" in named, "output_mtok" in named
        self._per_request = "requests_kcount" in named
        self._reasons = "output_reasoning_mtok" in named
        self._hears, self._speaks = "input_audio_mtok" in named, "output_audio_mtok" in named
        self._sounds = self._hears or self._speaks
        starts = {tier.start for value in named.values() for tier in getattr(value, "tiers", ())}
        self._steps = tuple((start, _price(named, start)) for start in sorted({-1, *starts}, reverse=True))

    @property
    def plain(self) -> Price | None:
        """The price of a short input; None where one side of it is not known."""
        if self._free:
            return Price(input=0.0, output=0.0)
        return self._steps[-1][1] if self._takes_input and self._gives_output else None

    def usd(self, usage: Usage) -> float | None:
        """Return the USD of ``usage``; the length of the input decides by which step all of it is charged."""
        if self._free:
            return 0.0
        if not usage.total or (usage.input and not self._takes_input) or (usage.output and not self._gives_output):
            price = self.plain
            return 0.0 if price is not None and not (price.input or price.output) else None
        if self._per_request or (self._reasons and usage.reasoning) or (self._sounds and usage.audio):
            return self._reckoned(usage)
        return cost(usage, next(price for start, price in self._steps if usage.input > start))

    def _reckoned(self, usage: Usage) -> float | None:
        """Return what the list's own reckoning says, for the prices that need it."""
        if not (self._sounds and usage.audio):
            return self._by_list(usage)
        # Our count of audio tokens does not say who spoke. Mostly only one of them can have.
        may_hear, may_speak = self._hears and usage.audio <= usage.input, self._speaks and usage.audio <= usage.output
        # What was cached is text as far as it can be.
        cached = max(0, usage.cached - (usage.input - usage.audio))
        heard = self._by_list(usage, input_audio_tokens=usage.audio, cache_audio_read_tokens=cached) if may_hear else None
        said = self._by_list(usage, output_audio_tokens=usage.audio, cache_audio_read_tokens=0) if may_speak else None
        if heard is None or said is None or heard == said:
            return heard if said is None else said
        return None

    def _by_list(self, usage: Usage, **audio: int) -> float | None:
        from genai_prices import Usage as ListedUsage

        counted = ListedUsage(
            input_tokens=usage.input,
            cache_read_tokens=usage.cached,
            cache_write_tokens=usage.cache_write,
            output_tokens=usage.output,
            output_reasoning_tokens=usage.reasoning,
            **audio,
        )
        try:
            return float(self._given.calc_price(counted)["total_price"])
        except ValueError:
            return None  # tokens of two kinds at once that the list has no price for


def _price(named: Mapping[str, Decimal | TieredPrices], start: int) -> Price:
    """Return the price of an input of more than ``start`` tokens."""

    def rate(key: str) -> float | None:
        value: Any = named.get(key)
        if value is None:
            return None
        reached = [tier.price for tier in getattr(value, "tiers", ()) if tier.start <= start]
        return float(reached[-1] if reached else getattr(value, "base", value))

    return Price(
        input=rate("input_mtok") or 0.0,
        output=rate("output_mtok") or 0.0,
        cached=rate("cache_read_mtok"),
        cache_write=rate("cache_write_mtok"),
    )
