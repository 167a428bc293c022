"""``shell``: a command of bash."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from flowcraft.engine.context import Context, LeavesValue
from flowcraft.engine.pieces.values import LARGEST
from flowcraft.errors import StageFailed
from flowcraft.plugin.stages import StageBody
from flowcraft.processes import Command, Outcome, carry_out, inherited
from flowcraft.workflow.expressions.template import inserted

LARGEST_VARIABLE = 100_000
"""Bytes of one value that a command is given as a variable; what is larger is piped."""

MOST_ERRORS = 100_000
"""Bytes of what a command wrote to stderr that are kept: the last ones."""

_SHOWN_ERRORS = 2_000
_MARGIN = 20_000  # read besides: a secret that the cut goes through is taken out before


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellAsk:
    """Which command; ``text`` says that what it prints is text, else it is JSON where the stage has an ``output``."""

    command: str
    text: bool = False


class ShellBody(StageBody):
    """Runs ``bash -e -o pipefail``; the rendered ``with`` becomes variables of its environment, ``stdin`` is piped."""

    key: ClassVar[str] = "shell"
    takes: ClassVar[frozenset[str]] = frozenset({"with", "output"})

    async def run(self, options: ShellAsk, context: Context) -> Any:  # type: ignore[override]  # the engine's own body
        """Run the command and return what the stage gives."""
        command = Command(
            bash=find_bash(),
            options=("-e", "-o", "pipefail"),
            script=options.command,
            environment={**inherited(os.environ), **context.environment, **_variables(context.arguments)},
            folder=context.started_in,
            stdin=inserted(context.arguments.get("stdin")).encode("utf-8", "surrogatepass"),
            most_out=LARGEST,
            most_err=MOST_ERRORS + _MARGIN,
        )
        try:
            outcome = await carry_out(command)
        except OSError as error:
            raise StageFailed(_not_started(error, context.started_in)) from None
        errors = _errors(outcome, context)
        if outcome.overflow:
            raise StageFailed("the command printed over 10 MB and was ended; write a file and print its path")
        result = {"exit_code": outcome.code, "stdout": _text(outcome.out), "stderr": errors}
        if outcome.code:
            message = _failed(outcome.code, errors)
            context.emit("the command failed", level="error", exit_code=outcome.code, stderr=errors)
            raise StageFailed(message) if context.output is not None else LeavesValue(message, result)
        if context.output is None:
            return result
        return _text(outcome.out).strip() if options.text else _read(outcome.out)


def why_no_shell(platform: str = os.name) -> str:
    """Return why no command can be run on this machine, nothing where one can."""
    if platform == "nt":
        return "'shell' does not run on Windows: call a function ('run')"
    return "" if shutil.which("bash") else "'shell' needs bash, and there is none on PATH"


def find_bash() -> str:
    """Return the path of bash; raise StageFailed where commands cannot be run."""
    reason = why_no_shell()
    if reason:
        raise StageFailed(reason)
    return shutil.which("bash") or "bash"


def _variables(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables that ``with`` makes; raise StageFailed for what none can hold."""
    variables = {}
    for name, value in arguments.items():
        if name == "stdin":
            continue
        text = inserted(value)
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > LARGEST_VARIABLE:
            large = f"the value of '{name}' has {size / 1000:,.0f} KB, and a variable holds at most 100"
            raise StageFailed(f"{large}; pipe it: with: {{stdin: ...}}")
        if "\0" in text:
            raise StageFailed(f"the value of '{name}' holds a NUL character, which no variable can; pipe it as 'stdin'")
        variables[name] = text
    return variables


def _not_started(error: OSError, folder: str) -> str:
    if error.errno == errno.E2BIG:
        return "the values of 'with' are too large together for the environment of a command; pipe the largest as 'stdin'"
    if not os.path.isdir(folder):
        return f"the folder where the run was started is gone: {folder}"
    return f"the command cannot be started: {error.strerror or error}"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _errors(outcome: Outcome, context: Context) -> str:
    """Return the end of what came on stderr, secrets taken out before it is cut."""
    text = context.redactor.text(_text(outcome.err))
    if not outcome.left_out and len(text) <= MOST_ERRORS:
        return text
    return f"... {text[-MOST_ERRORS:]}"


def _failed(code: int, errors: str) -> str:
    told = errors.strip()
    if len(told) > _SHOWN_ERRORS:
        told = f"... {told[-_SHOWN_ERRORS:]}"
    by = f" (ended by signal {code - 128})" if 128 < code < 128 + 65 else ""
    return f"exit code {code}{by}" + (f": {told}" if told else "")


def _read(raw: bytes) -> Any:
    """Return the one JSON value that a command printed."""
    if not raw.strip():
        raise StageFailed("the command printed nothing; with 'output', it prints one JSON value")
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        begins = _text(raw[:200]).strip()
        raise StageFailed(f"what the command printed is not one JSON value ({error}): {begins}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
