"""Every error of FlowCraft. Message first, the rest by keyword: ``RateLimited("slow down", retry_after=3)``.

::

    FlowCraftError
      SettingsError(problems) · PluginError · WorkflowError(problems) · StoreError
      LLMError(attempts)                         what wrappers catch
        ProviderError(model, provider, retry_after, details, usage, billed)
          RateLimited · ProviderTimeout · ProviderUnavailable
          AuthenticationFailed · QuotaExhausted · ModelNotFound · ModelNotLoaded
          ContextTooLong · ContentFiltered · InvalidRequest · InvalidOutput(details)
        CircuitOpen · CapabilityMissing · MemoryExceeded(figures)
        ChainExhausted(attempts)                 writes its own message
      BudgetExceeded · ServiceUnavailable · ToolUnavailable
      RunError
        StageFailed · RunDiverged · RunFenced · RunCancelled · Rejected · ApprovalTimedOut
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowcraft.attempts import Attempt, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong in a file: where, what, and what to do. Lines and columns count from 1, in characters.

    ``excerpt`` is the line as it is shown; ``caret`` is the line below it, made from ``column`` and ``width`` where empty.
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    hint: str = ""
    excerpt: str = ""
    width: int = 1
    caret: str = ""
    warning: bool = False

    @property
    def place(self) -> str:
        """``file:line:column``, as far as known."""
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}"

    def __str__(self) -> str:
        kind = "warning: " if self.warning else ""
        head = f"{self.place}: {kind}{self.message}" if self.place else f"{kind}{self.message}"
        if self.hint:
            head += f"; {self.hint}"
        if not self.excerpt:
            return head
        number = f"{self.line:>5} | "
        margin = " " * 5 + " | "
        caret = self.caret or " " * max(self.column - 1, 0) + "^" * max(self.width, 1)
        return f"{head}\n{number}{self.excerpt}\n{margin}{caret}"


class FlowCraftError(Exception):
    """Whatever FlowCraft raises on purpose."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class _Problems(FlowCraftError):
    def __init__(self, message: str = "", *, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message or "\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class SettingsError(_Problems):
    """Settings cannot be used; ``problems`` say where."""


class WorkflowError(_Problems):
    """A workflow file or its inputs cannot be used; ``problems`` say where."""


class PluginError(FlowCraftError):
    """A plugin cannot be used."""


class StoreError(FlowCraftError):
    """The database cannot be used, or holds no such thing."""


class LLMError(FlowCraftError):
    """No answer from a model. ``attempts`` tells what was tried."""

    def __init__(self, message: str = "", *, attempts: Sequence[Attempt] = ()) -> None:
        super().__init__(message)
        self.attempts = tuple(attempts)


class ProviderError(LLMError):
    """One call to one model failed. A plugin raises it without model and provider; the caller adds them.

    ``retry_after`` is in seconds; ``details`` is what the vendor said, field by field. ``usage`` is what the call cost all the
    same, where that is known; ``billed`` says whether the vendor takes money for it (None: what is usual for the class).
    """

    health = False

    def __init__(
        self,
        message: str = "",
        *,
        model: str = "",
        provider: str = "",
        retry_after: float | None = None,
        details: Sequence[Mapping[str, Any]] = (),
        attempts: Sequence[Attempt] = (),
        usage: Usage | None = None,
        billed: bool | None = None,
    ) -> None:
        super().__init__(message, attempts=attempts)
        self.model = model
        self.provider = provider
        self.retry_after = retry_after
        self.details = tuple(details)
        self.usage = usage
        self.billed = billed


class RateLimited(ProviderError):
    """The vendor asks to slow down (429)."""


class ProviderTimeout(ProviderError):
    """No answer, no first token or no next token in time."""

    health = True


class ProviderUnavailable(ProviderError):
    """The server failed (5xx), could not be reached, or cut the stream."""

    health = True


class AuthenticationFailed(ProviderError):
    """The key is missing, wrong or not allowed to do this (401, 403)."""


class QuotaExhausted(ProviderError):
    """The account has no money or quota left (402)."""


class ModelNotFound(ProviderError):
    """The vendor does not know this model (404)."""


class ModelNotLoaded(ProviderError):
    """The local server knows the model but has not loaded it."""


class ContextTooLong(ProviderError):
    """The request does not fit the model's context window."""


class ContentFiltered(ProviderError):
    """The vendor refused the content."""


class InvalidRequest(ProviderError):
    """The vendor refused the request as malformed (400, 422)."""


class InvalidOutput(ProviderError):
    """The answer is empty or does not fit its schema; ``details`` is a list of ``{field, message}``."""


class CircuitOpen(LLMError):
    """The model's breaker is open, or its cooldown is not over."""


class CapabilityMissing(LLMError):
    """No model of the chain can do what the request needs."""


class MemoryExceeded(LLMError):
    """A local model does not fit; ``figures`` say by how much (MB)."""

    def __init__(self, message: str = "", *, figures: Mapping[str, float] | None = None) -> None:
        super().__init__(message)
        self.figures = dict(figures or {})


_EMPTY_CHAIN = "no model answered: the chain is empty; set a key in the environment, or name a provider and models in settings"


class ChainExhausted(LLMError):
    """Every model of the chain was tried or skipped; the message tells all of it."""

    def __init__(self, message: str = "", *, attempts: Sequence[Attempt] = ()) -> None:
        if not message:
            told = "\n".join(f"  {number}. {attempt}" for number, attempt in enumerate(attempts, 1))
            message = f"no model answered; tried in this order:\n{told}" if told else _EMPTY_CHAIN
        super().__init__(message, attempts=attempts)


class BudgetExceeded(FlowCraftError):
    """The budget of the run, the day or the key does not allow this call."""


class ServiceUnavailable(FlowCraftError):
    """The queue is full or the service is stopping."""


class ToolUnavailable(FlowCraftError):
    """A tool cannot be called at all: it is not there, or the server behind it has died."""


class RunError(FlowCraftError):
    """A run did not reach its end; ``run`` is its id, ``stage`` the path of the stage."""

    def __init__(self, message: str = "", *, run: str = "", stage: str = "") -> None:
        super().__init__(message)
        self.run = run
        self.stage = stage


class StageFailed(RunError):
    """A stage, or an element of it, failed for good."""


class RunDiverged(RunError):
    """On resume, a stage asks for something else than what is recorded at its place."""


class RunFenced(RunError):
    """Another process owns the run now; this one stops."""


class RunCancelled(RunError):
    """Somebody cancelled the run."""


class Rejected(RunError):
    """A person rejected what a gate asked."""


class ApprovalTimedOut(RunError):
    """Nobody answered a gate in time."""
