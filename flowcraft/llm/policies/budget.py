"""Spend no more than is allowed: reserve what a call may cost before it, and settle what it did cost afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from flowcraft.attempts import Attempt
from flowcraft.errors import BudgetExceeded, CircuitOpen, StoreError
from flowcraft.llm.base import rescoped
from flowcraft.llm.ports import Spending, SpendingLine, SpendingStore
from flowcraft.llm.prices import PriceBook
from flowcraft.llm.rules import BudgetRules
from flowcraft.llm.sharing.budgets import Estimate, expected_usage, limits_anything, lines_of, refusal, settled
from flowcraft.llm.sharing.threads import carried_out, taken
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.chat import ChatRequest, ChatResponse, Done, Scope, StreamEvent
from flowcraft.plugin.llm import LLM


class Teller:
    """Reserves and settles for one chain. ``clock`` tells seconds since the epoch; ``warn`` is told what cannot be counted."""

    def __init__(
        self,
        rules: BudgetRules,
        store: SpendingStore,
        prices: PriceBook,
        clock: Callable[[], float],
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.rules = rules
        self.idle = not limits_anything(rules)
        self._store = store
        self._prices = prices
        self._clock = clock
        self._warn = warn

    async def reserve(self, request: ChatRequest, info: ModelInfo) -> tuple[SpendingLine, ...]:
        """Take what the call may cost from every budget that holds for it, all or nothing.

        Raises BudgetExceeded, StoreError, and CircuitOpen where the store takes longer than there is time.
        """
        usage = expected_usage(request, info)
        usd = self._prices.usd(info, usage)
        now = self._clock()
        lines = lines_of(self.rules, request.scope, Estimate(usd, usage.total), now)
        if usd is None and any(line.unit == "usd" for line in lines):
            self._warn(f"the price of {info.id} is not known: budgets in USD count nothing for it")
        if not lines:
            return ()
        full = await self._taken(lines, request.scope)
        if full is not None:
            amount = next(line.amount for line in lines if (line.scope, line.unit) == (full.scope, full.unit))
            raise BudgetExceeded(refusal(full, self.rules, amount, now))
        return lines

    async def settle(self, lines: Sequence[SpendingLine], attempts: Sequence[Attempt], deadline: float | None) -> None:
        """Make of what was reserved what the call did cost. A store that fails leaves the reservation as it is."""
        changes = settled(lines, _actual(lines, attempts)) if lines else ()
        if changes:
            await carried_out(lambda: self._add(changes), deadline)

    async def _taken(self, lines: Sequence[SpendingLine], scope: Scope) -> Spending | None:
        try:
            return await taken(
                lambda: self._store.reserve(lines), lambda full: None if full else self._back(lines), scope.until
            )
        except TimeoutError:
            raise CircuitOpen("its budget could not be looked up in time: the database is busy") from None

    def _back(self, lines: Sequence[SpendingLine]) -> None:
        self._add(settled(lines, dict.fromkeys(("usd", "tokens", "calls"), 0.0)))

    def _add(self, lines: Sequence[SpendingLine]) -> None:
        try:
            self._store.settle(lines)
        except StoreError as error:
            self._warn(f"what calls cost cannot be settled for now, what was reserved counts: {error}")


class Budget:
    """Asks the inner LLM only while the budgets of the run, the day and the key have room for the call.

    Without a budget it is not there. Raises BudgetExceeded, and StoreError where nobody knows what was spent.
    """

    def __init__(self, inner: LLM, info: ModelInfo, teller: Teller) -> None:
        self._inner = inner
        self._info = info
        self._teller = teller

    def chat(self, request: ChatRequest) -> Coroutine[Any, Any, ChatResponse]:
        """Answer by the inner LLM, its cost reserved before and settled afterwards."""
        if self._teller.idle and not request.scope.budget:
            return self._inner.chat(request)
        return self._counted(request)

    def stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        """Stream from the inner LLM; what was closed early is settled as far as it went."""
        if self._teller.idle and not request.scope.budget:
            return self._inner.stream(request)
        return self._counted_stream(request)

    async def _counted(self, request: ChatRequest) -> ChatResponse:
        lines = await self._teller.reserve(request, self._info)
        own: list[Attempt] = []
        try:
            return await self._inner.chat(rescoped(request, ledger=own))
        finally:
            await self._settle(lines, own, request.scope)

    async def _counted_stream(self, request: ChatRequest) -> AsyncGenerator[StreamEvent, None]:
        lines = await self._teller.reserve(request, self._info)
        own: list[Attempt] = []
        last: Done | None = None
        try:
            async with aclosing(self._inner.stream(rescoped(request, ledger=own))) as events:
                async for event in events:
                    if isinstance(event, Done):
                        last = event
                        break
                    yield event
        finally:
            await self._settle(lines, own, request.scope)
        if last is not None:
            yield last

    async def _settle(self, lines: Sequence[SpendingLine], own: Sequence[Attempt], scope: Scope) -> None:
        scope.ledger.extend(own)
        await self._teller.settle(lines, own, scope.deadline)


def _actual(lines: Sequence[SpendingLine], attempts: Sequence[Attempt]) -> dict[str, float]:
    """Return what a call did cost. Nothing, if it failed and took nothing; what was reserved, if nobody tells."""
    tokens = sum(attempt.usage.total for attempt in attempts)
    usd = sum(attempt.usd or 0.0 for attempt in attempts)
    if any(attempt.outcome == "ok" for attempt in attempts) and not tokens:
        known = {line.unit: line.amount for line in lines}
        return {"usd": usd or known.get("usd", 0.0), "tokens": known.get("tokens", 0.0), "calls": 1.0}
    return {"usd": usd, "tokens": float(tokens), "calls": 1.0 if tokens or usd else 0.0}
