"""Builds chains from data: the one place that knows which policy stands around which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

from flowcraft.llm.base import Link
from flowcraft.llm.chain import Chain, ChainLabels, fingerprint_of
from flowcraft.llm.gauge import Gauge
from flowcraft.llm.health import HealthBoard
from flowcraft.llm.judging import Judges, Jury, LLMJudge, Seat
from flowcraft.llm.knowledge.statistics import Statistics
from flowcraft.llm.model import CallLimits, ProviderLLM
from flowcraft.llm.ordering import best, cheapest, fastest
from flowcraft.llm.policies.best_of_two import BestOfTwo, contests
from flowcraft.llm.policies.breaker import Breaker
from flowcraft.llm.policies.budget import Budget, Teller
from flowcraft.llm.policies.cache import Cache
from flowcraft.llm.policies.cascade import Cascade, Escalation
from flowcraft.llm.policies.continuation import Continuation
from flowcraft.llm.policies.fallback import Fallback, Order
from flowcraft.llm.policies.going_on import GoingOn
from flowcraft.llm.policies.hedge import Hedge, HedgeBudget
from flowcraft.llm.policies.logprobs import with_logprobs
from flowcraft.llm.policies.rate_limit import RateLimit
from flowcraft.llm.policies.recording import Recorder, Recording
from flowcraft.llm.policies.retry import Retry, most_calls
from flowcraft.llm.policies.structured import Mode, Structured
from flowcraft.llm.policies.turn import Lineup
from flowcraft.llm.ports import JUDGE, SpendingStore, Want
from flowcraft.llm.prices import PriceBook
from flowcraft.llm.registry import Found, Registry
from flowcraft.llm.rules import LimitRules, Models, Policies
from flowcraft.llm.scoring import Scorer
from flowcraft.llm.sharing.answers import AnswerBook
from flowcraft.llm.sharing.gates import Limiter
from flowcraft.llm.sharing.limits import pace
from flowcraft.llm.sharing.stores import MemorySpending
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.llm import LLM
from flowcraft.redaction import Redactor

ROLES_OF_JUDGES = ("duplicate", "reserve", "fallback")


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
    prices: PriceBook = field(default_factory=PriceBook)
    random: Random = field(default_factory=Random)
    redactor: Redactor = field(default_factory=Redactor)
    warn: Callable[[str], None] = lambda text: None
    judges: Judges = lambda name: None
    hedges: HedgeBudget = field(default_factory=HedgeBudget)
    spending: SpendingStore = field(default_factory=MemorySpending)
    limiter: Limiter = field(default_factory=Limiter)
    answers: AnswerBook = field(default_factory=AnswerBook)


def compose(spec: ChainSpec, shop: Workshop, mender: LLM | None = None) -> Chain:
    """Build the chain that ``spec`` describes.

    A model that comes up twice stands where it comes first; one whose provider is not configured stays in the chain as a
    skip that says why. ``mender`` mends answers that do not fit their schema, in place of the model that gave them.
    Raises SettingsError where a provider's settings are wrong.
    """
    links = _links(spec, shop, mender)
    escalation = _escalation(links, spec, shop, mender) if spec.policies.measures else None
    dear = escalation.links if escalation is not None else ()
    asked = tuple({link.info.id: link for link in (*dear, *links)}.values())
    llm = _around(_strategy(links, escalation, spec, shop), asked, spec, shop)
    doubts = _doubts(links, escalation, spec, shop)
    for doubt in doubts:
        shop.warn(doubt)
    return Chain(
        llm,
        links,
        deadline=spec.deadline,
        labels=spec.labels,
        params=spec.params,
        notes=(*spec.notes, *doubts),
        policies=spec.policies.written(),
    )


def cast(links: Sequence[Link], spec: ChainSpec, shop: Workshop) -> tuple[Sequence[Link], Sequence[Seat], Sequence[Link]]:
    """Return who else takes part in a chain's strategy: who may contest, who may judge, who answers instead of ``links``."""
    measures = spec.policies.measures
    escalation = _escalation(links, spec, shop, None) if measures else None
    instead = () if escalation is None else escalation.links
    contestants = _contestants(links) if spec.policies.strategy == "best_of_two" else ()
    if len(contestants) > 1:
        return contestants, _seats(spec, shop), instead
    return (), _scorers(spec, shop) if measures else (), instead


