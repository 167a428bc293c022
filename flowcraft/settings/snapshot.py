"""The settings that a run keeps: without secrets, until it is resumed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowcraft.errors import SettingsError
from flowcraft.redaction import Redactor
from flowcraft.settings.origins import Layer, Origin, Path, leaves, secret_name, secret_path, secrets_in, value_at
from flowcraft.settings.sources import Sources, combine

if TYPE_CHECKING:
    from flowcraft.settings.page import Settings

VERSION = 1


def snapshot(settings: Settings, sources: Sources) -> dict[str, Any]:
    """Return the values as they are in force; a secret is kept as ``${NAME}``, or left out where it was written plainly."""
    kept = Layer()
    left_out: list[list[str | int]] = []
    for path, written in leaves(sources.written.data):
        value = _kept(path, written, sources)
        if value is _SECRET:
            left_out.append(list(path))
        else:
            kept.put(path, value, Origin())
    data = Redactor(settings.secrets).value(copy.deepcopy(kept.data))
    return {
        "v": VERSION,
        "data": data,
        "left_out": left_out,
        "loose": {name: sorted(keys) for name, keys in sources.loose.items()},
    }


class _Secret:
    """Stands for a value that may not be kept."""


_SECRET = _Secret()


def _kept(path: Path, written: Any, sources: Sources) -> Any:
    names = [name for known, used in sources.expanded.items() if known[: len(path)] == path for name in used]
    if names and (secret_path(path) or any(secret_name(name) for name in names)):
        return _SECRET if any("${" not in secret for secret in secrets_in((), written)) else written
    value = value_at(sources.data, path)
    if not any(True for _ in secrets_in(path, value)):
        return value if names and value is not None else written
    origin = sources.written.origin(path)
    if origin is not None and origin.kind in ("environment", ".env") and sources.environment.get(origin.name) == value:
        return f"${{{origin.name}}}"
    return _SECRET


def sources_of(stored: Mapping[str, Any], environ: Mapping[str, str], current: Sources | None) -> Sources:
    """Return the sources of a stored run; what was left out comes from ``current``. Raises SettingsError."""
    if stored.get("v") != VERSION:
        raise SettingsError(f"the settings of this run are of version {stored.get('v')!r}; this FlowCraft reads {VERSION}")
    layer = Layer(data=copy.deepcopy(dict(stored.get("data", {}))))
    missing: dict[str, tuple[str, ...]] = {}
    for parts in stored.get("left_out", ()):
        path: Path = tuple(parts)
        value = value_at(current.data, path) if current is not None else None
        if value is not None:
            layer.put(path, value, Origin(kind="run"))
        elif path[0] == "providers":
            missing[str(path[1])] = (".".join(str(part) for part in path),)
    layer.origins.update({path: Origin(kind="run") for path, _ in leaves(layer.data)})
    sources = combine(layer, environment=dict(environ))
    loose = {name: frozenset(keys) for name, keys in stored.get("loose", {}).items()}
    return Sources(
        written=sources.written,
        data=sources.data,
        environment=sources.environment,
        expanded=sources.expanded,
        missing={**missing, **sources.missing},
        loose=loose,
        problems=sources.problems,
    )
