"""The section ``mcp``: the MCP servers whose tools prompts may name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flowcraft.workflow.loading.reading import Path, Reading, plain_kind
from flowcraft.workflow.schema import Value

SERVER_KEYS = ("command", "args", "env", "url", "headers")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def read_servers(reading: Reading, data: Any) -> dict[str, Mapping[str, Value]]:
    """Read all servers, by name."""
    found: dict[str, Mapping[str, Value]] = {}
    for name, written in reading.mapping(("mcp",), data, "'mcp'").items():
        path: Path = ("mcp", name)
        if not _NAME.fullmatch(name):
            reading.problem(path, f"'{name}' cannot name a server: letters, digits, '_' and '-', no digit first", key=True)
        found[name] = _server(reading, path, written)
    return found


def _server(reading: Reading, path: Path, data: Any) -> Mapping[str, Value]:
    if not isinstance(data, Mapping):
        hint = f"write {path[-1]}: {{command: ...}}, or {{url: ...}}"
        reading.problem(path, f"a server must be a mapping of keys, not {plain_kind(data)}", hint, key=data is None)
        return {}
    reading.choose(path, data, SERVER_KEYS, "a server")
    if ("command" in data) == ("url" in data):
        message = "a server has a 'command' or a 'url', not both" if "url" in data else "the server lacks 'command' or 'url'"
        reading.problem(path, message, "a command is started here, a url is asked over HTTP", key=True)
    for key in ("args", "env", "headers"):
        other = "command" if key == "headers" else "url"
        if key in data and other in data:
            reading.problem((*path, key), f"'{key}' is not for a server with a '{other}'", key=True)
    for key in ("command", "url"):
        if key in data:
            _text(reading, (*path, key), data[key])
    if data.get("args") is not None:
        _args(reading, (*path, "args"), data["args"])
    for key in ("env", "headers"):
        for name, part in reading.mapping((*path, key), data.get(key), f"'{key}'").items():
            _text(reading, (*path, key, name), part)
    return {key: reading.value((*path, key), part, "mcp") for key, part in data.items() if key in SERVER_KEYS}


def _args(reading: Reading, path: Path, data: Any) -> None:
    if not isinstance(data, list):
        reading.problem(path, f"'args' must be a list of texts, not {plain_kind(data)}", "write args: [--port, '1']")
        return
    for index, part in enumerate(data):
        _text(reading, (*path, index), part)


def _text(reading: Reading, path: Path, data: Any) -> None:
    if not isinstance(data, str):
        reading.problem(path, f"'{path[-1]}' must be text, not {plain_kind(data)}", "put it in quotes")
    elif not data.strip():
        reading.problem(path, f"'{path[-1]}' is empty")
