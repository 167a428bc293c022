"""The chains of one settings page, each composed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from flowcraft.llm.chain import Chain, ChainLabels
from flowcraft.llm.composer import ChainSpec, Workshop, compose, identity_of
from flowcraft.llm.embedding import Embedder
from flowcraft.llm.rules import Models, Policies
from flowcraft.llm.sharing.vectors import VectorBook
from flowcraft.manager.specs import Wish, policies_of
from flowcraft.plugin.llm import LLM
from flowcraft.settings import Choice, Settings

OFFLINE = "offline"
MOST_CHAINS = 1000
"""Chains that a manager keeps; composing one again takes milliseconds."""


EMBED = "embed"
"""What a model must be able to do to make vectors, and the task under which that is recorded."""


class Chains:
    """Composes the chains that ``settings`` describe. ``registered`` are providers that the program itself added."""

    def __init__(self, settings: Settings, workshop: Workshop, registered: Sequence[str]) -> None:
        self.settings = settings
        self._workshop = workshop
        self._registered = registered
        self._kept: dict[Wish, Chain] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Compose anew what is asked for from now on."""
        self._kept.clear()

    def get(self, wish: Wish) -> Chain:
        """Return the chain for ``wish``; raises SettingsError where a provider's settings are wrong."""
        chain = self._kept.get(wish)
        if chain is None:
            while len(self._kept) >= MOST_CHAINS:  # a judge's criteria may differ from call to call
                self._kept.pop(next(iter(self._kept), wish), None)
            spec = self.spec(wish)
            chain = self._kept[wish] = compose(spec, self._workshop, self._mender(spec))
        return chain

    def alone(self, name: str, task: str, timeout: float | None) -> Chain:
        """Return a chain of one model that is asked once."""
        wish = Wish(name=name, task=task, strategy="single", order="listed", cache=0)
        policies = replace(policies_of(self.settings, None, wish, ()), confidence=None, continuation="fail")
        seconds = self.settings.llm.timeout if timeout is None else timeout
        spec = ChainSpec(
            models=(("", name),),
            labels=ChainLabels(task=task),
            timeout=seconds,
            deadline=2 * seconds,  # so that a call has all its time, however long a limit or the vendor made it wait
            retries=0,
            policies=policies,
            repair=False,
            params=self.settings.llm.params.request(),
        )
        return compose(spec, self._workshop)

    def embedder(self, name: str) -> Embedder:
        """Return what makes vectors by one model, at every provider that lists it: those of others do not go with it."""
        registry = self._workshop.registry
        info = registry.find(name).info
        others = [f"{section.name}:{info.model}" for section in registry.sections if info.model in section.models]
        wish = Wish(name=name, task=EMBED, strategy="single", order="listed", cache=0)
        policies = replace(policies_of(self.settings, None, wish, ()), confidence=None, continuation="fail")
        names = dict.fromkeys([info.id if info.provider else name, *others])
        spec = ChainSpec(
            models=tuple(("embedding", one) for one in names),
            labels=ChainLabels(task=EMBED),
            timeout=self.settings.llm.timeout,
            deadline=2 * self.settings.llm.timeout,
            retries=self.settings.llm.retry_attempts,
            policies=policies,
            repair=False,
            require=frozenset({EMBED}),
        )
        chain, settings = compose(spec, self._workshop), self.settings.llm.embeddings
        if not settings.cache:
            return Embedder(name, chain, settings.batch)
        identity = identity_of(chain.links, spec, self._workshop)
        return Embedder(name, chain, settings.batch, VectorBook(self._workshop.answers, identity, settings.cache))

    def written(self, wish: Wish) -> dict[str, Any]:
        """Return a chain as settings write it, JSON-like."""
        choice = self.settings.chain_for(model=wish.name, stage=wish.stage)
        named = wish.name or self.settings.llm.model_names()
        dear = () if not self._escalation(choice, wish) else pairs(self.settings.chain_for(model="expensive"))
        policies = self._policies(choice, wish, dear)
        return {
            "tier": choice.tier,
            "roles": [[role, list(names)] for role, names in choice.roles if role != OFFLINE] if named else [],
            "params": self.settings.llm.params.request(),
            **policies.written(),
        }

    def spec(self, wish: Wish) -> ChainSpec:
        """Return the data that the chain for ``wish`` is composed from."""
        llm = self.settings.llm
        choice = self.settings.chain_for(model=wish.name, stage=wish.stage)
        policies = self._policies(choice, wish, self._escalation(choice, wish))
        return ChainSpec(
            models=self._models(choice),
            labels=ChainLabels(tier=choice.tier, stage=wish.stage or "", task=wish.task or "", strategy=policies.strategy),
            timeout=llm.timeout,
            deadline=llm.answer_deadline,
            retries=llm.retry_attempts,
            policies=policies,
            mode=llm.structured.mode if llm.structured.mode in ("native", "text") else "auto",
            repair=llm.structured.repair,
            params=self.settings.llm.params.request(),
            require=wish.require,
            allow=wish.allow,
        )

    def _policies(self, choice: Choice, wish: Wish, escalation: Models) -> Policies:
        if wish.confined and not choice.tier:
            wish = replace(wish, strategy="single")  # it is one model: nothing works together, and that is meant
        return policies_of(self.settings, self.settings.llm.tiers.get(choice.tier), wish, escalation)

    def _escalation(self, choice: Choice, wish: Wish) -> Models:
        """Return the models that answer where a cheap one is not sure: tier ``expensive``, unless it is that tier itself."""
        if choice.tier == "expensive" or not self.settings.llm.expensive_model or wish.confined:
            return ()
        return self._models(self.settings.chain_for(model="expensive"))

    def _models(self, choice: Choice) -> Models:
        models = tuple((role, name) for role, names in choice.roles for name in names)
        if self._registered and all(role == OFFLINE for role, _ in models):
            # Nothing else is configured, so what the program itself registered is what it means to use.
            models = (("default", self._registered[0]), *models)
        if self.settings.llm.offline != "allow" and self._can_ask(models):
            # Settings do not know of every provider; once there is one, nobody gets made-up answers unknowingly.
            return tuple((role, name) for role, name in models if role != OFFLINE)
        return models

    def _can_ask(self, models: Iterable[tuple[str, str]]) -> bool:
        find = self._workshop.registry.find
        return bool(self._registered) or any(role != OFFLINE and find(name).source is not None for role, name in models)

    def _mender(self, spec: ChainSpec) -> LLM | None:
        name = self.settings.llm.structured.repair_model
        if not name or not spec.repair:
            return None
        mending = replace(
            spec,
            models=self._models(self.settings.chain_for(model=name)),
            repair=False,
            params={},
            require=frozenset(),
            policies=replace(spec.policies, strategy="single", confidence=None, cache=None, continuation="fail"),
        )
        return compose(mending, self._workshop).llm


def pairs(choice: Choice) -> Models:
    """Return the models of a choice with their roles, the offline one left out."""
    return tuple((role, name) for role, names in choice.roles if role != OFFLINE for name in names)
