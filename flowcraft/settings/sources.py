"""All that settings are made of, as one layer in which every ``${NAME}`` has its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from flowcraft.errors import Problem
from flowcraft.redaction import SHORTEST
from flowcraft.settings.environment import COMPATIBLE, DEFAULT, PRESET_KEYS, VARIABLES, Ignored, expand, references
from flowcraft.settings.models import LLMSettings
from flowcraft.settings.origins import Layer, Origin, Path, dotted, leaves, secret_name, secrets_in, value_at
from flowcraft.source import Document, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where settings came from.

    ``written`` holds values as they were written, ``data`` with every ``${NAME}`` in place. ``environment`` is the
    environment over ``.env``; ``dotenv`` names what came from ``.env``. ``expanded`` tells which names a value mentions,
    ``missing`` which of them are not set, by provider. ``loose`` holds the keys of each provider that stood in ``llm``.
    ``literals`` are paths of secrets that a stored run does not hold.
    """

    written: Layer = field(default_factory=Layer)
    data: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    dotenv: frozenset[str] = frozenset()
    document: Document | None = None
    expanded: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    loose: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ignored: tuple[Ignored, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def secrets(self) -> frozenset[str]:
        """Return every secret value: keys, tokens, passwords in addresses, and what secret names in values stand for."""
        found = {secret for path, value in leaves(self.data) for secret in secrets_in(path, value)}
        read = {name for names in self.expanded.values() for name in names if secret_name(name)}
        read |= {variable.name for variable in VARIABLES if variable.secret} | {name for _, name in PRESET_KEYS}
        found |= {self.environment.get(name, "") for name in read}
        found |= {secret for item in self.ignored for secret in secrets_in((item.name,), item.value)}
        return frozenset(secret for secret in found if secret)

    def problem_at(self, path: Path, message: str, hint: str = "", *, key: bool = False, warning: bool = False) -> Problem:
        """Return a problem at a key of the page: in the file with line and caret, else naming variable or argument."""
        problem = self._placed(path, message, hint, key=key, warning=warning)
        excerpt = problem.excerpt
        for secret in self.secrets():
            if len(secret) >= SHORTEST:
                excerpt = excerpt.replace(secret, "*" * len(secret))
        return replace(problem, excerpt=excerpt)

    def _placed(self, path: Path, message: str, hint: str, *, key: bool, warning: bool) -> Problem:
        origin = self._preset_key(path) or self.written.origin(path)
        if origin is None and self.document is not None:
            return self.document.problem(path, message, hint, key=key, warning=warning)
        if origin is None or origin.kind == "argument":
            return Problem(message=message, hint=hint, warning=warning)
        if origin.kind != "file" or self.document is None:
            return Problem(message=f"{origin.name} ({origin.kind}): {message}", hint=hint, warning=warning)
        known = next(length for length in range(len(path), 0, -1) if path[:length] in self.written.origins)
        place = (*origin.path, *path[known:])
        return self.document.problem(place, message, hint, key=key, warning=warning)

    def _preset_key(self, path: Path) -> Origin | None:
        """Return where the key at ``path`` comes from if no section holds it: the environment name of its preset."""
        if path[:1] != ("providers",) or path[2:] != ("api_key",) or value_at(self.data, path) is not None:
            return None
        variable = dict(PRESET_KEYS).get(str(value_at(self.data, (*path[:2], "type")) or path[1]), "")
        if not self.environment.get(variable):
            return None
        return Origin(kind=".env" if variable in self.dotenv else "environment", name=variable)


def file_layer(document: Document) -> Layer:
    """Return what a file says; lists of models become mappings, so that other layers can add to them."""
    layer = Layer()
    data = document.data if isinstance(document.data, dict) else {}
    for key, value in data.items():
        layer.data[key] = _copied(value, (key,), layer, document)
    return layer


def _copied(value: Any, path: Path, layer: Layer, document: Document) -> Any:
    def origin(place: Path) -> Origin:
        return Origin(kind="file", name=document.name, path=place, line=document.position(place).line)

    of_models = path[:1] == ("providers",) and path[2:] == ("models",)
    if of_models and isinstance(value, list) and all(isinstance(name, str) for name in value):
        layer.origins.update({(*path, name): origin((*path, index)) for index, name in enumerate(value)})
        return {name: {} for name in value}
    if isinstance(value, dict) and value:
        return {key: _copied(item, (*path, key), layer, document) for key, item in value.items()}
    layer.origins[path] = origin(path)
    return value


def argument_layer(values: Mapping[str, Any]) -> Layer:
    """Return what a caller says, as mappings or as models of the page."""
    layer = Layer()
    for key, value in values.items():
        layer.data[key] = _plain(value)
        layer.origins[(key,)] = Origin(kind="argument")
    return layer


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _plain({**value.model_dump(exclude_unset=True), **(value.__pydantic_extra__ or {})})
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def combine(
    layer: Layer,
    *,
    environment: Mapping[str, str],
    dotenv: frozenset[str] = frozenset(),
    document: Document | None = None,
    ignored: tuple[Ignored, ...] = (),
    problems: tuple[Problem, ...] = (),
) -> Sources:
    """Make sources of merged layers: keys of providers go where they belong, ``${NAME}`` gets its value."""
    written = Layer(data=dict(layer.data), origins=dict(layer.origins))
    loose, strangers = _provider_keys(written)
    providers = written.data.get("providers")
    if isinstance(providers, dict) and isinstance(providers.get(DEFAULT), dict):
        providers[DEFAULT] = {"type": COMPATIBLE, **providers[DEFAULT]}
    work = _Expansion(environment)
    data = work.of(written.data, ())
    sources = Sources(
        written=written,
        data=data,
        environment=environment,
        dotenv=dotenv,
        document=document,
        expanded=work.expanded,
        missing={name: tuple(dict.fromkeys(names)) for name, names in work.missing.items()},
        loose=loose,
        ignored=ignored,
        problems=problems,
    )
    unset = [
        sources.problem_at(path, f"{name} is not set, and {dotted(path)} needs it", f"write ${{{name}:-default}} to do without")
        for path, name in work.unset
    ]
    said = [
        sources.problem_at(
            ("providers", provider, key),
            f"llm.{provider}_{key} is kept as a key of provider {provider!r}, which has no section",
            warning=True,
        )
        for provider, key in strangers
    ]
    return replace(sources, problems=(*problems, *unset), warnings=tuple(said))


def _provider_keys(layer: Layer) -> tuple[dict[str, frozenset[str]], list[tuple[str, str]]]:
    """Move ``llm.<provider>_<key>`` to ``providers.<provider>.<key>``; tell which keys were moved, and which to strangers."""
    llm = layer.data.get("llm")
    providers = layer.data.get("providers")
    if not isinstance(llm, dict) or not isinstance(providers, dict | None):
        return {}, []
    known = {name.replace("-", "_"): name for name in [*(name for name, _ in PRESET_KEYS), *(providers or {})]}
    loose: dict[str, set[str]] = {}
    strangers: list[tuple[str, str]] = []
    kept = dict(llm)
    sections = dict(providers or {})
    for key in [key for key in llm if key not in LLMSettings.model_fields]:
        prefix = max((name for name in known if key.startswith(f"{name}_")), key=len, default="")
        if (not prefix or prefix == DEFAULT) and nearest(key, LLMSettings.model_fields):
            continue
        head, _, rest = (prefix, "_", key[len(prefix) + 1 :]) if prefix else key.partition("_")
        provider = known.get(head, head)
        section = sections.get(provider)
        if not head or not rest or not isinstance(section, dict | None):
            continue
        value = kept.pop(key)
        loose.setdefault(provider, set()).add(rest)
        if not prefix:
            strangers.append((provider, rest))
        if rest not in (section or {}):
            sections[provider] = {**(section or {}), rest: value}
            _move_origins(layer, ("llm", key), ("providers", provider, rest))
    if loose:
        layer.data["llm"], layer.data["providers"] = kept, sections
    return {name: frozenset(keys) for name, keys in loose.items()}, strangers


def _move_origins(layer: Layer, source: Path, target: Path) -> None:
    for path in [path for path in layer.origins if path[: len(source)] == source]:
        layer.origins[(*target, *path[len(source) :])] = layer.origins.pop(path)


class _Expansion:
    """Walks values and puts ``${NAME}`` in place; a provider whose name is missing loses that key."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.expanded: dict[Path, tuple[str, ...]] = {}
        self.missing: dict[str, list[str]] = {}
        self.unset: list[tuple[Path, str]] = []

    def of(self, value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            made = {key: self.of(item, (*path, key)) for key, item in value.items()}
            return {key: item for key, item in made.items() if item is not _ABSENT}
        if isinstance(value, list):
            items = [self.of(item, (*path, index)) for index, item in enumerate(value)]
            return [item for item in items if item is not _ABSENT]
        if not isinstance(value, str) or "${" not in value or not references(value):
            return value
        self.expanded[path] = references(value)
        text, missing = expand(value, self._environment)
        if not missing:
            return text
        if path[0] == "providers" and len(path) > 2:
            self.missing.setdefault(str(path[1]), []).extend(missing)
        else:
            self.unset.extend((path, name) for name in missing)
        return _ABSENT


class _Absent:
    """A value that is not there."""


_ABSENT = _Absent()
