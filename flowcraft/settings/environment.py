"""The environment: every name that is read as a setting."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from flowcraft.errors import Problem
from flowcraft.settings.origins import Layer, Origin, Path, secret_name, secret_path
from flowcraft.source import did_you_mean

PREFIX = "FLOWCRAFT_"
FILE_VARIABLE = "FLOWCRAFT_SETTINGS"
RESERVED = frozenset({FILE_VARIABLE, "FLOWCRAFT_PLUGINS", "FLOWCRAFT_DEBUG"})

PRESET_KEYS: tuple[tuple[str, str], ...] = (
    ("openai", "OPENAI_API_KEY"),
    ("anthropic", "ANTHROPIC_API_KEY"),
    ("openrouter", "OPENROUTER_API_KEY"),
    ("google", "GOOGLE_API_KEY"),
    ("qwen", "DASHSCOPE_API_KEY"),
    ("kiro-cli", "KIRO_API_KEY"),
)
"""Presets and the environment name of each one's key, in the order in which they are tried."""

DEFAULT = "default"
COMPATIBLE = "openai"
"""The type of the provider ``default``, which speaks the protocol that most servers speak."""

_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_FALSE = frozenset({"0", "false", "no", "off", "n", "f"})
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_OF_DEFAULT = ("providers", DEFAULT)


class Unused(Exception):
    """A value that asks for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An environment name and the keys that it sets. ``replaced`` says what makes it needless."""

    name: str
    paths: tuple[Path, ...]
    meaning: str
    read: Callable[[str], Any] = str
    replaced: str = ""

    @property
    def secret(self) -> bool:
        """Whether its value is a secret."""
        return any(secret_path(path) for path in self.paths) or (not self.paths and secret_name(self.name))


def _flag(text: str) -> bool:
    word = text.strip().casefold()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"must be true or false, not {text!r}")


