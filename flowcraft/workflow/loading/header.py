"""The head of a workflow file: all that stands above its stages."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft.source import did_you_mean
from flowcraft.workflow.loading.reading import Path, Reading, plain_kind
from flowcraft.workflow.loading.servers import read_servers
from flowcraft.workflow.loading.stage_settings import StageSettings, read_settings
from flowcraft.workflow.schema import LANGUAGE_VERSION, Input, Value
from flowcraft.workflow.types.syntax import MISSING, TypeReader, TypeSyntaxError, Written
from flowcraft.workflow.types.type import ANY, SCALARS, Named, Type, depth_of
from flowcraft.workflow.words import (
    BUDGET_KEYS,
    DEFAULT_KEYS,
    FOREIGN_TOP_KEYS,
    LATER_TOP_KEYS,
    RESERVED,
    STAGE_NAME,
    TOP_KEYS,
    later,
)

DEEPEST_TYPE = 50

_TYPE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_version(reading: Reading, data: Any) -> bool:
    """Say whether the file is a workflow of a version that is known here; keep the problem if not."""
    if not isinstance(data, Mapping):
        what = "is empty" if data is None else f"must be a mapping of keys, not {plain_kind(data)}"
        reading.problem((), f"a workflow file {what}", "begin with 'flowcraft: 1'")
        return False
    if "flowcraft" not in data:
        hint = "begin the file with 'flowcraft: 1'"
        reading.problem((), "the key 'flowcraft' is missing: the version of the language", hint)
        return True
    version = data["flowcraft"]
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        reading.problem(("flowcraft",), "'flowcraft' must be the version of the language", "write flowcraft: 1")
        return True
    if version > LANGUAGE_VERSION:
        message = f"the file is written in version {version} of the language; this program knows version {LANGUAGE_VERSION}"
        reading.problem(("flowcraft",), message, "install a newer FlowCraft")
        return False
    return True


def check_top_keys(reading: Reading, data: Mapping[str, Any]) -> None:
    """Refuse what is no key of a workflow; ``x-...`` is ignored."""
    for key in data:
        if key in LATER_TOP_KEYS:
            reading.problem((key,), later(key), key=True)
        elif key not in TOP_KEYS and not key.startswith("x-"):
            hint = FOREIGN_TOP_KEYS.get(key.lower().replace("-", "_")) or did_you_mean(key, [*TOP_KEYS, *LATER_TOP_KEYS])
            hint = hint or "a key of your own begins with 'x-'"
            reading.problem((key,), f"unknown key '{key}'", hint, key=True)


def check_name(reading: Reading, path: Path, name: str, what: str) -> bool:
    """Say whether ``name`` may name a stage or an input; keep the problem if not."""
    if not re.fullmatch(STAGE_NAME, name):
        message = f"'{name}' cannot name {what}: small letters, digits and '_' only, no digit first"
        reading.problem(path, message, _mended(name), key=True)
    elif name.startswith("__"):
        reading.problem(path, f"'{name}' cannot name {what}: expressions read no name that begins with '__'", key=True)
    elif name in RESERVED or keyword.iskeyword(name):
        reading.problem(path, f"'{name}' is reserved and cannot name {what}", f"write {name}_", key=True)
    else:
        return True
    return False


def _mended(name: str) -> str:
    mended = re.sub(r"[^a-z0-9_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
    return f"write {mended}" if re.fullmatch(STAGE_NAME, mended) else ""


class TypeNames:
    """The section ``types``: any order, no circles."""

    def __init__(self, reading: Reading, data: Mapping[str, Any], model: Callable[[str], str]) -> None:
        self.reading = reading
        self.data = data
        self.known: dict[str, Type] = {}
        self.depths: dict[str, int] = {}
        self.open: list[str] = []
        self.base: Path = ("types",)
        self.reader = TypeReader(self.named, self.names, model, self.warn, reading.folder)

    def all(self) -> dict[str, Type]:
        """Read every type of the section."""
        for name in self.data:
            if not _TYPE_NAME.fullmatch(name) or name in SCALARS:
                taken = "it is a built-in type" if name in SCALARS else "letters, digits and '_' only"
                self.reading.problem(("types", name), f"'{name}' cannot name a type: {taken}", key=True)
            self.named(name)
        return {name: self.known[name] for name in self.data if name in self.known}

    def names(self) -> tuple[str, ...]:
        """Return the names of all types of the file."""
        return tuple(self.data)

    def named(self, name: str) -> Type | None:
        """Return the type that stands under a name; what is wrong in it is said once."""
        if name not in self.data or name in SCALARS:
            return None
        if name in self.open:
            circle = " -> ".join([*self.open[self.open.index(name) :], name])
            raise TypeSyntaxError(f"a circle of types: {circle}", width=None)
        if len(self.open) > DEEPEST_TYPE:
            raise TypeSyntaxError(f"types nest deeper than {DEEPEST_TYPE}", width=None)
        if name not in self.known:
            self.open.append(name)
            target = self.read(("types", name), self.data[name])
            target = target.target if isinstance(target, Named) else target
            self.depths[name] = depth_of(target, self.depths)
            if self.depths[name] > DEEPEST_TYPE:
                self.reading.problem(("types", name), f"types nest deeper than {DEEPEST_TYPE}")
                target = ANY
            self.known[name] = Named(name=name, target=target)
            self.open.pop()
        return self.known[name]

    def read(self, path: Path, data: Any) -> Type:
        """Return the type at ``path``, any where it is wrong."""
        return self.written(path, data).type

    def written(self, path: Path, data: Any, *, default: bool = False) -> Written:
        """Return the type at ``path`` and its default."""
        before, self.base = self.base, path
        try:
            return self.reader.read(data, default=default)
        except TypeSyntaxError as error:
            for one in (error, *error.others):
                at = {"offset": one.offset, "width": one.width} if one.width is not None else {}
                self.reading.problem((*path, *one.path), str(one), one.hint, **at)
            return Written(type=ANY)
        finally:
            self.base = before

    def warn(self, path: Path, message: str, hint: str) -> None:
        """Keep a warning about the type that is being read."""
        self.reading.warning((*self.base, *path), message, hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What stands above the stages."""

    name: str = ""
    description: str = ""
    types: TypeNames
    inputs: Mapping[str, Input] = field(default_factory=dict)
    env: tuple[str, ...] = ()
    budget: Mapping[str, Any] = field(default_factory=dict)
    defaults: StageSettings = field(default_factory=StageSettings)
    servers: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)