def _around(llm: LLM, links: Sequence[Link], spec: ChainSpec, shop: Workshop) -> LLM:
    """Put around a strategy what concerns whole answers: continuation, then the cache, outermost."""
    if spec.policies.continuation != "fail":
        warn = {"warn": shop.warn} if spec.policies.warn_streams else {}
        llm = Continuation(llm, _single(links, spec, shop), spec.policies.continuation, links, **warn)
    return _cached(llm, links, spec, shop)


def identity_of(links: Sequence[Link], spec: ChainSpec, shop: Workshop) -> str:
    """Return what tells a chain from others that may answer differently."""
    providers = {link.info.provider: shop.registry.config(link.info.provider) for link in links}
    written = {"policies": spec.policies.written(), "require": sorted(spec.require), "providers": providers}
    return fingerprint_of(links, written)


def _cached(llm: LLM, links: Sequence[Link], spec: ChainSpec, shop: Workshop) -> LLM:
    if not spec.policies.cache:
        return llm
    chain = identity_of(links, spec, shop)
    redactor = shop.redactor.with_secrets(shop.registry.secrets)
    return Cache(llm, shop.answers, chain, spec.policies.cache, redactor)


def _doubts(links: Sequence[Link], escalation: Escalation | None, spec: ChainSpec, shop: Workshop) -> tuple[str, ...]:
    """Return what of the policies these models cannot carry out."""
    if spec.policies.strategy == "cascade" and escalation is None:
        return ("strategy cascade has no expensive tier to turn to: it runs as single; set llm.expensive_model",)
    if spec.policies.measures and spec.policies.strategy != "best_of_two":
        return _doubts_of_judge(_seats(spec, shop), spec)
    if spec.policies.strategy == "best_of_two":
        return _doubts_of_two(links, spec, shop)
    if spec.policies.strategy == "hedge" and sum(link.llm is not None and not link.info.offline for link in links) < 2:
        return ("strategy hedge needs two models that can be asked: it runs as single",)
    return ()


def _doubts_of_two(links: Sequence[Link], spec: ChainSpec, shop: Workshop) -> tuple[str, ...]:
    pair = _contestants(links)[:2]
    if len(pair) < 2:
        return (
            "strategy best_of_two needs two models that can be asked, in other roles than reserve and fallback: "
            "it runs as single",
        )
    seats = _seats(spec, shop)
    told = [*_doubts_of_judge(seats, spec)]
    if not any(not seat.missing and seat.info.id not in {link.info.id for link in pair} for seat in seats):
        told.append(
            "nobody can judge in strategy best_of_two: of two answers the first contestant's stands; "
            "set llm.judge.model, or name a further model in duplicate or reserve"
        )
    return tuple(told)


def _doubts_of_judge(seats: Sequence[Seat], spec: ChainSpec) -> tuple[str, ...]:
    model = spec.policies.judge.model
    if not model or any(seat.named and not seat.missing for seat in seats):
        return ()
    why = next((seat.missing for seat in seats if seat.named), "the chain is confined to others")
    return (f"the judge {model!r} cannot be asked: {why}",)


def _strategy(links: Sequence[Link], escalation: Escalation | None, spec: ChainSpec, shop: Workshop) -> LLM:
    cascades = spec.policies.strategy == "cascade"
    if not spec.policies.measures or (cascades and escalation is None):
        return _answering(links, spec, shop)
    asked = [with_logprobs(link) for link in links]
    answering = _single(asked, spec, shop) if cascades else _answering(asked, spec, shop)
    return _cascade(answering, asked, escalation, spec, shop)


