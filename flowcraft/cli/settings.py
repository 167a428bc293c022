"""``flowcraft settings``: what is in force, where it came from, what is wrong with it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from flowcraft.cli.console import print_json, print_problems, stdout
from flowcraft.cli.options import AsJson, SettingsPath

if TYPE_CHECKING:
    from flowcraft.discovery import Plugins
    from flowcraft.errors import Problem
    from flowcraft.settings import Entry, Settings

_WIDE = 400
"""Columns of a table that goes into a file or a pipe: nothing is folded there."""


def settings(
    settings: SettingsPath = None,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out what is as it is by default.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show which settings are in force and where they came from. Secrets are masked; what is wrong is told with its line."""
    from flowcraft.discovery import discover
    from flowcraft.settings import load_settings

    page = load_settings(settings)
    plugins = discover(allow=page.plugins.allow, deny=page.plugins.deny, environ=page.environment)
    page = page.with_providers(plugins.provider_names())
    states, warnings = _check_providers(page, plugins)
    entries = [entry for entry in page.explain() if not changed or entry.source != "default"]
    warnings += page.warnings
    if as_json:
        print_json(
            {
                "file": page.file or None,
                "settings": [asdict(entry) for entry in entries],
                "providers": states,
                "chain": {"tier": page.default_tier, "models": list(page.chain_for().names)},
                "warnings": [str(warning) for warning in warnings],
            }
        )
        return
    console = stdout(None if sys.stdout.isatty() else _WIDE)
    console.print(f"file: {page.file or 'none (defaults and environment)'}")
    for state in states:
        console.print(f"provider {state['name']}: {state['state']}")
    console.print(f"default chain ({page.default_tier}): {', '.join(page.chain_for().names) or 'empty'}")
    if entries:
        console.print(_table(entries))
    print_problems(warnings)


def _table(entries: list[Entry]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("key", "value", "from", "note"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "key")
    for entry in entries:
        style = "dim" if entry.source == "default" else ""
        cells = (entry.key, _readable(entry.value), entry.source, entry.note)
        table.add_row(*(Text(cell, style=style) for cell in cells))
    return table


def _readable(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value in (None, {}) else str(value)


def _check_providers(page: Settings, plugins: Plugins) -> tuple[list[dict[str, str]], list[Problem]]:
    """Return the state of every provider, and warnings of keys that nobody knows; raises SettingsError for wrong ones."""
    from pydantic import ValidationError

    from flowcraft.errors import PluginError, SettingsError

    states: list[dict[str, str]] = []
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for name in dict.fromkeys([*page.providers, *page.configured_providers()]):
        section = page.providers.get(name)
        kind = (section.type if section else None) or name
        state = page.unconfigured(name) or "configured"
        try:
            preset = plugins.provider(kind)
            if preset is None:
                raise PluginError(f"no installed plugin offers the provider {kind!r}")
            config = plugins.provider_class(kind).Config
        except PluginError as error:
            states.append({"name": name, "state": error.message})
            continue
        states.append({"name": name, "state": state})
        given = section.config if section else {}
        strangers = {key for key in page.loose_keys(name) if key in given and key not in config.model_fields}
        warnings += [
            page.problem_at(
                ("providers", name, key), f"the provider {kind!r} does not know the key {key!r}; it is kept", warning=True
            )
            for key in sorted(strangers)
        ]
        if state != "configured":
            continue
        try:
            key = {"api_key": page.key(name)} if page.key(name) else {}
            config.model_validate({**preset.config, **{key: given[key] for key in given if key not in strangers}, **key})
        except ValidationError as error:
            wrong = page.provider_problems(name, error, config)
            if section is None:  # found by its key in the environment alone: it keeps nothing else from working
                states[-1]["state"] = "; ".join(map(str, wrong))
            else:
                problems += wrong
    if problems:
        raise SettingsError(problems=problems)
    return states, warnings
