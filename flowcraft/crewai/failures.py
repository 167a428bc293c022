"""What CrewAI is told where no model answers: once, in words that do not make it ask again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from crewai.hooks.dispatch import HookAborted
from crewai.utilities.exceptions.context_window_exceeding_exception import LLMContextLengthExceededError

from flowcraft.errors import (
    BudgetExceeded,
    CapabilityMissing,
    ContextTooLong,
    FlowCraftError,
    LLMError,
    ServiceUnavailable,
    StoreError,
)

Refusal = Literal["tools", "context"]
"""What CrewAI goes on from in another way: tools described in text, or a context that is summarized."""

SAID_OTHERWISE: Final = {
    "rate limit": "limit of the rate",
    "rate-limit": "limit of the rate",
    "too many requests": "more requests than allowed",
    "throttled": "slowed down",
    "resource exhausted": "resources used up",
    "expected a string with maximum length": "the text is longer than allowed",
    "maximum context length": "largest context",
    "context length exceeded": "context too long",
    "context_length_exceeded": "context too long",
    "context window full": "context too long",
    "too many tokens": "more tokens than allowed",
    "input is too long": "input longer than allowed",
    "exceeds token limit": "has more tokens than allowed",
}
"""Words by which CrewAI, whatever the error, decides to ask again; and the same in other words."""

_WORDS: Final = re.compile("|".join(map(re.escape, SAID_OTHERWISE)), re.IGNORECASE)


class NoAnswer(LLMError, HookAborted):  # type: ignore[misc, unused-ignore]  # typed only where the library is
    """No model answered. CrewAI lets it through: the chain has tried all there is. ``attempts`` tell of it."""


class NoMoney(BudgetExceeded, HookAborted):  # type: ignore[misc, unused-ignore]  # typed only where the library is
    """The budget does not allow the call. CrewAI lets it through."""


class NoService(ServiceUnavailable, HookAborted):  # type: ignore[misc, unused-ignore]  # typed only where the library is
    """Calls are not taken now. CrewAI lets it through: another try is the caller's to make."""


class NoStore(StoreError, HookAborted):  # type: ignore[misc, unused-ignore]  # typed only where the library is
    """The database that calls are counted in cannot be used. CrewAI lets it through."""


class NoTools(CapabilityMissing):
    """No model of the chain can call tools: CrewAI goes on with tools in text."""


ENDINGS: Final[Mapping[type[FlowCraftError], type[FlowCraftError]]] = {
    BudgetExceeded: NoMoney,
    ServiceUnavailable: NoService,
    StoreError: NoStore,
}
"""What CrewAI lets through, by the errors that are no model's."""

FAILURES: Final[tuple[type[FlowCraftError], ...]] = (LLMError, *ENDINGS)
"""What keeps an answer from coming, for reasons that are not the program's."""


def for_crewai(error: FlowCraftError, *, tools: bool = False, ends: bool = True) -> Exception:
    """Return the error to raise in CrewAI for ``error``; it is to be raised where no other is handled.

    It ``ends`` the task, unless CrewAI can do without what was asked for.
    """
    refusal = refusal_of(error, tools=tools)
    if refusal == "tools":
        return NoTools("this chain of models does not support function calling")
    if refusal == "context":
        told = "context length exceeded: the request is too long for every model of the chain"
        too_long: Exception = LLMContextLengthExceededError(told)
        return too_long
    message = _calm(error.message)
    for kind, ending in ENDINGS.items():
        if isinstance(error, kind):
            return ending(message) if ends else kind(message)
    attempts = error.attempts if isinstance(error, LLMError) else ()
    return NoAnswer(message, attempts=attempts) if ends else LLMError(message, attempts=attempts)


def refusal_of(error: BaseException, *, tools: bool) -> Refusal | None:
    """Return what CrewAI is to do in another way: without tools, or with less context; None where the error is the end."""
    if isinstance(error, CapabilityMissing) and tools and "tools" in error.message:
        return "tools"
    attempts = error.attempts if isinstance(error, LLMError) else ()
    tried = {attempt.outcome for attempt in attempts if attempt.outcome not in ("skipped", "cancelled")}
    return "context" if tried == {"ContextTooLong"} or isinstance(error, ContextTooLong) else None


def refused(refusal: Refusal) -> LLMError:
    """Return an error that stands for a refusal which was recorded."""
    if refusal == "tools":
        return CapabilityMissing("no model of the chain takes tools")
    return ContextTooLong("the request is too long for every model of the chain")


def _calm(message: str) -> str:
    return _WORDS.sub(lambda found: SAID_OTHERWISE[found[0].lower()], message)