def _answering(links: Sequence[Link], spec: ChainSpec, shop: Workshop) -> LLM:
    """Return how one answer comes about, however sure it is."""
    if spec.policies.strategy == "best_of_two" and len(_contestants(links)) > 1:
        return _best_of_two(links, spec, shop)
    if spec.policies.strategy == "hedge":
        return _hedge(links, spec, shop)
    return _single(links, spec, shop)


def _hedge(links: Sequence[Link], spec: ChainSpec, shop: Workshop) -> Hedge:
    return Hedge(_lineup(links, spec, shop), shop.statistics, shop.hedges, spec.policies.hedge.max_share)


def _single(links: Sequence[Link], spec: ChainSpec, shop: Workshop) -> Fallback:
    return Fallback(links, shop.recorder, timeout=spec.timeout, order=_order(spec, shop), require=spec.require, warn=shop.warn)


def _lineup(links: Sequence[Link], spec: ChainSpec, shop: Workshop) -> Lineup:
    return Lineup(
        links=links,
        recorder=shop.recorder,
        timeout=spec.timeout,
        order=_order(spec, shop),
        require=spec.require,
        warn=shop.warn,
    )


def _contestants(links: Sequence[Link]) -> Sequence[Link]:
    return [link for link in links if contests(link) and link.llm is not None]


def _best_of_two(links: Sequence[Link], spec: ChainSpec, shop: Workshop) -> BestOfTwo:
    return BestOfTwo(
        _lineup(links, spec, shop),
        Jury(_seats(spec, shop), shop.recorder, timeout=spec.timeout),
        shop.statistics,
        adaptive=spec.policies.adaptive,
        random=shop.random,
        redactor=shop.redactor.with_secrets(shop.registry.secrets),
    )


def _seats(spec: ChainSpec, shop: Workshop) -> Sequence[Seat]:
    """Return who may judge two answers: a plugin's judge or the model that is named, then duplicates, reserve, fallback."""
    rules = spec.policies.judge
    judge = shop.judges(rules.model) if rules.model else None
    if judge is not None:
        return [Seat(name=judge.name, judge=judge, named=True)]
    named = shop.registry.find(rules.model).info.id if rules.model else ""
    models = [name for role in ROLES_OF_JUDGES for of, name in spec.models if of == role]
    asked = [rules.model, *models] if rules.model else models
    links = _links(replace(spec, models=tuple((JUDGE, name) for name in asked)), shop, None)
    return [
        Seat(name=link.info.id, judge=LLMJudge(link, rules.criteria), link=link, named=link.info.id == named) for link in links
    ]


def _scorers(spec: ChainSpec, shop: Workshop) -> Sequence[Seat]:
    """Return who may score an answer: those who judge two, but for a plugin's judge, who only compares."""
    judge = spec.policies.judge
    if judge.model and shop.judges(judge.model) is not None:
        spec = replace(spec, policies=replace(spec.policies, judge=replace(judge, model=None)))
    return _seats(spec, shop)


def _cascade(cheap: LLM, links: Sequence[Link], escalation: Escalation | None, spec: ChainSpec, shop: Workshop) -> Cascade:
    rules = spec.policies.cascade
    scorer = Scorer(_scorers(spec, shop), links, shop.recorder, criteria=spec.policies.judge.criteria, timeout=spec.timeout)
    gauge = Gauge(_single(links, spec, shop), scorer, links, shop.recorder)
    key: Literal["strategy", "confidence"] = "strategy" if spec.policies.strategy == "cascade" else "confidence"
    return Cascade(
        cheap,
        gauge,
        shop.recorder,
        threshold=rules.threshold,
        tries=rules.tries,
        escalation=escalation,
        key=key,
    )


