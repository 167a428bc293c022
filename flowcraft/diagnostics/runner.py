"""Ask all configured models at once, and keep what came of it."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowcraft.attempts import Attempt
from flowcraft.diagnostics.advice import Advice, advise
from flowcraft.diagnostics.report import Report, write_json, write_markdown
from flowcraft.diagnostics.results import ModelTest, fastest_first, plain
from flowcraft.errors import FlowCraftError, LLMError, SettingsError
from flowcraft.llm.ports import ModelStatistics
from flowcraft.manager import LLMManager
from flowcraft.manager.named import NamedModel
from flowcraft.redaction import Redactor
from flowcraft.settings import Settings
from flowcraft.source import did_you_mean

PROMPT = "Reply with the single word: ready"
TASK = "test"
"""The label by which statistics keep these calls."""

LONGEST_TEXT = 80
LONGEST_WARMING = 10.0
"""Seconds that connecting to all providers may take before their models are asked."""

OnResult = Callable[[ModelTest], None]


class LLMTestRunner:
    """Asks every configured model the same question, each directly, and tells which of them work and how fast.

    ``manager`` is an LLMManager, or what one is made of: Settings, the path of a settings file, or None for the file found by
    its usual names. Nobody stands in for a model that fails, and nothing is asked again but what a model wants to be waited
    for. The calls cost what they cost, and count in the statistics, under the task ``test``.
    """

    def __init__(self, manager: LLMManager | Settings | str | Path | None = None) -> None:
        self._own = not isinstance(manager, LLMManager)
        self._manager = manager if isinstance(manager, LLMManager) else LLMManager(manager)
        self._known: dict[str, ModelStatistics] = {}
        self._results: list[ModelTest] = []
        self._asked: dict[str, Any] = {}

    @property
    def results(self) -> tuple[ModelTest, ...]:
        """What is known so far, in the order of settings."""
        return tuple(self._results)

    @property
    def known_names(self) -> frozenset[str]:
        """Every name of a tier or a model that may be asked for."""
        return frozenset([*self._manager.tiers, *self._manager.model_names])

    def candidates(self, models: Iterable[str] | None = None) -> list[NamedModel]:
        """Return the models that a test would ask: all that settings configure, or those behind these names.

        Raises SettingsError for a name that nobody knows.
        """
        names = list(models or ())
        known = self.known_names
        for name in names:
            if name not in known and self._manager.knows_model(name) is False:
                hint = did_you_mean(name, known)
                raise SettingsError(
                    f"there is no model {name!r}" + (f"; {hint}" if hint else "; `flowcraft models list` shows all")
                )
        return self._manager.configured(names)

    async def test_all_models(
        self,
        prompt: str | None = None,
        *,
        models: Iterable[str] | None = None,
        rounds: int = 1,
        timeout: float = 60.0,
        concurrency: int = 8,
        per_provider: int | None = None,
        on_result: OnResult | None = None,
    ) -> list[ModelTest]:
        """Ask every model ``rounds`` times and return what came of it, in the order of settings.

        ``timeout`` is the seconds that one call may take. At most ``concurrency`` calls are under way at once, and at most
        ``per_provider`` to one provider; a local server that computes one answer at a time is measured rightly with 1.
        ``on_result`` is told of every model that is through. Cancelled, it keeps the results so far.
        """
        _check(rounds=rounds, timeout=timeout, concurrency=concurrency, per_provider=per_provider)
        chosen = self.candidates(models)
        self._asked = {"prompt": prompt or PROMPT, "rounds": rounds, "timeout": timeout, "started": time.time()}
        found: dict[int, ModelTest] = {}
        self._results = []
        limits = _Limits(concurrency, per_provider)

        async def one(place: int, model: NamedModel) -> None:
            found[place] = await self._tested(model, limits)
            self._results = [found[number] for number in sorted(found)]
            if on_result is not None:
                on_result(found[place])

        try:
            self._known = await asyncio.to_thread(self._history)
            # Loading a vendor's SDK and the first connection take time that is no model's.
            await self._manager.warm([model.info.provider for model in chosen if not model.skip], min(timeout, LONGEST_WARMING))
            await _all([one(place, model) for place, model in enumerate(chosen)])
        finally:
            self._asked["seconds"] = time.time() - self._asked["started"]
            if self._own:
                await self._manager.aclose()
        return list(self._results)

    def get_working_models(self) -> list[str]:
        """Return the names of the models that answered."""
        return [test.name for test in self._results if test.works]

    def get_fastest_models(self) -> list[tuple[str, float]]:
        """Return the names of the models that answered with the median of their seconds, the fastest first."""
        return [(test.name, test.response_time or 0.0) for test in fastest_first(self._results)]

    def get_advice(self) -> Advice:
        """Return which model is recommended for which role, and which is better dropped."""
        return advise(self._results)

    def export_results_markdown(self, path: str | Path | None = None) -> Path:
        """Write the report as Markdown and return where; without ``path`` under a dated name in the working directory."""
        return write_markdown(self._report(), path)

    def export_results_json(self, path: str | Path | None = None) -> Path:
        """Write everything as JSON and return where; without ``path`` under a dated name in the working directory."""
        return write_json(self._report(), path)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return self._report().as_json()

    # -- inside

    def _report(self) -> Report:
        if not self._asked:
            raise FlowCraftError("nothing was tested yet; await test_all_models() first")
        redactor = Redactor(self._manager.secrets)
        return Report(
            tests=self.results,
            advice=self.get_advice(),
            known=self._known,
            asked={**self._asked, "prompt": redactor.text(self._asked["prompt"])},
        )

    def _history(self) -> dict[str, ModelStatistics]:
        """Return what was known of models before this test, by ``provider:model``; nothing where the database fails."""
        try:
            return {f"{known.provider}:{known.model}": known for known in self._manager.statistics()}
        except FlowCraftError:
            return {}

    async def _tested(self, model: NamedModel, limits: _Limits) -> ModelTest:
        info = model.info
        test = ModelTest(
            name=model.name,
            model=info.model,
            provider=info.provider,
            roles=model.roles,
            family=info.family,
            price=info.price,
            skip=model.skip,
        )
        if model.skip:
            return test
        try:
            chain = self._manager.alone(model.name, task=TASK, timeout=self._asked["timeout"])
        except FlowCraftError as error:
            return replace(test, skip=str(error).partition("\n")[0])
        attempts: list[Attempt] = []
        for _ in range(self._asked["rounds"]):
            async with limits.place(info.provider):
                try:
                    response = await chain.chat(self._asked["prompt"])
                    attempts += response.attempts
                    test = replace(test, text=self._shown(response.text))
                except LLMError as error:
                    attempts += error.attempts
                except FlowCraftError as error:
                    # A budget that is spent, and its like: this model was not asked, and would not be the next time either.
                    return _with(test, attempts, stopped=str(error))
        return _with(test, attempts)

    def _shown(self, text: str) -> str:
        return Redactor(self._manager.secrets).text(plain(text))[:LONGEST_TEXT]


class _Limits:
    """How much goes on at once: in all, and with each provider."""

    def __init__(self, concurrency: int, per_provider: int | None) -> None:
        self._all = asyncio.Semaphore(concurrency)
        self._each: defaultdict[str, AbstractAsyncContextManager[Any]] = defaultdict(
            nullcontext if per_provider is None else lambda: asyncio.Semaphore(per_provider)
        )

    @asynccontextmanager
    async def place(self, provider: str) -> AsyncIterator[None]:
        """Wait for the provider first, so that nobody holds a place for which others are ready."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._each[provider])
            await stack.enter_async_context(self._all)
            yield


def _with(test: ModelTest, attempts: Sequence[Attempt], stopped: str = "") -> ModelTest:
    """Return ``test`` with its calls; one that was always skipped is told by the reason."""
    skips = [attempt.message for attempt in attempts if attempt.outcome == "skipped"]
    told = next((attempt for attempt in attempts if attempt.outcome not in ("skipped", "cancelled")), None)
    reason = stopped or (skips[-1] if skips else "")
    named = test if told is None else replace(test, model=told.model, provider=told.provider)
    if told is None:
        return replace(named, attempts=tuple(attempts), skip=reason, stopped=reason)
    return replace(named, attempts=tuple(attempts), stopped=stopped)


async def _all(work: Sequence[Any]) -> None:
    """Do everything at once. What fails first ends the rest and is raised as it is."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _check(*, rounds: int, timeout: float, concurrency: int, per_provider: int | None) -> None:
    wrong = [
        name
        for name, value in (("rounds", rounds), ("concurrency", concurrency), ("per_provider", per_provider))
        if value is not None and value < 1
    ]
    if wrong:
        raise ValueError(f"{wrong[0]} is a whole number above 0")
    if not 0 < timeout < float("inf"):
        raise ValueError("timeout is a number of seconds above 0")
