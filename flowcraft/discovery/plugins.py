"""The installed plugins at work: imported as late as possible, called one at a time, each in a guard of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any, TypeVar, cast

import pluggy

from flowcraft.discovery.guard import guarded
from flowcraft.discovery.metadata import OTHERS, OURS, PROVIDERS, Plugin, PluginState, installed
from flowcraft.errors import PluginError
from flowcraft.plugin import hooks
from flowcraft.plugin.agents import AgentRunner
from flowcraft.plugin.capabilities import ModelInfo
from flowcraft.plugin.commands import Command
from flowcraft.plugin.hooks import Preset
from flowcraft.plugin.judges import Judge
from flowcraft.plugin.provider import Provider
from flowcraft.plugin.stages import StageBody
from flowcraft.plugin.tools import Tool

LIMIT = 10.0
SLOW = 1.0

T = TypeVar("T")


def discover(
    *,
    allow: Iterable[str] | None = None,
    deny: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
    limit: float = LIMIT,
    slow: float = SLOW,
) -> Plugins:
    """Find the installed plugins by their metadata; import nothing.

    ``allow`` and ``deny`` hold names of plugins or distributions, as ``FLOWCRAFT_PLUGINS`` does (``one,two,-three``); what is
    built in needs no allowing, but can be denied. ``limit`` is the seconds that one import or hook may take; what takes
    more than ``slow`` works and is listed as slow.
    """
    return Plugins(installed(allow, deny, environ), limit=limit, slow=slow)


class Plugins:
    """The installed plugins: what they offer, imported as late as possible, and the state of each. Safe to share by threads."""

    def __init__(self, plugins: Iterable[Plugin] = (), *, limit: float = LIMIT, slow: float = SLOW) -> None:
        self._plugins = tuple(plugins)
        self._slow = slow
        self._limit = limit
        self._registered: dict[str, Preset] = {}
        self._lock = threading.RLock()

    def states(self) -> list[PluginState]:
        """Return the state of every entry point, what is built in first."""
        return [plugin.public() for plugin in self._plugins]

    def load_all(self) -> None:
        """Import every plugin that is not denied, one after the other."""
        for plugin in self._plugins:
            self._load(plugin)

    def provider_names(self) -> tuple[str, ...]:
        """Return the names of provider types and presets that metadata and registrations tell; nothing is imported."""
        told = [
            plugin.name
            for plugin in self._plugins
            if plugin.group == PROVIDERS and plugin.state not in ("denied", "other version")
        ]
        offered = [name for plugin in self._plugins for name in plugin.offers]
        return tuple(dict.fromkeys([*told, *offered, *self._registered]))

    def provider(self, name: str) -> Preset | None:
        """Return the provider type or preset ``name``, None if nobody offers it; imports only the plugin that does.

        Raises PluginError if the plugin that offers it is denied or broken.
        """
        if name in self._registered:
            return self._registered[name]
        named = [plugin for plugin in self._plugins if plugin.group == PROVIDERS and plugin.name == name]
        usable = next((plugin for plugin in named if plugin.state not in ("denied", "other version")), None)
        if usable is not None:
            self._load(usable)
            if name in usable.offers:
                return usable.offers[name]
            if not usable.error:
                usable.note(f"flowcraft_providers() does not return {name!r}")
            raise PluginError(_unusable(name, usable))
        if named:
            raise PluginError(_unusable(name, named[0]))
        self._load_group(OTHERS)
        return next((plugin.offers[name] for plugin in self._plugins if name in plugin.offers), None)

    def provider_class(self, name: str) -> type[Provider]:
        """Return the class behind ``name``. Raises PluginError if there is none or it cannot be imported."""
        preset = self.provider(name)
        if preset is None:
            raise PluginError(f"no installed plugin offers the provider {name!r}")
        if not isinstance(preset.provider, str):
            return preset.provider
        path = preset.provider
        outcome = guarded(lambda: _resolve(path, Provider), self._limit)
        if outcome.error:
            self._blame(name, f"{path} cannot be used: {outcome.error}", outcome.traceback)
            raise PluginError(f"provider {name!r}: {path} cannot be used: {outcome.error}; see: flowcraft plugins show {name}")
        found: type[Provider] = outcome.value
        return found

    def register_provider(self, name: str, provider: type[Provider] | str | Preset) -> None:
        """Offer ``provider`` as ``name`` in this process; an installed plugin's gives way, a built-in does not."""
        if any(plugin.name == name and plugin.distribution == OURS for plugin in self._plugins if plugin.group == PROVIDERS):
            raise PluginError(f"provider {name!r} is built in and cannot be replaced; register it under another name")
        preset = provider if isinstance(provider, Preset) else Preset(provider=provider)
        offered: Any = preset.provider
        if not isinstance(offered, str) and not _is_subclass(offered, Provider):
            raise PluginError(f"provider {name!r}: {offered!r} is no subclass of flowcraft.plugin.Provider")
        with self._lock:
            self._registered[name] = preset

    def models(self, provider: str, config: Mapping[str, Any]) -> list[ModelInfo]:
        """Return what plugins know of the models of ``provider``: its own plugin first, then all others that are loaded."""
        own = [
            plugin
            for plugin in self._plugins
            if provider in plugin.offers or (plugin.group, plugin.name) == (PROVIDERS, provider)
        ]
        for plugin in own:
            self._load(plugin)
        loaded = _once_each([*own, *self._plugins])
        return [
            model
            for plugin in loaded
            for model in self._call(plugin, "flowcraft_models", ModelInfo, provider=provider, config=config)
        ]

    def bodies(self) -> dict[str, type[StageBody]]:
        """Return the stage bodies by their keys. Of two with one key the first stays, and the other's plugin says so."""
        return {key: body for key, (body, _) in self._bodies().items()}

    def _bodies(self) -> dict[str, tuple[type[StageBody], Plugin]]:
        found: dict[str, tuple[type[StageBody], Plugin]] = {}
        self._load_group(OTHERS)
        for plugin in _once_each(self._plugins):
            for body in self._bodies_of(plugin):
                if body.key in found:
                    plugin.note(f"stage key {body.key!r} is taken by {found[body.key][1].source}")
                    continue
                found[body.key] = (body, plugin)
        return found

    def _bodies_of(self, plugin: Plugin) -> tuple[type[StageBody], ...]:
        """Return the bodies of one plugin, which is asked for them once, as for its providers: every run needs them."""
        with self._lock:
            if plugin.bodies is None:
                offered = self._call(plugin, "flowcraft_stage_bodies", (str, type))
                plugin.bodies = tuple(body for one in offered if (body := self._body(plugin, one)) is not None)
            return plugin.bodies

    def tools(self, made: Callable[[Callable[..., Any]], Tool]) -> dict[str, Tool]:
        """Return the tools by their names; ``made`` makes one of a function. Of two with one name the first stays."""
        return {name: tool for name, (tool, _) in self._tools(made).items()}

    def _tools(self, made: Callable[[Callable[..., Any]], Tool]) -> dict[str, tuple[Tool, Plugin]]:
        found: dict[str, tuple[Tool, Plugin]] = {}
        self._load_group(OTHERS)
        for plugin in _once_each(self._plugins):
            for offered in self._call(plugin, "flowcraft_tools", (Tool, Callable)):
                outcome = guarded(partial(_as_tool, offered, made), self._limit)
                if outcome.error:
                    plugin.fail(f"tool {offered!r} cannot be used: {outcome.error}", outcome.traceback)
                elif (name := outcome.value.spec.name) in found:
                    plugin.note(f"tool {name!r} is offered by {found[name][1].source} already")
                else:
                    found[name] = (outcome.value, plugin)
        return found

    def owner(self, kind: str, name: str, made: Callable[[Callable[..., Any]], Tool]) -> PluginState | None:
        """Return the plugin that offers the body, tool, runner or provider (``kind``) of this name; None where nobody does.

        Of a provider that its metadata names nothing is imported; ``made`` makes a tool of a function.
        """
        if kind == "provider":
            told = [plugin for plugin in self._plugins if (plugin.group, plugin.name) == (PROVIDERS, name)]
            usable = [plugin for plugin in told if plugin.state not in ("denied", "other version")]
            if not told:
                self._load_group(OTHERS)
            offering = [plugin for plugin in self._plugins if name in plugin.offers]
            found = next(iter([*usable, *offering, *told]), None)
        else:
            offered: Mapping[str, tuple[Any, Plugin]]
            offered = self._bodies() if kind == "body" else self._runners() if kind == "runner" else self._tools(made)
            found = offered[name][1] if name in offered else None
        return found.public() if found is not None else None

    def sinks(self) -> list[Callable[[Any], None]]:
        """Return the event sinks of all plugins."""
        return self._collect("flowcraft_event_sinks", Callable)

    def judges(self) -> dict[str, Judge]:
        """Return the judges by their names. Of two with one name the first stays, and the other's plugin says so."""
        found: dict[str, Judge] = {}
        owners: dict[str, Plugin] = {}
        self._load_group(OTHERS)
        for plugin in _once_each(self._plugins):
            for offered in self._call(plugin, "flowcraft_judges", (str, type)):
                outcome = guarded(partial(_judge, offered), self._limit)
                if outcome.error:
                    plugin.fail(f"judge {offered!r} cannot be used: {outcome.error}", outcome.traceback)
                elif (judge := outcome.value).name in found:
                    plugin.note(f"judge {judge.name!r} is offered by {owners[judge.name].source} already")
                else:
                    found[judge.name], owners[judge.name] = judge, plugin
        return found

    def agent_runners(self) -> dict[str, AgentRunner]:
        """Return the agent runners by their names. Of two with one name the first stays, and the other's plugin says so."""
        return {name: runner for name, (runner, _) in self._runners().items()}

    def _runners(self) -> dict[str, tuple[AgentRunner, Plugin]]:
        found: dict[str, tuple[AgentRunner, Plugin]] = {}
        self._load_group(OTHERS)
        for plugin in _once_each(self._plugins):
            for offered in self._call(plugin, "flowcraft_agent_runners", (str, type)):
                outcome = guarded(partial(_runner, offered), self._limit)
                if outcome.error:
                    plugin.note(f"agent runner {offered!r} cannot be used: {outcome.error}")
                elif (runner := outcome.value).name in found:
                    plugin.note(f"agent runner {runner.name!r} is offered by {found[runner.name][1].source} already")
                else:
                    found[runner.name] = (runner, plugin)
        return found

    def commands(self) -> list[Command]:
        """Return the commands of all plugins."""
        return self._collect("flowcraft_commands", Command)

    def _collect(self, hook: str, kind: Any) -> list[Any]:
        self._load_group(OTHERS)
        return [item for plugin in _once_each(self._plugins) for item in self._call(plugin, hook, kind)]

    def _load_group(self, group: str) -> None:
        for plugin in self._plugins:
            if plugin.group == group:
                self._load(plugin)

    def _load(self, plugin: Plugin) -> None:
        with self._lock:
            if plugin.state != "not imported":
                return
            outcome = guarded(lambda: _register(plugin.entry), self._limit)
            plugin.seconds = outcome.seconds
            if outcome.error:
                plugin.fail(outcome.error, outcome.traceback)
                return
            plugin.manager = outcome.value
            plugin.state = "slow" if outcome.seconds > self._slow else "ready"
            plugin.offers = self._offers(plugin)

    def _offers(self, plugin: Plugin) -> dict[str, Preset]:
        offers: dict[str, Preset] = {}
        for mapping in self._call(plugin, "flowcraft_providers", Mapping):
            for name, offered in mapping.items():
                preset = offered if isinstance(offered, Preset) else Preset(provider=offered)
                taken = next((other for other in self._plugins if other is not plugin and name in other.offers), None)
                if taken is not None and taken.distribution != plugin.distribution:
                    plugin.note(f"provider {name!r} is offered by {taken.source} already")
                else:
                    offers[name] = preset
        return offers

    def _call(self, plugin: Plugin, hook: str, kind: Any, **arguments: Any) -> list[Any]:
        """Call one plugin's implementation and return the items it gave, flat; what is wrong is noted at the plugin."""
        manager = plugin.manager
        if manager is None:
            return []
        outcome = guarded(lambda: _flat(getattr(manager.hook, hook)(**arguments)), self._limit)
        if outcome.error:
            plugin.fail(f"{hook}() failed: {outcome.error}", outcome.traceback)
            return []
        fitting = [item for item in outcome.value if isinstance(item, kind)]
        if len(fitting) < len(outcome.value):
            wrong = next(item for item in outcome.value if not isinstance(item, kind))
            plugin.fail(f"{hook}() returned {wrong!r}, which is of the wrong type")
        return fitting

    def _body(self, plugin: Plugin, offered: str | type) -> type[StageBody] | None:
        outcome = guarded(lambda: _resolve(offered, StageBody), self._limit)
        if outcome.error:
            plugin.fail(f"stage body {offered!r} cannot be used: {outcome.error}", outcome.traceback)
            return None
        body: type[StageBody] = outcome.value
        if not body.key:
            plugin.fail(f"stage body {offered!r} has no key")
            return None
        return body

    def _blame(self, provider: str, error: str, traceback: str) -> None:
        for plugin in self._plugins:
            if provider in plugin.offers:
                plugin.fail(error, traceback)


