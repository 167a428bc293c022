"""Builds chains from data: the one place that knows which policy stands around which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from flowcraft.llm.base import Link
from flowcraft.llm.chain import Chain, ChainLabels
from flowcraft.llm.health import HealthBoard
from flowcraft.llm.model import CallLimits, ProviderLLM
from flowcraft.llm.ordering import cheapest, fastest
from flowcraft.llm.policies.breaker import Breaker
from flowcraft.llm.policies.fallback import Fallback, Order
from flowcraft.llm.policies.recording import Recorder, Recording
from flowcraft.llm.policies.retry import Retry
from flowcraft.llm.policies.structured import Mode, Structured
from flowcraft.llm.registry import Found, Registry
from flowcraft.llm.rules import Models, Policies
from flowcraft.llm.statistics import Statistics
from flowcraft.plugin.llm import LLM
from flowcraft.redaction import Redactor


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSpec:
    """A chain as data. ``models`` are pairs of role and name, in order; times are in seconds."""

    models: Models
    labels: ChainLabels = field(default_factory=ChainLabels)
    timeout: float = 200.0
    deadline: float = 400.0
    retries: int = 1
    policies: Policies = field(default_factory=Policies)
    mode: Mode = "auto"
    repair: bool = True
    params: Mapping[str, Any] = field(default_factory=dict)
    require: frozenset[str] = frozenset()
    allow: frozenset[str] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What all chains of one owner share."""

    registry: Registry
    recorder: Recorder
    statistics: Statistics = field(default_factory=Statistics)
    health: HealthBoard = field(default_factory=HealthBoard)
    random: Random = field(default_factory=Random)
    redactor: Redactor = field(default_factory=Redactor)
    warn: Callable[[str], None] = lambda text: None


def compose(spec: ChainSpec, shop: Workshop, mender: LLM | None = None) -> Chain:
    """Build the chain that ``spec`` describes.

    A model that comes up twice stands where it comes first; one whose provider is not configured stays in the chain as a
    skip that says why. ``mender`` mends answers that do not fit their schema, in place of the model that gave them.
    Raises SettingsError where a provider's settings are wrong.
    """
    links = _links(spec, shop, mender)
    llm = _around(_strategy(links, spec, shop), spec, shop)
    return Chain(llm, links, deadline=spec.deadline, labels=spec.labels, params=spec.params, notes=spec.notes)


def _around(llm: LLM, spec: ChainSpec, shop: Workshop) -> LLM:
    """Put around a strategy what concerns whole answers: continuation, then the cache, outermost."""
    return llm


def _strategy(links: Sequence[Link], spec: ChainSpec, shop: Workshop) -> LLM:
    return _single(links, spec, shop)


def _single(links: Sequence[Link], spec: ChainSpec, shop: Workshop) -> Fallback:
    return Fallback(links, shop.recorder, timeout=spec.timeout, order=_order(spec, shop), require=spec.require, warn=shop.warn)


def _order(spec: ChainSpec, shop: Workshop) -> Order | None:
    orders: dict[str, Order] = {"fastest": fastest(shop.statistics), "cheapest": cheapest}
    return orders.get(spec.policies.order)


def _links(spec: ChainSpec, shop: Workshop, mender: LLM | None) -> Sequence[Link]:
    links: dict[str, Link] = {}
    for role, name in spec.models:
        found = shop.registry.find(name)
        id = found.info.id
        if id not in links and _allowed(spec, found, name):
            links[id] = _link(found, role, spec, shop, mender)
    return tuple(links.values())


def _allowed(spec: ChainSpec, found: Found, name: str) -> bool:
    return spec.allow is None or bool(spec.allow & {name, found.info.id, found.info.model, found.info.provider})


def _link(found: Found, role: str, spec: ChainSpec, shop: Workshop, mender: LLM | None) -> Link:
    info, source = found.info, found.source
    if source is None:
        return Link(llm=None, info=info, role=role, skip=found.skip)
    timeouts = source.section.timeouts
    limits = CallLimits(timeout=spec.timeout, first_token=timeouts.first_token, idle=timeouts.idle)
    health = shop.health.of(info.id)
    redactor = shop.redactor if source.secrets <= shop.redactor.secrets else shop.redactor.with_secrets(source.secrets)
    llm: LLM = ProviderLLM(source, info, limits, redactor)
    llm = Recording(llm, info, role, shop.recorder)
    llm = Breaker(llm, health)
    llm = Retry(llm, health, spec.retries)
    llm = Structured(llm, info, spec.mode, spec.repair, mender, redactor)
    return Link(llm=llm, info=info, role=role, health=health)
