"""How long the first things take: `import flowcraft` and `flowcraft --version`, above an empty Python."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from benchmarks.measure import Target, interleaved, median, show, wall

WORKFLOW = 'flowcraft: 1\nstages: {hello: {run: "hello:hello"}}\n'


def main(rounds: int = 15) -> None:
    """Measure, after one round that is not counted: it writes the bytecode."""
    with tempfile.TemporaryDirectory(prefix="flowcraft-bench-") as folder:
        path = Path(folder)
        (path / "hello.py").write_text("def hello() -> str:\n    return 'hello'\n", encoding="utf-8")
        (path / "hello.yaml").write_text(WORKFLOW, encoding="utf-8")
        (path / "settings.yaml").write_text(f"storage: sqlite:///{path}/flowcraft.db\n", encoding="utf-8")
        measures = {
            "python -c pass": ("-c", "pass"),
            "import flowcraft": ("-c", "import flowcraft"),
            "flowcraft --version": ("-m", "flowcraft", "--version"),
            "flowcraft --help": ("-m", "flowcraft", "--help"),
            "flowcraft run (one stage)": ("-m", "flowcraft", "run", str(path / "hello.yaml")),
        }
        settings = str(path / "settings.yaml")
        calls = {name: partial(wall, *given, FLOWCRAFT_SETTINGS=settings) for name, given in measures.items()}
        interleaved(calls, 1)
        found = {name: median(times) * 1000 for name, times in interleaved(calls, rounds).items()}
    empty = found["python -c pass"]
    targets = {
        "import flowcraft": lambda above, _: Target(value=above, limit=100),
        "flowcraft --version": lambda _, whole: Target(value=whole, limit=250),
    }
    rows = [
        (name, time, time - empty, targets[name](time - empty, time) if name in targets else "") for name, time in found.items()
    ]
    show(f"Startup, ms, medians of {rounds} interleaved rounds", ("", "whole", "above python", "target"), rows)