def read_header(reading: Reading, data: Mapping[str, Any], model: Callable[[str], str]) -> Header:
    """Read what stands above the stages. ``model`` says why a pydantic model cannot be used, or nothing."""
    types = TypeNames(reading, reading.mapping(("types",), data.get("types"), "'types'"), model)
    types.all()
    defaults = reading.mapping(("defaults",), data.get("defaults"), "'defaults'")
    reading.choose(("defaults",), defaults, DEFAULT_KEYS, "'defaults'")
    return Header(
        name=reading.plain(("name",), data["name"], "'name'") if data.get("name") is not None else "",
        description=_description(reading, data.get("description")),
        types=types,
        inputs=_inputs(reading, data.get("inputs"), types),
        env=_env(reading, data.get("env")),
        budget=_budget(reading, data.get("budget")),
        defaults=read_settings(reading, ("defaults",), defaults, ""),
        servers=read_servers(reading, data.get("mcp")),
    )


def _description(reading: Reading, data: Any) -> str:
    if data is None or isinstance(data, str):
        return data or ""
    reading.problem(("description",), f"'description' must be text, not {plain_kind(data)}")
    return ""


def _inputs(reading: Reading, data: Any, types: TypeNames) -> dict[str, Input]:
    found: dict[str, Input] = {}
    for name, written in reading.mapping(("inputs",), data, "'inputs'", "write inputs: {name: string}").items():
        path: Path = ("inputs", name)
        check_name(reading, path, name, "an input")
        told = types.written(path, written, default=True)
        found[name] = Input(
            name=name,
            type=told.type,
            required=told.default is MISSING and not told.type.nullable,
            default=None if told.default is MISSING else told.default,
            position=reading.document.position(path, key=True),
        )
    return found


def _env(reading: Reading, data: Any) -> tuple[str, ...]:
    if data is None:
        return ()
    if not isinstance(data, list):
        reading.problem(("env",), f"'env' must be a list of names, not {plain_kind(data)}", "write env: [NAME]")
        return ()
    names = []
    for index, name in enumerate(data):
        if not isinstance(name, str) or not _ENV_NAME.fullmatch(name):
            reading.problem(("env", index), "an environment name has letters, digits and '_' only")
        elif name in names:
            reading.problem(("env", index), f"'{name}' stands twice")
        else:
            names.append(name)
    return tuple(names)


def _budget(reading: Reading, data: Any) -> dict[str, Any]:
    budget: dict[str, Any] = {}
    given = reading.mapping(("budget",), data, "'budget'", "write budget: {usd: 2.00, calls: 200, time: 2h}")
    reading.choose(("budget",), given, BUDGET_KEYS, "'budget'")
    for key in BUDGET_KEYS:
        if key not in given:
            continue
        path, value = ("budget", key), given[key]
        if key == "time":
            budget[key] = reading.duration(path, value, "'time'")
        elif key == "usd":
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                reading.problem(path, "'usd' must be a number above 0")
            budget[key] = value
        else:
            budget[key] = reading.whole_number(path, value, f"'{key}'", 1, 10**15)
    return budget
