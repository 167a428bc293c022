"""``Settings``: the whole page, frozen."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from flowcraft.errors import Problem, SettingsError
from flowcraft.redaction import SHORTEST, Redactor
from flowcraft.settings.chains import Choice, choose
from flowcraft.settings.environment import DEFAULT, PRESET_KEYS
from flowcraft.settings.models import (
    Agents,
    LLMSettings,
    Log,
    Masked,
    Memory,
    PluginSettings,
    ProviderSettings,
    Service,
    Tracing,
)
from flowcraft.settings.origins import Path, dotted, leaves, secrets_in
from flowcraft.settings.problems import problems_of
from flowcraft.settings.sources import Sources, argument_layer, combine
from flowcraft.source import did_you_mean

if TYPE_CHECKING:
    from flowcraft.settings.explain import Entry


def _sections(value: Any) -> Any:
    return {} if value is None else value


class Settings(Masked):
    """What FlowCraft works by. Made by ``load_settings``, or directly: ``Settings(llm={"timeout": 30})``.

    Made directly, it reads of the environment only the keys of presets and what values mention as ``${NAME}``. Raises
    SettingsError with everything that is wrong.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    storage: str = Field("sqlite:///flowcraft.db", description="the database: SQLite or PostgreSQL, as SQLAlchemy writes it")
    models_dir: str = Field("~/.cache/flowcraft/models", description="where local models lie")
    log: Log = Field(default_factory=Log, description="what is written to the log")
    llm: LLMSettings = Field(default_factory=LLMSettings, description="which models answer")
    providers: Annotated[dict[str, ProviderSettings], BeforeValidator(_sections)] = Field(
        default_factory=dict, description="vendors and servers, by names of one's own"
    )
    plugins: PluginSettings = Field(default_factory=PluginSettings, description="which plugins may be imported")
    agents: Agents = Field(default_factory=Agents, description="who carries agents and crews out")
    memory: Memory = Field(default_factory=Memory, description="memory for local models")
    service: Service = Field(default_factory=Service, description="the HTTP service")
    tracing: Tracing = Field(default_factory=Tracing, description="where traces go")

    _sources: Sources = PrivateAttr(default_factory=Sources)
    _offered: frozenset[str] | None = PrivateAttr(None)
    _configured: tuple[str, ...] | None = PrivateAttr(None)

    def __init__(self, sources: Sources | None = None, /, **values: Any) -> None:
        made = sources or combine(argument_layer(values), environment=dict(os.environ))
        problems = list(made.problems)
        try:
            super().__init__(**made.data)
        except ValidationError as error:
            problems += problems_of(error, Settings, made)
        if problems:
            raise SettingsError(problems=sorted(problems, key=lambda problem: (problem.file, problem.line, problem.column)))
        self._sources = made

    def __repr__(self) -> str:
        return Redactor(self.secrets).text(super().__repr__())

    def __str__(self) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment] # holds mappings

    @property
    def file(self) -> str:
        """The settings file that was read, empty if there was none."""
        return self._sources.document.name if self._sources.document is not None else ""

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment that settings were read with: that of the process over ``.env``."""
        return self._sources.environment

    @property
    def default_tier(self) -> str:
        """``cheap`` where a cheap model is set, else ``default``."""
        return "cheap" if self.llm.cheap_model else "default"

    @property
    def declared(self) -> bool:
        """Whether a provider is configured or only declared: a section, its key or not, or a model named in ``llm``."""
        return bool(self.providers or self.llm.model_names() or self.configured_providers())

    @property
    def offline_allowed(self) -> bool:
        """Whether ``offline`` stands at the end of every chain."""
        return self.llm.offline == "allow" or (self.llm.offline == "auto" and not self.declared)

    @property
    def secrets(self) -> frozenset[str]:
        """Every secret value that was read: keys, tokens, passwords in addresses."""
        return self._sources.secrets()

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is not wrong, but worth knowing."""
        short = [
            self.problem_at(
                path, f"{dotted(path)} has fewer than {SHORTEST} characters and is not hidden in output", warning=True
            )
            for path, value in leaves(self._sources.data)
            if any(len(secret) < SHORTEST for secret in secrets_in(path, value))
        ]
        unused = [
            Problem(message=f"{item.name} ({item.kind}) does nothing: {item.reason}", warning=True)
            for item in self._sources.ignored
        ]
        strangers = [
            Problem(message=f"{variable} is set, but no installed plugin offers the provider {name!r}", warning=True)
            for name, variable in self._preset_keys()
            if self._offered is not None and name not in self._offered
        ]
        return (*self._sources.warnings, *short, *unused, *strangers, *self._limits_of_nobody())

    def _limits_of_nobody(self) -> Iterator[Problem]:
        """Yield a warning for each limit of a name that settings have nowhere else."""
        providers = {*self.providers, *dict(PRESET_KEYS)}
        models = {model for section in self.providers.values() for model in section.models}
        known = {*providers, *models, *self.llm.aliases, *self.llm.model_names()}
        for name in self.llm.limits:
            if name not in known and name.partition(":")[0] not in providers:
                message = f"{name!r} is no provider, model or alias that settings name; it limits only a chain that names it"
                hint = did_you_mean(name, known)
                yield self.problem_at(("llm", "limits", name), message, hint, key=True, warning=True)

    def key(self, provider: str) -> str | None:
        """Return the key of a provider: its section's ``api_key``, else that of its preset in the environment.

        A vendor's key never goes to another server: a section with an address and a name of its own needs its own key.
        """
        section = self.providers.get(provider)
        if section is not None and section.config.get("api_key"):
            return str(section.config["api_key"])
        kind = (section.type if section else None) or provider
        if section is not None and kind != provider and "base_url" in section.config:
            return None
        return self.environment.get(dict(PRESET_KEYS).get(kind, "")) or None

    def loose_keys(self, provider: str) -> frozenset[str]:
        """Return the keys of a provider that stood in ``llm`` as ``<provider>_<key>``: its plugin need not know them."""
        return self._sources.loose.get(provider, frozenset())

    def unconfigured(self, provider: str) -> str:
        """Return why a section cannot be used (``OPENROUTER_API_KEY is not set``); empty if nothing is known against it."""
        missing = self._sources.missing.get(provider)
        if missing:
            return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set"
        section = self.providers.get(provider)
        kind = (section.type if section else None) or provider
        wanted = dict(PRESET_KEYS).get(kind)
        own_server = section is not None and "base_url" in section.config
        if wanted and not own_server and not self.key(provider):
            return f"{wanted} is not set"
        return ""

    def configured_providers(self) -> tuple[str, ...]:
        """Return the providers that can be asked: ``default``, sections in file order, presets whose key is set."""
        if self._configured is not None:
            return self._configured
        sections = [name for name, section in self.providers.items() if self._stands_alone(name, section)]
        sections.sort(key=lambda name: name != DEFAULT)
        usable = [name for name in sections if not self.unconfigured(name)]
        presets = [name for name, _ in self._preset_keys() if self._offered is None or name in self._offered]
        return tuple(dict.fromkeys([*usable, *presets]))

    def with_providers(self, offered: Iterable[str]) -> Settings:
        """Return the same settings where these providers are installed: a key of another preset configures nothing."""
        copy = Settings(self._sources)
        copy._offered = frozenset(offered)
        copy._configured = self._configured
        return copy

    def with_configured(self, providers: Iterable[str]) -> Settings:
        """Return the same settings as if these providers could be asked, and no others, whatever keys there are."""
        copy = Settings(self._sources)
        copy._offered, copy._configured = self._offered, tuple(providers)
        return copy

    def chain_for(self, model: str | None = None, stage: str | None = None, defaults_model: str | None = None) -> Choice:
        """Return which models answer a stage, in which order; see "Which chain" in docs/settings.md."""
        return choose(self, model=model, stage=stage, defaults_model=defaults_model)

    def problem_at(self, path: Path, message: str, hint: str = "", *, key: bool = False, warning: bool = False) -> Problem:
        """Return a problem at a key, such as ``("providers", "openrouter", "base_url")``, for whoever checks it."""
        return self._sources.problem_at(path, message, hint, key=key, warning=warning)

    def provider_problems(self, provider: str, error: ValidationError, config: type[BaseModel]) -> list[Problem]:
        """Return what a plugin's ``Config`` found wrong in a provider's section, each at its place."""
        redact = Redactor(self.secrets).text  # a plugin's own words may repeat the key that it refuses
        found = problems_of(error, config, self._sources, ("providers", provider))
        return [replace(problem, message=redact(problem.message), hint=redact(problem.hint)) for problem in found]

    def explain(self) -> list[Entry]:
        """Return every key with its value (secrets masked), where it came from, and what is to be said of it."""
        from flowcraft.settings.explain import explain

        return explain(self, self._sources)

    def snapshot(self) -> dict[str, Any]:
        """Return what a run keeps: JSON-like, without secrets."""
        from flowcraft.settings.snapshot import snapshot

        return snapshot(self, self._sources)

    @classmethod
    def from_snapshot(cls, data: Mapping[str, Any], environ: Mapping[str, str], *, current: Settings | None = None) -> Settings:
        """Bring the settings of a run back; keys come from ``environ``, those written in a file from ``current``."""
        from flowcraft.settings.snapshot import sources_of

        return cls(sources_of(data, environ, current._sources if current is not None else None))

    def _preset_keys(self) -> list[tuple[str, str]]:
        missing = self._sources.missing
        return [(name, variable) for name, variable in PRESET_KEYS if self.environment.get(variable) and name not in missing]

    def _stands_alone(self, name: str, section: ProviderSettings) -> bool:
        # A section that is made of keys out of ``llm`` alone configures nothing that nobody knows.
        given = set(section.config) | (section.model_fields_set - {"timeouts"})
        return bool(given - self.loose_keys(name)) or name in dict(PRESET_KEYS) or not given