def _register(entry: EntryPoint) -> pluggy.PluginManager:
    """Import a plugin and check its hooks; a manager of its own keeps its calls apart from everybody else's."""
    manager = pluggy.PluginManager("flowcraft")
    manager.add_hookspecs(hooks)
    manager.register(entry.load(), name=entry.name)
    manager.check_pending()
    return manager


def _resolve(offered: str | type, kind: type[T]) -> type[T]:
    found: Any = offered
    if isinstance(offered, str):
        module, _, name = offered.partition(":")
        found = getattr(import_module(module), name)
    if not _is_subclass(found, kind):
        raise TypeError(f"{found!r} is no subclass of flowcraft.plugin.{kind.__name__}")
    return cast("type[T]", found)


def _as_tool(offered: Tool | Callable[..., Any], made: Callable[[Callable[..., Any]], Tool]) -> Tool:
    return offered if isinstance(offered, Tool) else made(offered)


def _judge(offered: str | type) -> Judge:
    found = _resolve(offered, object)
    if not callable(getattr(found, "compare", None)):
        raise TypeError(f"{found!r} has no method compare")
    judge = cast("Judge", found())
    if not isinstance(getattr(judge, "name", None), str) or not judge.name:
        raise TypeError(f"{found!r} has no name")
    return judge