def _escalation(links: Sequence[Link], spec: ChainSpec, shop: Workshop, mender: LLM | None) -> Escalation | None:
    """Return who answers instead of ``links``; None where nobody does, or the same model would. Never a made-up answer."""
    links_of_tier = _links(replace(spec, models=spec.policies.cascade.escalation), shop, mender)
    dear = [link for link in links_of_tier if not link.info.offline]
    first, instead = _first(links), _first(dear)
    if instead is None or (first is not None and first.info.id == instead.info.id):
        return None
    return Escalation(llm=_single(dear, spec, shop), links=dear)


def _first(links: Sequence[Link]) -> Link | None:
    return next((link for link in links if link.llm is not None and not link.info.offline), None)


def _order(spec: ChainSpec, shop: Workshop) -> Order | None:
    orders: dict[str, Order] = {
        "fastest": fastest(shop.statistics, shop.random),
        "cheapest": cheapest,
        "best": best(shop.statistics),
    }
    return orders.get(spec.policies.order)


def _links(spec: ChainSpec, shop: Workshop, mender: LLM | None) -> Sequence[Link]:
    links: dict[str, Link] = {}
    for role, name in spec.models:
        found = shop.registry.find(name)
        id = found.info.id
        if id not in links and _allowed(spec, found, name):
            links[id] = _link(found, role, name, spec, shop, mender)
    return tuple(links.values())


def _allowed(spec: ChainSpec, found: Found, name: str) -> bool:
    return spec.allow is None or bool(spec.allow & {name, found.info.id, found.info.model, found.info.provider})


def _link(found: Found, role: str, name: str, spec: ChainSpec, shop: Workshop, mender: LLM | None) -> Link:
    info, source = found.info, found.source
    if source is None:
        return Link(llm=None, info=info, role=role, skip=found.skip)
    if spec.policies.order == "cheapest":
        info = shop.prices.priced(info)
    timeouts = source.section.timeouts
    limits = CallLimits(timeout=spec.timeout, first_token=timeouts.first_token, idle=timeouts.idle)
    health = shop.health.of(info.id)
    redactor = shop.redactor if source.secrets <= shop.redactor.secrets else shop.redactor.with_secrets(source.secrets)
    llm: LLM = ProviderLLM(source, info, limits, redactor, shop.prices)
    llm = Recording(llm, info, role, shop.recorder, shop.prices)
    if not info.offline:
        llm = Budget(llm, info, Teller(spec.policies.budget, shop.spending, shop.prices, shop.recorder.clock, shop.warn))
    llm = Breaker(llm, health)
    if wants := _wants(info, name, spec, shop):
        llm = RateLimit(llm, info, shop.limiter.gate(wants))
    llm = Retry(llm, info, health, spec.retries)
    llm = Structured(llm, info, spec.mode, spec.repair, most_calls(spec.retries), mender, redactor)
    if spec.policies.continuation == "continue":
        llm = GoingOn(llm, info)
    return Link(llm=llm, info=info, role=role, health=health)


def _wants(info: ModelInfo, name: str, spec: ChainSpec, shop: Workshop) -> tuple[Want, ...]:
    """Return the limits of a model that the chain calls ``name``: its own, and those of all models of its provider.

    Where several names of it are limited, the least of each holds.
    """
    names = {info.id, info.model, name, shop.registry.meant(name)} if not info.offline else set()
    found: dict[str, LimitRules] = {}
    for limited, rules in spec.policies.limits.items():
        of_provider = limited == info.provider and not info.offline
        if of_provider or limited in names or shop.registry.meant(limited) in names:
            whose = info.provider if of_provider else info.id
            found[whose] = rules.least(found.get(whose, rules))
    return tuple(
        Want(
            name=whose,
            requests=pace(rules.requests_per_minute),
            tokens=pace(rules.tokens_per_minute),
            concurrent=rules.concurrent,
        )
        for whose, rules in found.items()
    )
