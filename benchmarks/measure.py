"""Child processes, interleaved rounds, medians, and tables with targets."""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a number must be at most (or at least)."""

    value: float
    limit: float
    least: bool = False

    @property
    def reached(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.least else '<='} {self.limit:g}: {'reached' if self.reached else 'NOT REACHED'}"


def environment(**more: str) -> dict[str, str]:
    """The environment of a measured child: bytecode is kept, as on a user's machine, and no settings come from outside."""
    left_out = {"PYTHONDONTWRITEBYTECODE", "COVERAGE_PROCESS_START"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out and not name.startswith("FLOWCRAFT_")}
    return {**kept, "PYTHONPATH": str(ROOT), "LANGSMITH_TRACING": "false", **more}


def python(*arguments: str, interpreter: str = sys.executable, **more: str) -> str:
    """Run a child of this interpreter, or of another one, and return what it printed."""
    done = subprocess.run(
        [interpreter, *arguments], env=environment(**more), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout


def answer(*arguments: str, interpreter: str = sys.executable, **more: str) -> dict[str, Any]:
    """Run a child and return the JSON object in its last line."""
    found: dict[str, Any] = json.loads(python(*arguments, interpreter=interpreter, **more).strip().splitlines()[-1])
    return found


def killed(*arguments: str, **more: str) -> None:
    """Run a child that kills itself."""
    done = subprocess.run(
        [sys.executable, *arguments], env=environment(**more), cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != -signal.SIGKILL:
        raise RuntimeError(f"{' '.join(arguments)} was not killed:\n{done.stderr[-4000:]}")


def wall(*arguments: str, **more: str) -> float:
    """Return how many seconds a child took, from its start to its end."""
    begun = time.perf_counter()
    python(*arguments, **more)
    return time.perf_counter() - begun


def in_folder(measure: Callable[[str], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Give each measurement an empty folder of its own."""

    def measured() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="flowcraft-bench-") as folder:
            return measure(folder)

    return measured


def interleaved(measures: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """Take every measurement once a round, so that what slows the machine down meanwhile slows all of them."""
    found: dict[str, list[Any]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def median(found: Iterable[Any], key: str | None = None) -> float:
    """Return the median of numbers, or of one number in each answer."""
    return statistics.median(one if key is None else one[key] for one in found)


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; targets that are not reached are red."""
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*map(_cell, row))
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(f"[bold]{title}[/]")
    console.print(table)
    console.print()


def _cell(value: object) -> str:
    if isinstance(value, Target):
        return f"[{'green' if value.reached else 'red'}]{value}[/]"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.3g}"
    return str(value)