def _when(wanted: bool, value: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if _flag(text) is not wanted:
            raise Unused
        return value

    return read


def _debug(text: str) -> str:
    # Other programs put words of their own into DEBUG.
    if text.strip().casefold() not in _TRUE:
        raise Unused
    return "debug"


def endpoint(text: str) -> str:
    """Return the base address of an OpenAI-compatible server that was given with or without ``/v1``."""
    parts = urlsplit(text.strip())
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("must be an address like http://localhost:8080")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    if not re.search(r"/v\d", path):
        path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _key(*path: str) -> tuple[Path, ...]:
    return (path,)


VARIABLES: tuple[Variable, ...] = (
    Variable(
        name="LLM_ENDPOINT",
        paths=_key(*_OF_DEFAULT, "base_url"),
        meaning="an OpenAI-compatible server, with or without `/v1`: the provider `default`",
        read=endpoint,
    ),
    Variable(name="LLM_API_KEY", paths=_key(*_OF_DEFAULT, "api_key"), meaning="its key"),
    Variable(name="LLM_TOKEN", paths=_key(*_OF_DEFAULT, "api_key"), meaning="the same; `LLM_API_KEY` comes first"),
    Variable(
        name="LLM_MODEL",
        paths=_key(*_OF_DEFAULT, "models"),
        meaning="its model; without `LLM_ENDPOINT` the default model",
        read=lambda text: {text: {}},
    ),
    Variable(name="LLM_TEMPERATURE", paths=_key("llm", "params", "temperature"), meaning="default of every request"),
    Variable(name="LLM_MAX_TOKENS", paths=_key("llm", "params", "max_tokens"), meaning="default of every request"),
    Variable(name="LLM_STREAM", paths=_key("llm", "params", "stream"), meaning="default of every request"),
    Variable(name="LLM_LOGPROBS", paths=_key("llm", "params", "logprobs"), meaning="default of every request"),
    Variable(name="LLM_TOP_LOGPROBS", paths=_key("llm", "params", "top_logprobs"), meaning="default of every request"),
    Variable(
        name="LLM_CONNECT_TIMEOUT",
        paths=_key(*_OF_DEFAULT, "timeouts", "connect"),
        meaning="seconds to connect to `LLM_ENDPOINT`",
    ),
    Variable(
        name="LLM_READ_TIMEOUT",
        paths=((*_OF_DEFAULT, "timeouts", "idle"), (*_OF_DEFAULT, "timeouts", "first_token")),
        meaning="seconds to its first token and between events",
    ),
    Variable(
        name="LLM_WRITE_TIMEOUT",
        paths=_key(*_OF_DEFAULT, "timeouts", "write"),
        meaning="seconds to write a request to it",
    ),
    Variable(
        name="LLM_OUTLINES_SO_MODE",
        paths=_key("llm", "structured", "mode"),
        meaning="true: typed answers by grammar",
        read=_when(True, "grammar"),
    ),
    Variable(
        name="LLM_FORCE_OPENAI_STREAMING",
        paths=_key("llm", "continuation"),
        meaning="true: of a stream that was cut, keep the text so far",
        read=_when(True, "keep"),
    ),
    Variable(
        name="LLM_SUPPRESS_STREAM_WARNINGS",
        paths=_key("llm", "warn_streams"),
        meaning="true: and do not warn of it",
        read=lambda text: not _flag(text),
    ),
    Variable(name="LLM_REPAIR_MODE", paths=_key("llm", "repair", "mode"), meaning="live repair: off, shadow or server"),
    Variable(
        name="LLM_PER_TOKEN_REPAIR_THRESHOLD",
        paths=_key("llm", "repair", "token_threshold"),
        meaning="least probability of a token",
    ),
    Variable(
        name="LLM_MAX_ATTEMPTS_PER_TOKEN",
        paths=_key("llm", "repair", "attempts_per_token"),
        meaning="tries for one token",
    ),
    Variable(name="LLM_MAX_LIVE_REPAIRS", paths=_key("llm", "repair", "max_repairs"), meaning="repairs in one answer"),
    Variable(
        name="LLM_SERVER_MIN_P",
        paths=_key("llm", "repair", "server_min_p"),
        meaning="min_p of server mode; else the threshold (0.05-0.1 is usual)",
    ),
    Variable(name="LLM_DEFAULT_MODEL", paths=_key("llm", "default_model"), meaning="the default model"),
    Variable(
        name="LLM_DEFAULT_EMBEDDING_MODEL",
        paths=_key("llm", "embeddings", "model"),
        meaning="the default model of embeddings",
    ),
    Variable(
        name="LLM_MAX_TOKENS_PER_REQUEST",
        paths=_key("service", "limits", "max_tokens_per_request"),
        meaning="the service's limit of tokens",
    ),
    Variable(
        name="LLM_MAX_CONCURRENT_REQUESTS",
        paths=_key("service", "limits", "max_concurrent_requests"),
        meaning="the service's limit of requests at a time",
    ),
    Variable(name="JSON_FIXER_ENABLED", paths=_key("llm", "structured", "repair"), meaning="mend typed answers"),
    Variable(name="JSON_FIXER_MODEL", paths=_key("llm", "structured", "repair_model"), meaning="the model that mends them"),
    Variable(name="SERVER_HOST", paths=_key("service", "host"), meaning="address to listen at"),
    Variable(name="SERVER_PORT", paths=_key("service", "port"), meaning="port to listen at"),
    Variable(name="SERVER_WORKERS", paths=_key("service", "workers"), meaning="processes of the service"),
    Variable(name="APP_NAME", paths=_key("service", "title"), meaning="title of the API"),
    Variable(name="APP_ENV", paths=_key("service", "environment"), meaning="name of the environment in traces"),
    Variable(name="ENVIRONMENT", paths=_key("service", "environment"), meaning="the same; `APP_ENV` comes first"),
    Variable(name="DEBUG", paths=_key("log", "level"), meaning="true: log everything", read=_debug),
    Variable(name="GPU_INDEX", paths=_key("memory", "gpu_index"), meaning="which GPU"),
    Variable(
        name="MAX_VRAM_USAGE_PERCENT",
        paths=_key("memory", "max_vram_percent"),
        meaning="most of the GPU's memory",
    ),
    Variable(name="VRAM_RESERVE_MB", paths=_key("memory", "vram_reserve_mb"), meaning="MB of it that stay free"),
    Variable(name="MODELS_DIR", paths=_key("models_dir"), meaning="where local models lie"),
    Variable(name="LANGFUSE_PUBLIC_KEY", paths=_key("tracing", "langfuse", "public_key"), meaning="traces to Langfuse"),
    Variable(name="LANGFUSE_SECRET_KEY", paths=_key("tracing", "langfuse", "secret_key"), meaning="traces to Langfuse"),
    Variable(name="LANGFUSE_HOST", paths=_key("tracing", "langfuse", "host"), meaning="traces to Langfuse"),
    *(
        Variable(name=f"REDIS_{name}", paths=(), meaning="ignored", replaced="`storage` replaces it")
        for name in ("URL", "HOST", "PORT", "PASSWORD", "DB")
    ),
)
"""Every name that is read besides the presets' keys and ``FLOWCRAFT_SECTION__KEY``; of two for one key the first counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """A variable that is set and does nothing, and why."""

    name: str
    kind: Literal["environment", ".env"]
    key: str
    value: str
    reason: str


@dataclass(slots=True, kw_only=True)
class EnvironmentLayer:
    """What one environment says: values, what of it does nothing, and what is wrong in it."""

    layer: Layer
    ignored: list[Ignored]
    problems: list[Problem]


def read_environment(
    environ: Mapping[str, str], kind: Literal["environment", ".env"], *, has_default: bool, sections: Mapping[str, Any]
) -> EnvironmentLayer:
    """Read every known name of ``environ``. Empty values count as not set.

    ``has_default`` says that a provider ``default`` exists; ``sections`` holds the names of the page's sections.
    """
    found = EnvironmentLayer(layer=Layer(), ignored=[], problems=[])
    for name in sorted(environ):
        if name.startswith(PREFIX) and environ[name] and name not in RESERVED:
            _read_nested(name, environ[name], kind, sections, found)
    for variable in VARIABLES:
        text = environ.get(variable.name, "")
        if text:
            _read_variable(variable, text, kind, has_default=has_default, found=found)
    return found


def _read_variable(
    variable: Variable, text: str, kind: Literal["environment", ".env"], *, has_default: bool, found: EnvironmentLayer
) -> None:
    def ignore(reason: str) -> None:
        key = ".".join(str(part) for part in variable.paths[0]) if variable.paths else variable.name
        found.ignored.append(Ignored(name=variable.name, kind=kind, key=key, value=text, reason=reason))

    if variable.replaced:
        ignore(variable.replaced.replace("`", ""))
        return
    origin = Origin(kind=kind, name=variable.name)
    of_default = variable.paths[0][:2] == _OF_DEFAULT
    if of_default and not has_default:
        if variable.name == "LLM_MODEL":
            found.layer.put(("llm", "default_model"), text, origin)
        else:
            ignore("LLM_ENDPOINT is not set")
        return
    try:
        value = variable.read(text)
    except Unused:
        return
    except ValueError as error:
        found.problems.append(Problem(message=f"{variable.name} ({kind}): {error}"))
        return
    for path in variable.paths:
        found.layer.put(path, value, origin)


def _read_nested(
    name: str, text: str, kind: Literal["environment", ".env"], sections: Mapping[str, Any], found: EnvironmentLayer
) -> None:
    path = tuple(part.lower() for part in name.removeprefix(PREFIX).split("__"))
    if path[0] not in sections:
        hint = did_you_mean(path[0], sections)
        reason = f"settings have no {path[0]!r}" + (f"; {hint}" if hint else "")
        found.ignored.append(Ignored(name=name, kind=kind, key=name, value=text, reason=reason))
        return
    value: Any = text
    if text.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(text)
        except ValueError as error:
            found.problems.append(Problem(message=f"{name} ({kind}): this is not JSON: {error}"))
            return
    found.layer.put(path, value, Origin(kind=kind, name=name))


def references(text: str) -> tuple[str, ...]:
    """Return the names that ``text`` mentions as ``${NAME}``."""
    return tuple(dict.fromkeys(match[1] for match in _REFERENCE.finditer(text)))


def expand(text: str, environ: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Put values in place of ``${NAME}`` and ``${NAME:-default}``; return the text and the names that are missing."""
    missing: list[str] = []

    def replace(match: re.Match[str]) -> str:
        value = environ.get(match[1]) or match[2]
        if value is None:
            missing.append(match[1])
            return ""
        return value

    return _REFERENCE.sub(replace, text), tuple(dict.fromkeys(missing))
