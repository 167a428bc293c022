"""What is in force, where it came from, secrets masked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowcraft.redaction import MASK, Redactor
from flowcraft.settings.environment import PRESET_KEYS
from flowcraft.settings.origins import Path, dotted, leaves, secret_path, value_at

if TYPE_CHECKING:
    from flowcraft.settings.page import Settings
    from flowcraft.settings.sources import Sources

LATER = "accepted, does not act yet"

ACTS_LATER: dict[str, tuple[Any, ...]] = {
    "models_dir": (),
    "log": (),
    "memory": (),
    "service": (),
    "tracing": (),
    "llm.params.stream": (),
    "llm.structured.mode": ("auto", "native", "text"),
    "llm.confidence": (),
    "llm.repair": (),
}
"""Keys whose feature comes later, each with the values that act already. Nothing asked for needs no note."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One key. ``source`` is ``default``, ``file:line``, ``environment NAME``, ``.env NAME``, ``argument`` or ``run``."""

    key: str
    value: Any
    source: str = "default"
    note: str = ""


def explain(settings: Settings, sources: Sources) -> list[Entry]:
    """Return an entry for every key, those of providers only as far as they are set."""
    redactor = Redactor(settings.secrets)
    entries = [
        Entry(key=dotted(path), value=_masked(path, value, redactor), source=_source(path, sources), note=_note(path, value))
        for path, value in leaves(_shown(settings))
    ]
    return [*entries, *_missing(sources), *_preset_keys(settings), *_ignored(sources, redactor)]


def _shown(settings: Settings) -> dict[str, Any]:
    page = settings.model_dump(mode="json", exclude={"providers": True, "llm": {"tiers"}})
    page["llm"]["tiers"] = (
        settings.model_dump(mode="json", include={"llm": {"tiers"}}, exclude_unset=True).get("llm", {}).get("tiers", {})
    )
    page["providers"] = {
        name: section.model_dump(mode="json", exclude_unset=True) for name, section in settings.providers.items()
    }
    return page


def _masked(path: Path, value: Any, redactor: Redactor) -> Any:
    if value and secret_path(path) and isinstance(value, str):
        return MASK
    return redactor.value(value)


def _source(path: Path, sources: Sources) -> str:
    origin = sources.written.origin(path)
    if origin is None:
        below = (known for known in sources.written.origins if known[: len(path)] == path)
        origin = next((sources.written.origins[known] for known in below), None)
    if origin is None or value_at(sources.data, path) is None:
        return "default"
    names = sources.expanded.get(path, ())
    return f"{origin} ({', '.join(names)})" if names else str(origin)


def _note(path: Path, value: Any) -> str:
    key = ".".join(str(part) for part in path)
    for prefix, acting in ACTS_LATER.items():
        if key == prefix or key.startswith(f"{prefix}."):
            return "" if value in (None, [], {}, *acting) else LATER
    return ""


def _missing(sources: Sources) -> Iterator[Entry]:
    for path, names in sources.expanded.items():
        unset = [name for name in names if name in sources.missing.get(str(path[1]), ())] if path[0] == "providers" else []
        if unset and value_at(sources.data, path) is None:
            note = f"{' and '.join(unset)} not set: provider {path[1]!r} is not configured"
            yield Entry(key=dotted(path), value=None, source=str(sources.written.origin(path) or "default"), note=note)


def _preset_keys(settings: Settings) -> Iterator[Entry]:
    for name, variable in PRESET_KEYS:
        section = settings.providers.get(name)
        if settings.environment.get(variable) and (section is None or "api_key" not in section.config):
            kind = ".env" if variable in settings._sources.dotenv else "environment"
            yield Entry(key=f"providers.{name}.api_key", value=MASK, source=f"{kind} {variable}")


def _ignored(sources: Sources, redactor: Redactor) -> Iterator[Entry]:
    for item in sources.ignored:
        value = redactor.text(item.value)
        yield Entry(key=item.key, value=value, source=f"{item.kind} {item.name}", note=f"not in force: {item.reason}")
