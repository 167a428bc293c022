"""The reference of all commands as Markdown, made from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

HEAD = """# Command line

<!-- Made by `make generated` from the commands themselves; do not edit. -->

Results go to standard output, messages to standard error. With `--json` standard output holds exactly one JSON document.
The exit codes are listed under [Errors and exit codes](errors.md).
"""


def cli_reference() -> str:
    """Return the page `docs/cli.md`."""
    from flowcraft.cli.app import build

    root = typer.main.get_command(build())
    parts = [HEAD, *(text for path, command in walk(root) for text in _entry(path, command))]
    return "\n".join(parts)


def walk(command: Any, path: tuple[str, ...] = ("flowcraft",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command below ``command``, itself included, with the words that call it. Hidden ones are left out."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from walk(child, (*path, name))


def _entry(path: tuple[str, ...], command: Any) -> Iterator[str]:
    yield f"{'#' * (len(path) + 1)} `{' '.join(path)}`\n"
    if command.help:
        yield inspect.cleandoc(command.help) + "\n"
    parameters = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    if not getattr(command, "commands", None):
        arguments = (_usage(parameter) for parameter in parameters if not _is_option(parameter))
        yield f"```console\n$ {' '.join((*path, *arguments))}\n```\n"
    if parameters:
        rows = [f"| {_names(parameter)} | {_meaning(parameter)} |" for parameter in parameters]
        yield "\n".join(["| argument or option | meaning |", "|---|---|", *rows]) + "\n"


def _is_option(parameter: Any) -> bool:
    return any(name.startswith("-") for name in parameter.opts)


def _usage(parameter: Any) -> str:
    name = parameter.metavar or str(parameter.name).upper()
    return (name if parameter.required else f"[{name}]") + ("..." if parameter.nargs == -1 else "")


def _names(parameter: Any) -> str:
    if not _is_option(parameter):
        return f"`{parameter.metavar or str(parameter.name).upper()}`"
    takes = "" if parameter.is_flag else f" {parameter.metavar or str(parameter.name).upper()}"
    return ", ".join(f"`{name}{takes}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _meaning(parameter: Any) -> str:
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    if parameter.required:
        return f"{text} Required.".strip()
    if getattr(parameter, "multiple", False):
        text = f"{text} May be repeated.".strip()
    if parameter.default in (None, False, "", ()) or callable(parameter.default):
        return text
    return f"{text} Default: `{parameter.default}`.".strip()
