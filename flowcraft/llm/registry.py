"""Which providers there are, which models they have, and what is known of each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr, ValidationError

from flowcraft.errors import FlowCraftError, PluginError, Problem, SettingsError
from flowcraft.llm.model import FIRST_LISTED
from flowcraft.llm.prices import Market
from flowcraft.plugin.capabilities import Capabilities, ModelInfo, Price
from flowcraft.plugin.hooks import Preset
from flowcraft.plugin.provider import Provider, Timeouts

ADDRESS = "base_url"
KEY = "api_key"
"""The keys under which a provider's config holds the address of its server, and what that wants to see."""

Explain = Callable[[str, ValidationError, type[BaseModel]], Sequence[Problem]]
"""Says what of a section is wrong, each thing at its place, by what its provider's config found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSection:
    """One provider as settings and environment describe it.

    ``missing`` says what keeps it from being configured. Keys of ``config`` that are ``loose`` are left out where the plugin
    does not know them. One that nobody ``declared`` was found by its key in the environment: if that is wrong, the provider
    cannot be used, and nothing else suffers.
    """

    name: str
    type: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    timeouts: Timeouts = field(default_factory=Timeouts)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    default_model: str = ""
    missing: str = ""
    loose: frozenset[str] = frozenset()
    declared: bool = True


class Catalog(Protocol):
    """What plugins offer. Raises PluginError where the plugin in question is broken or denied."""

    def provider(self, name: str) -> Preset | None:
        """Return the provider type or preset ``name``."""
        ...

    def provider_class(self, name: str) -> type[Provider]:
        """Return the class behind it."""
        ...

    def models(self, provider: str, config: Mapping[str, Any]) -> Sequence[ModelInfo]:
        """Return what plugins know of its models."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A model by its name: what is known of it, and its provider, or the reason why there is none."""

    info: ModelInfo
    source: Source | None = None
    skip: str = ""


class Source:
    """One provider of settings: made when it is first called, and kept."""

    def __init__(self, section: ProviderSection, cls: type[Provider], preset: Preset, known: Sequence[ModelInfo]) -> None:
        self.section = section
        self.cls = cls
        self.made: Provider | None = None
        self.presets = {info.model: info for info in known}
        unknown = section.loose - cls.Config.model_fields.keys()
        given = {key: value for key, value in section.config.items() if key not in unknown}
        self._config = cls.Config.model_validate({**preset.config, **given})
        # What another server has is not known: its default is what its section lists first, else what it lists itself.
        at_home = _at_home(preset, cls, given)
        preset_model = preset.default_model if at_home else ""
        self.market = Market(
            address=str(getattr(self._config, ADDRESS, None) or ""), price_id=preset.price_id if at_home else ""
        )
        self.default_model = section.default_model or next(iter(section.models), "") or preset_model
        self._lock = threading.Lock()

    def get(self) -> Provider:
        """Return the provider; raises PluginError if its plugin cannot make it."""
        with self._lock:
            if self.made is None:
                self.made = self._make()
            return self.made

    def _make(self) -> Provider:
        name = self.section.name
        try:
            return self.cls(self._config, section=name, timeouts=self.section.timeouts)
        except FlowCraftError:
            raise
        except Exception as error:
            raise PluginError(f"provider {name!r} cannot be made: {type(error).__name__}: {error}") from error

    @property
    def config(self) -> dict[str, Any]:
        """The provider's settings: where its server is and what else may change its answers, but no key."""
        return self._config.model_dump(exclude={KEY})

    @property
    def secrets(self) -> frozenset[str]:
        """The keys that the provider was given, wherever they came from."""
        held = (value.get_secret_value() for value in dict(self._config).values() if isinstance(value, SecretStr))
        return frozenset(secret for secret in (str(self.section.config.get(KEY) or ""), *held) if secret)

    def lists(self, model: str) -> bool:
        """Say whether settings or the preset name ``model``."""
        return model in self.section.models or model in self.presets

    def info(self, model: str) -> ModelInfo:
        """Return what is known of ``model``: settings before preset before provider."""
        preset = self.presets.get(model)
        base = ModelInfo(model=model, provider=self.section.name) if preset is None else preset
        merged = _Facts(self.section.models.get(model, {}))
        capabilities = merged.capabilities().over(base.capabilities).over(self.cls.capabilities)
        return replace(
            base,
            provider=self.section.name,
            capabilities=capabilities,
            offline=self.cls.offline,
            sources=merged.sources(base, self.cls.capabilities),
            **merged.plain(),
        )


