"""The stores of a database that is opened when it is first needed: so much of it is imported then."""

from __future__ import annotations

from collections.abc import Sequence

from flowcraft.llm.ports import (
    AnswerStore,
    Caller,
    Hold,
    KeptAnswer,
    LimitStore,
    Spending,
    SpendingLine,
    SpendingStore,
    Want,
)
from flowcraft.llm.sharing.stores import Stores
from flowcraft.manager.records import KeptStore, KeptVerdicts


class KeptSpending(SpendingStore):
    """What was spent from budgets."""

    def __init__(self, kept: KeptStore) -> None:
        self._kept = kept

    def _opened(self) -> SpendingStore:
        return self._kept.store("SqlSpending")  # type: ignore[no-any-return]  # a class of storage

    def reserve(self, lines: Sequence[SpendingLine]) -> Spending | None:
        """Take all of ``lines``, or none of them."""
        return self._opened().reserve(lines)

    def settle(self, lines: Sequence[SpendingLine]) -> None:
        """Add ``amount`` of each line."""
        self._opened().settle(lines)

    def spending(self) -> Sequence[Spending]:
        """Return all that was ever spent."""
        return self._opened().spending()


class KeptLimits(LimitStore):
    """How much models were asked."""

    def __init__(self, kept: KeptStore) -> None:
        self._kept = kept

    def _opened(self) -> LimitStore:
        return self._kept.store("SqlLimits")  # type: ignore[no-any-return]  # a class of storage

    def take(self, caller: Caller, wants: Sequence[Want], now: float) -> Hold | None:
        """Take what a call needs of all limits, or nothing."""
        return self._opened().take(caller, wants, now)

    def give_back(self, wants: Sequence[Want], requests: int, tokens: int) -> None:
        """Give back what was not used."""
        self._opened().give_back(wants, requests, tokens)

    def renew(self, calls: Sequence[str], now: float) -> None:
        """Let these calls keep their places."""
        self._opened().renew(calls, now)

    def leave(self, call: str) -> None:
        """Give the places of a call back, or its turn."""
        self._opened().leave(call)


class KeptAnswers(AnswerStore):
    """Answers by the hash of their question."""

    def __init__(self, kept: KeptStore) -> None:
        self._kept = kept

    def _opened(self) -> AnswerStore:
        return self._kept.store("SqlAnswers")  # type: ignore[no-any-return]  # a class of storage

    def get(self, key: str, now: float) -> KeptAnswer | None:
        """Return the answer kept under ``key`` that has not expired."""
        return self._opened().get(key, now)

    def put(self, key: str, response: str, now: float, expires: float) -> None:
        """Keep an answer."""
        self._opened().put(key, response, now, expires)


def kept_stores(kept: KeptStore) -> Stores:
    """Return all stores of one database."""
    return Stores(
        calls=kept,
        verdicts=KeptVerdicts(kept),
        spending=KeptSpending(kept),
        limits=KeptLimits(kept),
        answers=KeptAnswers(kept),
    )
