"""One table from error class to exit code, and the border where errors become words."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict

from flowcraft.errors import FlowCraftError, SettingsError, WorkflowError

DONE, FAILED, WRONG, WAITING, OFFLINE, INTERRUPTED = 0, 1, 2, 3, 4, 130

STATES = {"done": DONE, "running": DONE, "waiting": WAITING, "interrupted": INTERRUPTED}
"""Exit code by the state in which a run ended, or goes on in another process; every other state is FAILED."""


def code_of(error: BaseException) -> int:
    """Return the exit code of an error."""
    if isinstance(error, WorkflowError | SettingsError):
        return WRONG
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED


def explain(error: FlowCraftError) -> None:
    """Print an error of ours: its problems one by one where it has any."""
    from flowcraft.cli.console import print_error, print_problems

    problems = getattr(error, "problems", ())
    if problems:
        print_problems(problems)
    else:
        print_error(str(error))


def guarded(command: Callable[[], int | None], as_json: bool = False) -> int:
    """Carry a command out; return its exit code. No error leaves as a traceback; FLOWCRAFT_DEBUG=1 shows it.

    ``as_json`` says that a program reads the output: an error is one JSON document too.
    """
    try:
        return command() or DONE
    except FlowCraftError as error:
        explain(error)
        if as_json:
            from flowcraft.cli.console import print_json

            problems = [asdict(problem) for problem in getattr(error, "problems", ())]
            print_json({"error": str(error), "kind": type(error).__name__, "problems": problems})
        return code_of(error)
    except KeyboardInterrupt:
        _print_error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output (head, a pager) has seen enough; the interpreter must not flush into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:  # noqa: BLE001 - border: a person must never be shown a traceback unasked
        if os.environ.get("FLOWCRAFT_DEBUG"):
            traceback.print_exc()
        _print_error(f"a fault of FlowCraft itself: {type(error).__name__}: {error}; FLOWCRAFT_DEBUG=1 shows where")
        return FAILED


def _print_error(message: str) -> None:
    from flowcraft.cli.console import print_error  # Rich is loaded when there is something to print

    print_error(message)
