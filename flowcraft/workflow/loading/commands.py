"""The command of a ``shell``: text that no value stands in, and the variables that bring values to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flowcraft.workflow.expressions.template import OPENING
from flowcraft.workflow.loading.reading import Path, Reading, plain_kind
from flowcraft.workflow.schema import Shell
from flowcraft.workflow.types.type import INTEGER, STRING, Enumeration, Fields, Type

SHELL_RESULT = Fields(fields={"exit_code": INTEGER, "stdout": STRING, "stderr": STRING})

LONGEST_COMMAND = 100_000

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TEMPLATE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)

_BASHS_OWN = frozenset(
    {"BASHOPTS", "BASHPID", "BASH_ENV", "BASH_VERSINFO", "BASH_VERSION", "COMP_WORDBREAKS", "DIRSTACK", "ENV", "EPOCHREALTIME"}
    | {"EPOCHSECONDS", "EUID", "FUNCNAME", "GROUPS", "HISTCMD", "HOSTTYPE", "IFS", "LINENO", "MACHTYPE", "OLDPWD", "OPTIND"}
    | {"OSTYPE", "PIPESTATUS", "POSIXLY_CORRECT", "PPID", "PS4", "PWD", "RANDOM", "SECONDS", "SHELLOPTS", "SHLVL", "SRANDOM"}
    | {"UID", "_"}
)
"""Variables that bash sets itself, or takes for instructions: a value given under such a name is lost or carried out."""


def read_shell(reading: Reading, path: Path, data: Mapping[str, Any]) -> Shell | None:
    """Return the command of the stage at ``path``, None where it is wrong; its variables are looked at too."""
    at = (*path, "shell")
    command = data["shell"]
    arguments = data.get("with")
    _check_variables(reading, (*path, "with"), arguments if isinstance(arguments, Mapping) else {})
    if not isinstance(command, str):
        hint = "write the command as one text: 'git diff --stat'" if isinstance(command, list) else "write a command of bash"
        reading.problem(at, f"'shell' must be text, not {plain_kind(command)}", hint)
        return None
    if OPENING in command:
        _refuse_template(reading, at, command)
        return None
    if not command.strip():
        reading.problem(at, "the command is empty", key=True)
    elif len(command.encode("utf-8", "replace")) > LONGEST_COMMAND:
        reading.problem(at, "the command is longer than 100 KB", "put it into a file and call that", key=True)
    return Shell(command=command)


def prints_text(output: Type | None) -> bool:
    """Say whether what a command of this output type prints is taken as text, not as JSON."""
    bare = output.bare if output is not None else None
    return bare == STRING or isinstance(bare, Enumeration)


def _refuse_template(reading: Reading, at: Path, command: str) -> None:
    start = command.index(OPENING)
    found = _TEMPLATE.match(command, start)
    inner = found[1].strip() if found else ""
    words = re.findall(r"[A-Za-z_][A-Za-z0-9_]*", inner)
    name = next((word for word in reversed(words) if word not in _BASHS_OWN), "value")
    shown = f"${{{{ {inner} }}}}" if inner and len(inner) <= 60 and "\n" not in inner else "${{ ... }}"
    hint = f'write "${name}" in the command, and beside it with: {{{name}: {_quoted(shown)}}}'
    message = "'shell' takes no template: a value inside a command line is carried out as a part of it"
    reading.problem(at, message, hint, offset=start, width=found.end() - start if found else len(OPENING))


def _quoted(text: str) -> str:
    return f"'{text}'" if '"' in text else f'"{text}"'


def _check_variables(reading: Reading, path: Path, arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if not _VARIABLE.fullmatch(name):
            message = f"'{name}' cannot name a variable: letters, digits and '_' only, no digit first"
            mended = re.sub(r"\W", "_", name, flags=re.ASCII).lstrip("0123456789")
            reading.problem((*path, name), message, f"write {mended}" if _VARIABLE.fullmatch(mended) else "", key=True)
        elif name in _BASHS_OWN:
            message = f"'{name}' is a variable of bash's own, which would lose the value or carry it out"
            reading.problem((*path, name), message, f"write {name.strip('_').lower() or 'value'}_", key=True)
