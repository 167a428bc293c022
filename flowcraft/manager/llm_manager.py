"""LLMManager: for a tier, a stage, a task or a model's name the chain that answers. Needs nothing else around it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

from flowcraft.discovery import Plugins, discover
from flowcraft.errors import BudgetExceeded, LLMError, ProviderUnavailable, ServiceUnavailable, SettingsError
from flowcraft.events import Bus, Said
from flowcraft.llm.casting import Casting, casting
from flowcraft.llm.chain import Chain, Question
from flowcraft.llm.composer import Workshop
from flowcraft.llm.embedding import Embedder
from flowcraft.llm.health import BreakerRules, HealthBoard
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.llm.policies.recording import Recorder
from flowcraft.llm.ports import ModelStatistics, Spending
from flowcraft.llm.prices import PriceBook
from flowcraft.llm.sharing.answers import AnswerBook
from flowcraft.llm.sharing.gates import Limiter
from flowcraft.llm.sharing.stores import Stores
from flowcraft.llm.why import Decision, explained
from flowcraft.manager.chains import OFFLINE, Chains
from flowcraft.manager.named import NamedModel, models_called, named_models
from flowcraft.manager.providers import registry_of, section_of
from flowcraft.manager.records import Fan, KeptStore, Sink
from flowcraft.manager.specs import Options, Wish
from flowcraft.manager.stores import kept_stores
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.chat import ChatResponse, Restart, TextDelta
from flowcraft.plugin.hooks import Preset
from flowcraft.plugin.provider import Provider
from flowcraft.redaction import Redactor
from flowcraft.settings import Settings, load_settings, tier_names

P = TypeVar("P", bound=type[Provider])


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedResponse:
    """What ``generate_response`` returns: an answer, or the error that stood in its way. ``response_time`` is in seconds."""

    success: bool
    content: str = ""
    model_name: str = ""
    response_time: float = 0.0
    error: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FastestModel:
    """A model and the median of the seconds that its last answers took, None without any."""

    name: str
    provider: str = ""
    response_time: float | None = None


class LLMManager:
    """Chains of models by tier, stage or name, made of settings, plugins and statistics.

    ``settings`` is a ``Settings``, the path of a settings file, or None for the file found by its usual names. Statistics,
    spending, limits and kept answers are in the database that settings name, or in ``stores``. Every call is handed to
    ``sinks`` and, as an event, to ``bus``.
    Made without a running loop, it can be used from one ``asyncio.run`` after the other, and from threads. Use it as an
    async context manager, or call ``aclose``.
    """

    def __init__(
        self,
        settings: Settings | str | Path | None = None,
        *,
        plugins: Plugins | None = None,
        stores: Stores | None = None,
        statistics: Statistics | None = None,
        sinks: Sequence[Sink] = (),
        bus: Bus | None = None,
    ) -> None:
        page = settings if isinstance(settings, Settings) else load_settings(settings)
        self.plugins = plugins or _discovered(page)
        # A key in the environment whose plugin is not installed configures nothing.
        self.settings = page.with_providers(self.plugins.provider_names())
        self._kept = KeptStore(self._database)
        self._stores = stores or kept_stores(self._kept)
        self._statistics = statistics or Statistics(self._stores.calls, verdicts=self._stores.verdicts)
        self._sinks = tuple(sinks)
        self._bus = bus
        self._registered: list[str] = []
        self._said: set[str] = set()
        self._workshop = self._open_workshop()
        self._chains = Chains(self.settings, self._workshop, self._registered)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the providers' connections and save what statistics still hold."""
        # All are closed, whatever one of them says to that.
        await asyncio.gather(*(provider.aclose() for provider in self._workshop.registry.made()), return_exceptions=True)
        await asyncio.to_thread(self._statistics.close)
        self._workshop.limiter.close()
        self._kept.close()

    def close(self) -> None:
        """Save what statistics still hold, where no loop runs any more; connections end with theirs."""
        self._statistics.close()
        self._workshop.limiter.close()
        self._kept.close()

    def _database(self) -> Any:
        from flowcraft.storage import Database

        return Database(self.settings.storage)

    # -- chains

    def llm(
        self,
        tier_or_model: str | None = None,
        *,
        stage: str | None = None,
        task: str | None = None,
        **options: Unpack[Options],
    ) -> Chain:
        """Return the chain for a tier, an alias or a model, for a stage's tier, or the default chain.

        ``task`` is a label that statistics are kept by. Of the ``options``, ``require`` names capabilities that every answer
        needs; ``allow`` confines the chain to providers, models or ``provider:model`` ids; ``strategy``, ``order``, ``judge``,
        ``confidence`` and ``cache`` stand in for what the tier and settings say; ``confined`` keeps to the chain's own models:
        no escalation, no judge from outside. Raises SettingsError where a provider's
        settings are wrong.
        """
        return self._chains.get(Wish.of(tier_or_model, stage, task, options))

    def written(
        self, tier_or_model: str | None = None, *, stage: str | None = None, **options: Unpack[Options]
    ) -> dict[str, Any]:
        """Return a chain as settings write it, JSON-like: never what is available now, nor in what order.

        What changes answers is there: the models, the parameters, and of the policies strategy, judge, least confidence and
        who answers below it.
        """
        return self._chains.written(Wish.of(tier_or_model, stage, None, options))

    def with_settings(self, settings: Settings) -> LLMManager:
        """Return a manager of the same plugins, statistics and sinks by other settings."""
        other = LLMManager(
            settings,
            plugins=self.plugins,
            stores=self._stores,
            statistics=self._statistics,
            sinks=self._sinks,
            bus=self._bus,
        )
        for name in self._registered:
            other._add_registered(name)
        return other

    @overload
    def register_provider(self, name: str, provider: None = None) -> Callable[[P], P]: ...
    @overload
    def register_provider(self, name: str, provider: type[Provider] | Preset) -> type[Provider] | Preset: ...
    def register_provider(self, name: str, provider: type[Provider] | Preset | None = None) -> Any:
        """Offer ``provider`` under ``name`` in this process; without ``provider``, a decorator of its class."""
        if provider is None:
            return lambda cls: self.register_provider(name, cls)
        self.plugins.register_provider(name, provider)
        self._add_registered(name)
        return provider

    # -- what is known

    @property
    def secrets(self) -> frozenset[str]:
        """Every secret value: of settings, and the keys of providers that chains were made of so far."""
        return self.settings.secrets | self._workshop.registry.secrets

    @property
    def tiers(self) -> frozenset[str]:
        """The names of all tiers."""
        return tier_names(self.settings)

    @property
    def model_names(self) -> tuple[str, ...]:
        """Every name that a model is known by: aliases, models that are listed, providers."""
        registry = self._workshop.registry
        listed = [info.model for info in registry.infos()]
        providers = [section.name for section in registry.sections]
        return tuple(dict.fromkeys([*self.settings.llm.aliases, *listed, *providers, OFFLINE]))

    def knows_model(self, name: str) -> bool | None:
        """Say whether a model can be asked by ``name``: True if listed, False if nobody could, None if that will be seen."""
        registry = self._workshop.registry
        if name in self.settings.llm.aliases or any(name in section.models for section in registry.sections):
            return True
        found = registry.find(name)
        if found.source is None:
            return None if found.info.provider else False
        listed = found.source.lists(found.info.model) or name == found.info.provider or found.info.offline
        return True if listed else None

    def lacks(self, wanted: frozenset[str], tier_or_model: str | None = None, *, stage: str | None = None) -> str:
        """Return the models of a chain if each is known to lack one of ``wanted``, empty if one of them may do it all."""
        links = self.llm(tier_or_model, stage=stage).links
        if not all(link.info.capabilities.lacks(wanted) for link in links):
            return ""
        return ", ".join(link.info.id for link in links)

    def models(self) -> list[tuple[str, ModelInfo, str]]:
        """Return role, facts and the reason not to be asked of every model of the default chain, then of all others listed."""
        links = self.llm().links
        chained = {link.info.id for link in links}
        priced = self._workshop.prices.priced
        others = [priced(info) for info in self._workshop.registry.infos() if info.id not in chained]
        return [*((link.role, priced(link.info), link.skip) for link in links), *(("", info, "") for info in others)]

    def configured(self, names: Iterable[str] = ()) -> list[NamedModel]:
        """Return every model that settings configure, once each, or those behind the given names of tiers and models."""
        registry = self._workshop.registry
        called = named_models(self.settings, registry, self._registered)
        if given := tuple(names):
            roles = {model.info.id: model.roles for model in called}
            called = [
                model if model.roles else replace(model, roles=roles.get(model.info.id, ()))
                for model in models_called(self.settings, registry, given)
            ]
        return [replace(model, info=self._workshop.prices.priced(model.info)) for model in called]

    def alone(self, name: str, *, task: str = "", timeout: float | None = None) -> Chain:
        """Return a chain of one model that is asked once: no other stands by, nothing is mended, kept or tried again.

        Budgets, limits and its breaker hold. ``timeout`` is the seconds of one call. Raises SettingsError where its provider's
        settings are wrong.
        """
        return self._chains.alone(name, task, timeout)

    def embedder(self, model: str | None = None) -> Embedder:
        """Return what makes vectors of texts by a model, its name None: that of ``llm.embeddings.model``.

        Where none is named and no model is configured at all, ``offline`` makes them of the words alone. Raises SettingsError.
        """
        name = model or self.settings.llm.embeddings.model
        if name is None:
            if any(not link.info.offline for link in self.llm().links):
                raise SettingsError("no model for vectors is named; set llm.embeddings.model")
            name = OFFLINE
        return self._chains.embedder(name)

    async def warm(self, providers: Iterable[str], timeout: float) -> None:
        """Load what providers need, and connect to them, which may take ``timeout`` seconds.

        What fails here is not told: a call will tell it better.
        """
        registry = self._workshop.registry

        async def one(name: str) -> None:
            provider = registry.source(name).get()
            await provider.prepare()
            await asyncio.wait_for(provider.health(), timeout)

        await asyncio.gather(*map(one, dict.fromkeys(providers)), return_exceptions=True)

    def statistics(self, stage: str | None = None, task: str | None = None) -> list[ModelStatistics]:
        """Return the statistics of every model, of the calls of one stage or task if given. Reads the database."""
        return self._statistics.all(stage, task)

    def why(
        self,
        tier_or_model: str | None = None,
        *,
        stage: str | None = None,
        task: str | None = None,
        **options: Unpack[Options],
    ) -> Decision:
        """Return in which order the chain for these arguments, those of ``llm``, asks its models now, and why.

        Reads the database. Raises SettingsError where a provider's settings are wrong, StoreError.
        """
        chain = self.llm(tier_or_model, stage=stage, task=task, **options)
        self._statistics.reread()
        spec = self._chains.spec(Wish.of(tier_or_model, stage, task, options))
        return explained(chain, spec, self._workshop, _now())

    def casting(self, tier_or_model: str | None = None, *, stage: str | None = None, **options: Unpack[Options]) -> Casting:
        """Return who may be asked for answers of the chain for these arguments, those of ``llm``, and in which part.

        Raises SettingsError where a provider's settings are wrong.
        """
        spec = self._chains.spec(Wish.of(tier_or_model, stage, None, options))
        return casting(self.llm(tier_or_model, stage=stage, **options), spec, self._workshop)

    def spending(self) -> list[Spending]:
        """Return what was spent from each budget, what calls under way reserved included. Reads the database."""
        return list(self._stores.spending.spending())

    # -- the seeds' calls

    async def generate_response(
        self, prompt: str, use_fastest: bool = True, use_parallel: bool = False, **params: Any
    ) -> GeneratedResponse:
        """Answer ``prompt``; what keeps models from answering is told in ``error`` and not raised."""
        chain = self.llm(strategy="best_of_two" if use_parallel else None, order="fastest" if use_fastest else None)
        began = time.monotonic()
        try:
            response = await chain.chat(prompt, **params)
        except (LLMError, BudgetExceeded, ServiceUnavailable) as error:
            seconds = time.monotonic() - began
            return GeneratedResponse(success=False, response_time=seconds, error=str(error), notes=chain.notes)
        return GeneratedResponse(
            success=True,
            content=response.text,
            model_name=response.model,
            response_time=response.seconds,
            notes=chain.notes,
        )

    def get_fastest_model(self) -> FastestModel:
        """Return the model of the default chain that is expected to take least until it has answered.

        What a failure costs is part of that. It rests on what ``order: fastest`` knows, but nothing is drawn: asked twice, it
        says the same. Without any answer so far, it is the first model that can be asked.
        """
        links = [link for link in self.llm().links if link.llm is not None] or list(self.llm().links)
        if not links:
            raise SettingsError("no model is configured; set a key in the environment or name a model in settings")
        keys = [(link.info.provider, link.info.model) for link in links if not link.info.offline]
        self._statistics.reread()
        known = self._statistics.speed(keys)
        expected = zip(keys, known.models, known.expected(), strict=True)
        timed = {key: what.until_answer for key, model, what in expected if what is not None and model.answers > 0}
        provider, name = min(timed, key=timed.__getitem__, default=(links[0].info.provider, links[0].info.model))
        return FastestModel(name=name, provider=provider, response_time=self._statistics.median(provider, name))

    async def chat_completion(self, messages: Question, stage_name: str | None = None, **params: Any) -> ChatResponse:
        """Answer by the chain that settings give to the stage."""
        return await self.llm(stage=stage_name).chat(messages, **params)

    async def stream_completion(
        self, messages: Question, stage_name: str | None = None, **params: Any
    ) -> AsyncGenerator[str, None]:
        """Answer in pieces of plain text by the chain that settings give to the stage.

        Text that was handed out cannot be taken back. So an answer that would begin anew after a cut is gone on with
        instead; where that cannot be, as in JSON, ProviderUnavailable is raised.
        """
        chain = self.llm(stage=stage_name, continuation=self._plain_continuation(stage_name))
        async with chain.stream(messages, **params) as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    yield event.text
                elif isinstance(event, Restart):
                    raise ProviderUnavailable(f"the stream was cut and cannot be gone on with: {event.reason}")

    def get_current_model_info(self, stage: str | None = None) -> dict[str, str]:
        """Return provider, model and type (the tier's name, else the role) of the model that answers a stage first."""
        chain = self.llm(stage=stage)
        link = next((link for link in chain.links if link.llm is not None), next(iter(chain.links), None))
        if link is None:
            return {"provider": "", "model": "", "type": chain.labels.tier}
        return {"provider": link.info.provider, "model": link.info.model, "type": chain.labels.tier or link.role}

    # -- wiring

    def _open_workshop(self) -> Workshop:
        breaker = self.settings.llm.breaker
        rules = BreakerRules(calls=breaker.calls, share=breaker.share, window=breaker.window, open=breaker.open)
        registry = registry_of(self.settings, self.plugins)
        return Workshop(
            registry=registry,
            recorder=Recorder(Fan(self._statistics, self._sinks, self._bus)),
            statistics=self._statistics,
            health=HealthBoard(rules),
            prices=PriceBook(registry.market),
            redactor=Redactor(self.settings.secrets),
            warn=self._warn,
            judges=lambda name: self.plugins.judges().get(name),
            spending=self._stores.spending,
            limiter=Limiter(self._stores.limits, warn=self._warn),
            answers=AnswerBook(self._stores.answers, warn=self._warn),
        )

    def _add_registered(self, name: str) -> None:
        self._registered.append(name)
        self._workshop.registry.add(section_of(self.settings, name))
        self._chains.clear()

    def _plain_continuation(self, stage: str | None) -> str:
        """Return what becomes of a stream that is read as plain text."""
        tier = self.settings.llm.tiers.get(self.settings.chain_for(stage=stage).tier)
        mode = (tier.continuation if tier is not None else None) or self.settings.llm.continuation
        return "continue" if mode in ("restart", "unstreamed") else mode

    def _warn(self, text: str) -> None:
        """Say ``text``, once."""
        if text not in self._said and self._bus is not None:
            self._said.add(text)
            self._bus.emit(Said(level="warning", message=text, time=time.time()))


def _now() -> float:
    """Return the time by the clock of the loop, which breakers go by, or by the one that loops mostly have."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


def _discovered(settings: Settings) -> Plugins:
    return discover(allow=settings.plugins.allow, deny=settings.plugins.deny, environ=settings.environment)
