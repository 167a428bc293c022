"""What distributions say of their plugins before anything of them is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import TYPE_CHECKING, Literal

import pluggy

from flowcraft import __version__
from flowcraft.discovery.guard import said
from flowcraft.plugin.hooks import Preset

if TYPE_CHECKING:
    from flowcraft.plugin.stages import StageBody

PROVIDERS = "flowcraft.providers"
OTHERS = "flowcraft"
OURS = "flowcraft"
VARIABLE = "FLOWCRAFT_PLUGINS"

State = Literal["ready", "slow", "not imported", "denied", "broken", "other version"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginState:
    """One entry point of one installed plugin. ``seconds`` is what its import took; ``error`` says why it is not usable."""

    name: str
    distribution: str
    version: str
    group: str
    state: State
    seconds: float | None = None
    error: str = ""
    traceback: str = ""


@dataclass(slots=True, kw_only=True)
class Plugin:
    """An entry point and what became of it."""

    entry: EntryPoint
    name: str
    group: str
    distribution: str
    version: str
    state: State = "not imported"
    seconds: float | None = None
    error: str = ""
    traceback: str = ""
    manager: pluggy.PluginManager | None = None
    offers: dict[str, Preset] = field(default_factory=dict)
    bodies: tuple[type[StageBody], ...] | None = None
    """Those that can be used; None before it was asked."""

    @property
    def source(self) -> str:
        """Who this is, for messages."""
        return f"plugin {self.name!r} of {self.distribution} {self.version}".rstrip()

    def fail(self, error: str, traceback: str = "") -> None:
        """Mark the plugin as broken."""
        self.state, self.error, self.traceback = "broken", error, traceback

    def note(self, error: str) -> None:
        """Say what of it cannot be used, though the rest can."""
        if error not in self.error:
            self.error = f"{self.error}; {error}" if self.error else error

    def public(self) -> PluginState:
        """Return what may be shown."""
        return PluginState(
            name=self.name,
            distribution=self.distribution,
            version=self.version,
            group=self.group,
            state=self.state,
            seconds=self.seconds,
            error=self.error,
            traceback=self.traceback,
        )


def installed(
    allow: Iterable[str] | None = None, deny: Iterable[str] = (), environ: Mapping[str, str] | None = None
) -> list[Plugin]:
    """Return the plugins that metadata tells of, what is built in first, with what may not be imported marked so."""
    permits = _permits(allow, deny, (os.environ if environ is None else environ).get(VARIABLE, ""))
    found = [_read(entry, entry.group, permits) for entry in _entries()]
    found.sort(key=lambda plugin: (plugin.distribution != OURS, _canonical(plugin.distribution), plugin.name))
    _settle_clashes(found)
    return found


def _entries() -> list[EntryPoint]:
    """Return the entry points of our groups; the distributions, which are many, are looked through once."""
    try:
        known = entry_points()
        return [entry for group in (PROVIDERS, OTHERS) for entry in known.select(group=group)]
    except Exception:  # noqa: BLE001 - one unreadable distribution must not hide all others
        readable = list(_readable_entries())
        return [entry for group in (PROVIDERS, OTHERS) for entry in readable if entry.group == group]


def _readable_entries() -> Iterable[EntryPoint]:
    for distribution in distributions():
        try:
            entries = distribution.entry_points
        except Exception:  # noqa: BLE001, S112 - its metadata cannot be read: it offers nothing
            continue
        yield from entries


def _read(entry: EntryPoint, group: str, permits: Callable[[str, str], str]) -> Plugin:
    """Make a plugin of its metadata, and decide whether it may be imported."""
    distribution, version, requires = "", "", []
    try:
        if entry.dist is not None:
            distribution, version, requires = entry.dist.name or "", entry.dist.version or "", entry.dist.requires or []
    except Exception as error:  # noqa: BLE001 - metadata of somebody else
        plugin = Plugin(entry=entry, name=entry.name, group=group, distribution=distribution, version=version)
        plugin.fail(f"its metadata cannot be read: {said(error)}")
        return plugin
    plugin = Plugin(entry=entry, name=entry.name, group=group, distribution=distribution, version=version)
    reason = permits(entry.name, distribution)
    if reason:
        plugin.state, plugin.error = "denied", reason
    elif distribution != OURS:
        wanted = _other_version(requires)
        if wanted:
            plugin.state = "other version"
            plugin.error = f"it wants flowcraft{wanted}, this is {__version__}"
    return plugin


def _other_version(requires: Iterable[str]) -> str:
    """Return the range of FlowCraft's version that is asked for and not met, or an empty text."""
    from packaging.requirements import InvalidRequirement, Requirement

    for line in requires:
        if not re.match(r"flowcraft(?![\w.-])", line, re.IGNORECASE):
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            return f" by {line!r}, which cannot be read"
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.specifier.contains(__version__, prereleases=True):
            return str(requirement.specifier)
    return ""


def _permits(allow: Iterable[str] | None, deny: Iterable[str], variable: str) -> Callable[[str, str], str]:
    """Return a function that says why a plugin is denied, or an empty text."""
    words = [word.strip() for word in variable.split(",") if word.strip()]
    denied = {
        **{_canonical(word[1:]): f"-{word[1:]} in {VARIABLE}" for word in words if word.startswith("-")},
        **{_canonical(name): "plugins.deny" for name in deny},
    }
    lists: list[tuple[str, set[str]]] = []
    if allow is not None:
        lists.append(("plugins.allow", {_canonical(name) for name in allow}))
    named = {_canonical(word) for word in words if not word.startswith("-")}
    if named:
        lists.append((VARIABLE, named))

    def permits(name: str, distribution: str) -> str:
        names = {_canonical(name), _canonical(distribution)}
        for known in names & denied.keys():
            return f"denied by {denied[known]}"
        if distribution != OURS:
            for place, allowed in lists:
                if not names & allowed:
                    return f"not among those allowed by {place}"
        return ""

    return permits


def _settle_clashes(plugins: Iterable[Plugin]) -> None:
    """Of several plugins with one name in one group, let the first stay: what is built in, else by distribution name."""
    holders: dict[tuple[str, str], Plugin] = {}
    for plugin in plugins:
        if plugin.state != "not imported":
            continue
        holder = holders.setdefault((plugin.group, plugin.name), plugin)
        if plugin.group == PROVIDERS and holder is not plugin:
            plugin.state = "denied"
            plugin.error = f"{plugin.name!r} is offered by {holder.distribution} already; to use this one, deny that one"


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
