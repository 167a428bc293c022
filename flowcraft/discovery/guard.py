"""Calls of other people's code: on a daemon thread, with a limit, whatever they raise."""

from __future__ import annotations

import threading
import time
import traceback as tracebacks
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a guarded call came to: a value, or an error that says what happened."""

    value: Any = None
    error: str = ""
    traceback: str = ""
    seconds: float = 0.0


def guarded(call: Callable[[], Any], limit: float) -> Outcome:
    """Run ``call`` on a daemon thread for at most ``limit`` seconds; whatever it raises becomes an outcome."""
    outcomes: list[Outcome] = []
    started = time.perf_counter()

    def work() -> None:
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit and KeyboardInterrupt included
            told = "".join(tracebacks.format_exception(error))
            outcomes.append(Outcome(error=said(error), traceback=told, seconds=time.perf_counter() - started))
        else:
            outcomes.append(Outcome(value=value, seconds=time.perf_counter() - started))

    thread = threading.Thread(target=work, name="flowcraft-plugin", daemon=True)
    thread.start()
    thread.join(limit)
    if outcomes:
        return outcomes[0]
    return Outcome(error=f"not done after {limit:g} s", seconds=time.perf_counter() - started)


def said(error: BaseException) -> str:
    """Return what an error says, in one line."""
    if isinstance(error, SystemExit):
        return f"it ended the program (SystemExit: {error.code})"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