def _at_home(preset: Preset, cls: type[Provider], given: Mapping[str, Any]) -> bool:
    """Say whether a section leaves its provider at the preset's own address."""
    field = cls.Config.model_fields.get(ADDRESS)
    home = preset.config.get(ADDRESS) or (field.default if field is not None else None)
    return not given.get(ADDRESS) or urlsplit(str(given[ADDRESS])).netloc == urlsplit(str(home)).netloc


def _told(section: str, error: ValidationError, config: type[BaseModel]) -> Sequence[Problem]:
    """Say what is wrong where nobody knows in which file the section stands."""
    return [
        Problem(message=f"{'.'.join(map(str, ('providers', section, *item['loc'])))}: {item['msg']}")
        for item in error.errors(include_input=False, include_url=False)
    ]


class Registry:
    """Finds models by name among providers.

    A name is an alias, ``provider:id``, an id that settings or a preset list, or the name of a provider, which means its
    default model. An id that nobody lists belongs to ``default_provider``. ``unlisted`` is asked for providers that have no
    section, such as presets; ``environ`` for the keys of presets.
    """

    def __init__(
        self,
        sections: Sequence[ProviderSection],
        catalog: Catalog,
        *,
        aliases: Mapping[str, str] | None = None,
        default_provider: str = "",
        explain: Explain = _told,
        environ: Mapping[str, str] | None = None,
        unlisted: Callable[[str], ProviderSection | None] = lambda name: None,
    ) -> None:
        self._sections = {section.name: section for section in sections}
        self._catalog = catalog
        self._aliases = dict(aliases or {})
        self._default = default_provider
        self._explain = explain
        self._environ = environ or {}
        self._unlisted = unlisted
        self._sources: dict[str, Source] = {}
        self._lock = threading.RLock()

    @property
    def sections(self) -> tuple[ProviderSection, ...]:
        """All providers, configured or only declared."""
        return tuple(self._sections.values())

    def add(self, section: ProviderSection) -> None:
        """Add a provider, or put another in the place of one."""
        with self._lock:
            self._sections[section.name] = section
            self._sources.pop(section.name, None)

    def meant(self, name: str) -> str:
        """Return the model that the alias ``name`` stands for; what is no alias stands for itself."""
        return self._aliases.get(name, name)

    def find(self, name: str) -> Found:
        """Return the model ``name``; raises SettingsError where its provider's settings are wrong."""
        name = self._aliases.get(name, name)
        section, model = self._place(name)
        if section is None:
            hint = "write provider:model, list it under a provider's models, or set llm.default_provider"
            if self._default:
                hint = f"llm.default_provider is {self._default!r}, which is neither a section nor a provider of a plugin"
            return Found(info=ModelInfo(model=name), skip=f"no configured provider has this model; {hint}")
        unknown = ModelInfo(model=model or section.default_model or name, provider=section.name)
        if section.missing:
            return Found(info=unknown, skip=section.missing)
        try:
            source = self.source(section.name)
        except PluginError as error:
            return Found(info=unknown, skip=error.message)
        return Found(info=source.info(model or source.default_model or FIRST_LISTED), source=source)

    def source(self, name: str) -> Source:
        """Return the provider ``name``, not made yet. Raises PluginError or SettingsError."""
        with self._lock:
            if name not in self._sources:
                self._sources[name] = self._open(self._sections[name])
            return self._sources[name]

    def market(self, name: str) -> Market:
        """Return where the models of the provider ``name`` are sold; empty where that provider cannot be used."""
        try:
            return self.source(name).market
        except (KeyError, PluginError, SettingsError):
            return Market()

    def config(self, name: str) -> dict[str, Any]:
        """Return the settings of the provider ``name`` without its key; empty where that provider cannot be used."""
        try:
            return self.source(name).config
        except (KeyError, PluginError, SettingsError):
            return {}

    def infos(self) -> list[ModelInfo]:
        """Return all models that settings and presets list, of providers that can be used."""
        found: list[ModelInfo] = []
        for source in self._usable():
            names = dict.fromkeys([*source.section.models, *source.presets])
            found += [source.info(model) for model in names]
        return found

    @property
    def secrets(self) -> frozenset[str]:
        """The keys of all providers that were looked at so far."""
        with self._lock:
            return frozenset(secret for source in self._sources.values() for secret in source.secrets)

    def made(self) -> list[Provider]:
        """Return the providers that were made."""
        with self._lock:
            return [source.made for source in self._sources.values() if source.made is not None]

    def _open(self, section: ProviderSection) -> Source:
        kind = section.type or section.name
        preset = self._catalog.provider(kind)
        if preset is None:
            raise PluginError(f"no installed plugin offers the provider {kind!r}, which providers.{section.name} wants")
        cls = self._catalog.provider_class(kind)
        section = self._with_key(section, preset, cls)
        config = {**preset.config, **section.config}
        try:
            return Source(section, cls, preset, self._catalog.models(kind, config))
        except ValidationError as error:
            problems = self._explain(section.name, error, cls.Config)
        if not section.declared:
            raise PluginError("; ".join(str(problem) for problem in problems))
        raise SettingsError(problems=problems)

    def _with_key(self, section: ProviderSection, preset: Preset, cls: type[Provider]) -> ProviderSection:
        """Return ``section`` with the key of its preset from the environment, if it lacks one that it may have.

        A vendor's key never goes to another server: a section with an address and a name of its own needs its own key.
        """
        key = self._environ.get(preset.key_env) if preset.key_env else None
        renamed = section.type not in ("", section.name)
        elsewhere = renamed and not _at_home(preset, cls, section.config)
        if not key or KEY in section.config or KEY not in cls.Config.model_fields or elsewhere:
            return section
        return replace(section, config={**section.config, KEY: key})

    def _place(self, name: str) -> tuple[ProviderSection | None, str]:
        """Return the section that ``name`` belongs to, and the model's id; the id is empty for a section's default model."""
        if section := self._sections.get(name):
            return section, ""
        # What somebody listed is meant, even where a preset that nobody configured has such a name (``qwen:7b``).
        if listing := next((section for section in self._sections.values() if name in section.models), None):
            return listing, name
        if section := self._section(name):
            return section, ""
        before, colon, model = name.partition(":")
        if colon and (section := self._section(before)):
            return section, model
        listing = next((source.section for source in self._usable() if source.lists(name)), None)
        return listing or self._section(self._default), name

    def _section(self, name: str) -> ProviderSection | None:
        section = self._sections.get(name)
        if section is None and name and (section := self._unlisted(name)):
            self.add(section)
        return section

    def _usable(self) -> list[Source]:
        found = []
        for section in list(self._sections.values()):
            if not section.missing:
                try:
                    found.append(self.source(section.name))
                except PluginError:
                    continue
        return found


class _Facts:
    """What settings say of one model."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = facts

    def capabilities(self) -> Capabilities:
        return Capabilities(**self._facts.get("capabilities", {}))

    def plain(self) -> dict[str, Any]:
        named = ("context", "max_output", "top_logprobs_max", "family")
        found = {name: self._facts[name] for name in named if self._facts.get(name) is not None}
        if self._facts.get("price") is not None:
            found["price"] = Price(**self._facts["price"])
        return found

    def sources(self, preset: ModelInfo, provider: Capabilities) -> dict[str, str]:
        found: dict[str, str] = {}
        told = {"provider": provider, "preset": preset.capabilities, "settings": self.capabilities()}
        for origin, capabilities in told.items():
            found |= {name: origin for name in Capabilities.__slots__ if getattr(capabilities, name) is not None}
        plain = ("context", "max_output", "top_logprobs_max", "price", "family")
        found |= {name: "preset" for name in plain if getattr(preset, name)}
        return found | dict.fromkeys(self.plain(), "settings")
