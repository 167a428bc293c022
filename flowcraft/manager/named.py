"""Every model that settings configure, once each, whatever they call it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from flowcraft.llm.model import FIRST_LISTED
from flowcraft.llm.registry import Registry
from flowcraft.manager.chains import pairs
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.settings import Settings, tier_names

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModel:
    """A model as settings name it, the roles and tiers that it stands in, and why it cannot be asked, if so."""

    name: str
    info: ModelInfo
    roles: tuple[str, ...] = ()
    skip: str = ""


def named_models(settings: Settings, registry: Registry, registered: Iterable[str]) -> list[NamedModel]:
    """Return what roles, tiers and sections name, in that order; a provider that none of them names has its default model.

    Models that only a plugin's preset lists are not among them, nor is ``offline``.
    """
    found = _each_once(registry, [*_of_chains(settings), *_of_sections(settings)])
    taken = {model.info.provider for model in found}
    providers = [*registered, *settings.providers, *settings.configured_providers()]
    spare = [("", name) for name in dict.fromkeys(providers) if name not in taken]
    return _merged([*found, *_each_once(registry, spare)])


def models_called(settings: Settings, registry: Registry, names: Iterable[str]) -> list[NamedModel]:
    """Return the models behind some names of tiers, aliases and models."""
    tiers = tier_names(settings)
    called = [pair for name in names for pair in (pairs(settings.chain_for(model=name)) if name in tiers else [("", name)])]
    return _each_once(registry, called)


def _of_chains(settings: Settings) -> list[tuple[str, str]]:
    llm = settings.llm
    dear = [("expensive", llm.expensive_model)] if llm.expensive_model else []
    default = [("default", llm.default_model)] if llm.default_model else []
    tiers = [(tier, name) for tier in llm.tiers for _, name in pairs(settings.chain_for(model=tier))]
    repair = llm.structured.repair_model
    mender = [("repair", repair)] if repair and repair not in tier_names(settings) else []
    roles = [(role, name) for role, names in llm.model_roles.listed() for name in names]
    aliases = [("", name) for name in llm.aliases.values()]
    return [*pairs(settings.chain_for(model="default")), *roles, *dear, *default, *tiers, *mender, *aliases]


def _of_sections(settings: Settings) -> list[tuple[str, str]]:
    return [("", f"{name}:{model}") for name, section in settings.providers.items() for model in section.models]


def _each_once(registry: Registry, called: Pairs) -> list[NamedModel]:
    return _merged(_found(registry, role, name) for role, name in called)


def _merged(models: Iterable[NamedModel]) -> list[NamedModel]:
    merged: dict[str, NamedModel] = {}
    for model in models:
        if model.info.offline:
            continue
        known = merged.get(model.info.id)
        if known is None:
            merged[model.info.id] = model
        else:
            merged[model.info.id] = replace(known, roles=tuple(dict.fromkeys([*known.roles, *model.roles])))
    return list(merged.values())


def _found(registry: Registry, role: str, name: str) -> NamedModel:
    found = registry.find(name)
    model = found.info.model
    if found.source is not None and model != FIRST_LISTED and registry.find(model).info.id == found.info.id:
        name = model  # the plain id means the same
    return NamedModel(name=name, info=found.info, roles=(role,) if role else (), skip=found.skip)
