"""Where each value of the settings came from: layers of values, the later over the earlier."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

Path = tuple[str | int, ...]
Kind = Literal["default", "file", "environment", ".env", "argument", "run"]

_SECRET_KEY = re.compile(r"(?:^|[_-])(?:key|token|secret|password|passwd|authorization|credentials?)$", re.IGNORECASE)
_PLAIN_PARTS = ((), ("type",), ("timeouts",), ("models",))
_SECRET_PARTS = frozenset({"providers", "service", "tracing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value stands: in a file (``path`` and ``line`` there), in a variable, in a call, or in a stored run."""

    kind: Kind = "default"
    name: str = ""
    path: Path = ()
    line: int = 0

    def __str__(self) -> str:
        if self.kind == "file":
            return f"{self.name}:{self.line}"
        return f"{self.kind} {self.name}".rstrip()


@dataclass(slots=True, kw_only=True)
class Layer:
    """Values, and the origin of each of them by its path."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)

    def put(self, path: Path, value: Any, origin: Origin) -> None:
        """Set the value at ``path``, unless it is set already."""
        target = self.data
        for part in path[:-1]:
            inner = target.setdefault(str(part), {})
            if not isinstance(inner, dict):
                return
            target = inner
        if str(path[-1]) not in target:
            target[str(path[-1])] = value
            self.origins[path] = origin

    def origin(self, path: Path) -> Origin | None:
        """Return the origin of the value at ``path`` or of the nearest part around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return None

    def over(self, other: Layer) -> Layer:
        """Return the values of this layer, completed by those of ``other``."""
        origins = dict(other.origins)
        data = _merged(other.data, self.data, (), origins)
        origins.update(self.origins)
        return Layer(data=data, origins=origins)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any], path: Path, origins: dict[Path, Origin]) -> dict[str, Any]:
    # The first model of a provider is its default, so models that are named later come first.
    merged = {**above, **below} if path[:1] == ("providers",) and path[2:] == ("models",) else dict(below)
    for key, value in above.items():
        here = (*path, key)
        old = below.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            merged[key] = _merged(old, value, here, origins)
            continue
        for known in [known for known in origins if known[: len(here)] == here]:
            del origins[known]
        merged[key] = value
    return merged


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Give every value that is no filled mapping, with its path; a list is one value."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif path:
        yield path, value


def value_at(data: Any, path: Path) -> Any:
    """Return the value at ``path``, None if there is none."""
    for part in path:
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def secret_name(name: str) -> bool:
    """Say whether a variable or key of this name holds a secret."""
    return bool(_SECRET_KEY.search(name))


def secret_path(path: Path) -> bool:
    """Say whether the value at ``path`` is a secret by its name."""
    if not path or path[0] not in _SECRET_PARTS or (path[0] == "providers" and path[2:3] in _PLAIN_PARTS):
        return False
    return any(secret_name(str(part)) for part in path[2:] or path[1:])


def secrets_in(path: Path, value: Any) -> Iterator[str]:
    """Give the secrets in the value at ``path``: the whole of it by its name, or the password in an address."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from secrets_in(path, item)
    if not isinstance(value, str) or not value:
        return
    if secret_path(path):
        yield value
    elif "://" in value and "@" in value:
        try:
            password = urlsplit(value).password
        except ValueError:
            return
        if password:
            yield password


def hides_secret(name: str, value: str) -> bool:
    """Say whether ``value`` at a key of this name is a secret or holds one."""
    return secret_name(name) or any(True for _ in secrets_in((name,), value))


def dotted(path: Path) -> str:
    """Return ``llm.model_roles.primary``; names with dots in them stand in quotes."""
    return ".".join(f'"{part}"' if "." in str(part) else str(part) for part in path)
