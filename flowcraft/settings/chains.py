"""Which models answer: from a stage's model, tier or name to roles of models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowcraft.settings.models import TIERS

if TYPE_CHECKING:
    from flowcraft.settings.page import Settings

OFFLINE = "offline"

RoleModels = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A chain as settings name it: roles in order, each with the names of its models.

    A name is a model's id, ``provider:id``, or a provider's name, which means its default model. ``tier`` is empty for a chain
    of one model.
    """

    tier: str
    roles: RoleModels

    @property
    def names(self) -> tuple[str, ...]:
        """All names in order."""
        return tuple(name for _, names in self.roles for name in names)


def tier_names(settings: Settings) -> frozenset[str]:
    """Return the names of all tiers."""
    return frozenset([*TIERS, *settings.llm.tiers])


def choose(settings: Settings, *, model: str | None, stage: str | None, defaults_model: str | None) -> Choice:
    """Return the chain of a stage: its own model, else ``expensive_stages``, else the file's, else the default tier."""
    name = model
    if not name and stage is not None and stage in settings.llm.expensive_stages:
        name = "expensive"
    choice = _named(settings, name or defaults_model or "default")
    roles = choice.roles
    if settings.offline_allowed:
        roles = (*roles, (OFFLINE, (OFFLINE,)))
    return Choice(tier=choice.tier, roles=_each_once(settings, roles))


def _named(settings: Settings, name: str) -> Choice:
    llm = settings.llm
    if name in llm.tiers:
        return Choice(tier=name, roles=llm.tiers[name].listed())
    if name == "expensive" and llm.expensive_model:
        roles = (("expensive", (llm.expensive_model,)), *llm.model_roles.listed(), *_default_roles(settings))
        return Choice(tier=name, roles=roles)
    if name in TIERS:
        return Choice(tier=settings.default_tier if name == "default" else name, roles=_default_roles(settings))
    return Choice(tier="", roles=(("model", (name,)),))


def _default_roles(settings: Settings) -> RoleModels:
    llm = settings.llm
    listed = llm.model_roles.listed()
    if llm.cheap_model:
        return (("cheap", (llm.cheap_model,)), *listed)
    if listed:
        return listed
    if llm.default_model:
        return (("default", (llm.default_model,)),)
    configured = settings.configured_providers()
    return (("default", configured[:1]),) if configured else ()


def _each_once(settings: Settings, roles: Iterable[tuple[str, tuple[str, ...]]]) -> RoleModels:
    seen: set[str] = set()
    found: list[tuple[str, tuple[str, ...]]] = []
    for role, names in roles:
        fresh = [name for name in dict.fromkeys(settings.llm.aliases.get(name, name) for name in names) if name not in seen]
        seen.update(fresh)
        if fresh:
            found.append((role, tuple(fresh)))
    return tuple(found)
