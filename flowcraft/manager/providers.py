"""Which providers settings and environment configure, as the registry takes them."""

from __future__ import annotations

from flowcraft.discovery import Plugins
from flowcraft.discovery.metadata import PROVIDERS
from flowcraft.errors import PluginError, SettingsError
from flowcraft.llm.registry import ProviderSection, Registry
from flowcraft.plugin.capabilities import CAPABILITY_NAMES
from flowcraft.plugin.provider import Timeouts
from flowcraft.settings import PRESET_KEYS, ProviderSettings, Settings
from flowcraft.source import did_you_mean


def registry_of(settings: Settings, plugins: Plugins) -> Registry:
    """Return the registry of all sections, of presets whose key is set, and of what plugins offer besides."""
    configured = settings.configured_providers()
    return Registry(
        [section_of(settings, name) for name in dict.fromkeys([*settings.providers, *configured])],
        plugins,
        aliases=settings.llm.aliases,
        default_provider=settings.llm.default_provider or next(iter([*configured, *settings.providers]), ""),
        explain=settings.provider_problems,
        environ=settings.environment,
        unlisted=lambda name: _unlisted(settings, plugins, name),
    )


def section_of(settings: Settings, name: str) -> ProviderSection:
    """Return the provider ``name`` as settings and environment describe it. Raises SettingsError for unknown capabilities."""
    given = settings.providers.get(name) or ProviderSettings()
    key = settings.key(name)
    _check_capabilities(settings, name, given)
    return ProviderSection(
        name=name,
        type=given.type or name,
        config={**given.config, **({"api_key": key} if key else {})},
        timeouts=Timeouts(**given.timeouts.model_dump()),
        models={model: facts.model_dump(exclude_none=True) for model, facts in given.models.items()},
        missing=settings.unconfigured(name),
        loose=settings.loose_keys(name),
        declared=name in settings.providers,
    )


def _check_capabilities(settings: Settings, name: str, given: ProviderSettings) -> None:
    problems = [
        settings.problem_at(
            ("providers", name, "models", model, "capabilities", capability),
            f"there is no capability {capability!r}",
            did_you_mean(capability, CAPABILITY_NAMES),
            key=True,
        )
        for model, facts in given.models.items()
        for capability in facts.capabilities
        if capability not in CAPABILITY_NAMES
    ]
    if problems:
        raise SettingsError(problems=problems)


def _unlisted(settings: Settings, plugins: Plugins, name: str) -> ProviderSection | None:
    keys = dict(PRESET_KEYS)
    offered = name in plugins.provider_names() or any(
        state.name == name and state.group == PROVIDERS for state in plugins.states()
    )
    if not offered:
        absent = f"no installed plugin offers the provider {name!r}"
        return ProviderSection(name=name, missing=absent) if name in keys else None
    try:
        preset = plugins.provider(name)
    except PluginError as error:
        return ProviderSection(name=name, missing=error.message)
    variable = (preset.key_env if preset is not None else "") or keys.get(name, "")
    if not variable:
        return ProviderSection(name=name)
    key = settings.environment.get(variable)
    if not key:
        return ProviderSection(name=name, missing=f"{variable} is not set")
    return ProviderSection(name=name, config={"api_key": key}, declared=False)