def _runner(offered: str | type) -> AgentRunner:
    found = _resolve(offered, object)
    lacking = [name for name in ("missing", "prepare", "run") if not callable(getattr(found, name, None))]
    if lacking:
        raise TypeError(f"{found!r} has no method {lacking[0]}")
    runner = cast("AgentRunner", found())
    if not isinstance(getattr(runner, "name", None), str) or not runner.name:
        raise TypeError(f"{found!r} has no name")
    return runner


def _is_subclass(found: Any, kind: type) -> bool:
    return isinstance(found, type) and issubclass(found, kind)


def _flat(results: Sequence[Any]) -> list[Any]:
    return [item for result in results for item in ([result] if isinstance(result, Mapping) else list(result))]


def _once_each(plugins: Iterable[Plugin]) -> list[Plugin]:
    """Leave out entry points that name the same module again: their hooks are the same."""
    seen: dict[tuple[str, str], Plugin] = {}
    for plugin in plugins:
        if plugin.manager is not None:
            seen.setdefault((plugin.distribution, plugin.entry.value), plugin)
    return list(seen.values())


def _unusable(name: str, plugin: Plugin) -> str:
    state = {"other version": "is for another version", "denied": "is denied"}.get(plugin.state, "is broken")
    reason = f": {plugin.error}" if plugin.error else ""
    return f"provider {name!r} of {plugin.distribution} {plugin.version} {state}{reason}; see: flowcraft plugins show {name}"
