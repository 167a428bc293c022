"""From settings and the wishes of a caller to the data that a chain is composed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypedDict, get_args

from flowcraft.errors import SettingsError
from flowcraft.llm.rules import (
    AdaptiveRules,
    BudgetRules,
    CascadeRules,
    ContinuationMode,
    HedgeRules,
    JudgeRules,
    LimitRules,
    Models,
    OrderName,
    Policies,
    StrategyName,
)
from flowcraft.plugin.capabilities import CAPABILITY_NAMES
from flowcraft.settings import Settings, Tier
from flowcraft.source import did_you_mean, parse_duration

STRATEGIES: tuple[str, ...] = get_args(StrategyName)
ORDERS: tuple[str, ...] = get_args(OrderName)
CONTINUATIONS: tuple[str, ...] = get_args(ContinuationMode)

TRIES = 2
"""How often an answer is asked for whose confidence is not enough, before others are asked."""


class Options(TypedDict, total=False):
    """What a caller may say of a chain besides its tier, stage and task; all else comes from the tier and from settings.

    ``judge`` holds ``model`` and ``criteria``; ``confidence`` is the least confidence of an answer (0 to 1); ``cache`` is a
    duration, 0 for none; ``continuation`` is what becomes of a stream that was cut. A ``confined``
    chain asks no model but its own: it does not escalate, and nobody else judges. With ``tools`` it neither lets two models
    answer nor asks again for lack of confidence, whatever the tier and settings say: a call of a tool is made once.
    """

    strategy: str | None
    order: str | None
    judge: Mapping[str, str | None] | None
    confidence: float | None
    cache: str | float | None
    continuation: str | None
    require: Iterable[str]
    allow: Iterable[str] | None
    confined: bool
    tools: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One kind of chain that somebody asked for; chains are kept by it."""

    name: str | None = None
    stage: str | None = None
    task: str | None = None
    strategy: str | None = None
    order: str | None = None
    judge: JudgeRules | None = None
    confidence: float | None = None
    cache: float | None = None
    continuation: str | None = None
    require: frozenset[str] = frozenset()
    allow: frozenset[str] | None = None
    confined: bool = False
    tools: bool = False

    @classmethod
    def of(cls, name: str | None, stage: str | None, task: str | None, options: Options) -> Wish:
        """Return the wish that a call's arguments make. Raises SettingsError for what nobody knows."""
        unknown = sorted(set(options) - Options.__annotations__.keys())
        if unknown:
            raise TypeError(f"there is no option {unknown[0]!r}; a chain takes: {', '.join(Options.__annotations__)}")
        allow = options.get("allow")
        return cls(
            name=name,
            stage=stage,
            task=task,
            strategy=_known("strategy", options.get("strategy"), STRATEGIES),
            order=_known("order", options.get("order"), ORDERS),
            judge=_judge(options.get("judge")),
            confidence=_share(options.get("confidence")),
            cache=_seconds(options.get("cache")),
            continuation=_known("continuation", options.get("continuation"), CONTINUATIONS),
            require=_capabilities(options.get("require", ())),
            allow=None if allow is None else frozenset(allow),
            confined=bool(options.get("confined")),
            tools=bool(options.get("tools")),
        )


def policies_of(settings: Settings, tier: Tier | None, wish: Wish, escalation: Models) -> Policies:
    """Return the policies of a chain: what the caller wishes, else what its tier says, else what settings say."""
    llm = settings.llm
    tier = tier or Tier()
    judges = [rules for rules in (wish.judge, _judge_rules(tier.judge), _judge_rules(llm.judge)) if rules is not None]
    confidence = wish.confidence if wish.confidence is not None else tier.confidence
    cache = wish.cache if wish.cache is not None else llm.cache
    threshold = confidence if confidence is not None else llm.cascade.threshold
    # Each part is the narrowest one's: a stage's rubric leaves the judge of its tier in office.
    criteria = next((judge.criteria for judge in judges if judge.criteria), "")
    model = next((judge.model for judge in judges if judge.model), None)
    named = None if wish.confined else _judge_of(settings, model)
    strategy = wish.strategy or tier.strategy or llm.strategy
    if (strategy == "cascade" and wish.confined) or (strategy == "best_of_two" and wish.tools):
        strategy = "single"
    if wish.tools:
        confidence = None
    # A cascade asks its cheap models once; elsewhere an answer that is not sure enough is asked for once more.
    tries = 1 if strategy == "cascade" else TRIES
    return Policies(
        strategy=strategy,  # type: ignore[arg-type]  # Wish.of has looked at it
        order=wish.order or tier.order or llm.order,  # type: ignore[arg-type]  # Wish.of has looked at it
        judge=JudgeRules(model=named, criteria=criteria),
        adaptive=AdaptiveRules(level=llm.adaptive.level, explore=llm.adaptive.explore),
        cascade=CascadeRules(threshold=threshold, tries=tries, escalation=escalation),
        hedge=HedgeRules(max_share=llm.hedge.max_share),
        confidence=confidence,
        continuation=wish.continuation or tier.continuation or llm.continuation,  # type: ignore[arg-type]  # as above
        warn_streams=llm.warn_streams,
        cache=cache or None,
        budget=BudgetRules(**{item.name: getattr(llm.budget, item.name) for item in fields(BudgetRules)}),
        limits={name: LimitRules(**limit.model_dump()) for name, limit in llm.limits.items()},
    )


def _judge_of(settings: Settings, name: str | None) -> str | None:
    """Return the model that judges: of a tier the first, of an alias its model; a plugin's judge keeps its name."""
    if name is None:
        return None
    choice = settings.chain_for(model=name)
    return next((model for role, names in choice.roles if role != "offline" for model in names), name)


def _judge_rules(section: Any) -> JudgeRules | None:
    return None if section is None else JudgeRules(model=section.model, criteria=section.criteria or "")


def _known(what: str, word: str | None, words: tuple[str, ...]) -> str | None:
    if word is None or word in words:
        return word
    raise SettingsError(f"there is no {what} {word!r} (known: {', '.join(words)}){_or_meant(word, words)}")


def _capabilities(names: Iterable[str]) -> frozenset[str]:
    wanted = frozenset([names] if isinstance(names, str) else names)
    unknown = sorted(wanted - set(CAPABILITY_NAMES))
    if unknown:
        raise SettingsError(f"there is no capability {unknown[0]!r}{_or_meant(unknown[0], CAPABILITY_NAMES)}")
    return wanted


def _judge(given: Mapping[str, Any] | None) -> JudgeRules | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise SettingsError(f"a judge is a mapping of 'model' and 'criteria', not {given!r}")
    unknown = sorted(set(given) - {"model", "criteria"})
    if unknown:
        raise SettingsError(f"a judge has 'model' and 'criteria', not {unknown[0]!r}")
    if wrong := [name for name, value in given.items() if not isinstance(value, str | None)]:
        raise SettingsError(f"a judge's {wrong[0]!r} is text, not {given[wrong[0]]!r}")
    return JudgeRules(model=given.get("model"), criteria=given.get("criteria") or "")


def _share(value: Any) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1):
        return value
    raise SettingsError(f"a confidence is a number from 0 to 1, not {value!r}")


def _seconds(value: str | float | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = parse_duration(value) if isinstance(value, str) else float(value)
    except ValueError as error:
        raise SettingsError(f"{value!r} is no duration: {error}") from None
    if seconds < 0:
        raise SettingsError(f"a duration is not below 0: {value!r}")
    return seconds


def _or_meant(word: str, words: Iterable[str]) -> str:
    hint = did_you_mean(word, words)
    return f"; {hint}" if hint else ""
