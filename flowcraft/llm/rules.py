"""What policies go by, as data: a chain is composed from these, and from nothing else. Times are in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Models = tuple[tuple[str, str], ...]
"""Pairs of role and name, in order."""

StrategyName = Literal["single", "best_of_two", "cascade", "hedge"]
OrderName = Literal["listed", "fastest", "cheapest", "best"]
ContinuationMode = Literal["restart", "continue", "keep", "unstreamed", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRules:
    """Who decides between two answers, and by what. Without ``model`` the judge comes from the chain's own roles.

    ``model`` is a model's name, or that of a plugin's judge.
    """

    model: str | None = None
    criteria: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveRules:
    """When best of two stops asking a contestant: the significance level of the test, and the share that asks it still.

    With ``level`` 0 or ``explore`` 1 both are always asked.
    """

    level: float = 0.05
    explore: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeRules:
    """When a cheap answer stands: its least confidence, how often it is asked for, and who answers otherwise."""

    threshold: float = 0.8
    tries: int = 1
    escalation: Models = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeRules:
    """The most calls, as a share of all, that may start before the one in front of them has failed."""

    max_share: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRules:
    """How much may be spent in a run, in a day (UTC), and in a day by one key. None: as much as is wanted."""

    usd_per_run: float | None = None
    tokens_per_run: int | None = None
    calls_per_run: int | None = None
    usd_per_day: float | None = None
    tokens_per_day: int | None = None
    calls_per_day: int | None = None
    usd_per_key: float | None = None
    tokens_per_key: int | None = None
    calls_per_key: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRules:
    """How much one model may be asked."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None

    def least(self, other: LimitRules) -> LimitRules:
        """Return the smaller one of each limit."""
        both = {name: (getattr(self, name), getattr(other, name)) for name in self.__slots__}
        return LimitRules(**{name: min((one for one in pair if one is not None), default=None) for name, pair in both.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """Everything about a chain but its models: which strategy, and what each policy goes by.

    ``confidence`` is the least confidence of an answer, whatever the strategy; ``limits`` are by model (id, name or alias);
    ``cache`` is for how long equal requests get the same answer, None: never.
    """

    strategy: StrategyName = "single"
    order: OrderName = "listed"
    judge: JudgeRules = field(default_factory=JudgeRules)
    adaptive: AdaptiveRules = field(default_factory=AdaptiveRules)
    cascade: CascadeRules = field(default_factory=CascadeRules)
    hedge: HedgeRules = field(default_factory=HedgeRules)
    confidence: float | None = None
    continuation: ContinuationMode = "restart"
    warn_streams: bool = True
    cache: float | None = None
    budget: BudgetRules = field(default_factory=BudgetRules)
    limits: Mapping[str, LimitRules] = field(default_factory=dict)

    def written(self) -> dict[str, Any]:
        """Return what of these changes answers, JSON-like: not how they come about in time or at what cost."""
        told: dict[str, Any] = {"strategy": self.strategy}
        if self.strategy == "best_of_two" or self.measures:
            told["judge"] = {"model": self.judge.model, "criteria": self.judge.criteria}
        if self.measures:
            told["confidence"] = {"least": self.cascade.threshold, "tries": self.cascade.tries}
            told["escalation"] = [list(pair) for pair in self.cascade.escalation]
        return told

    @property
    def measures(self) -> bool:
        """Whether the confidence of answers is measured."""
        return self.strategy == "cascade" or self.confidence is not None
