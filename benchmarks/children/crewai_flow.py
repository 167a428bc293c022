"""CrewAI's Flow with its SQLite persistence: `python -m benchmarks.children.crewai_flow KIND COUNT SIZE FOLDER`.

KIND is row (each step after the one before) or once (all from the start). Every result stays in the state, as FlowCraft keeps
every stage's result; ``@persist`` saves the state behind each step. Needs an environment with crewai, as `make test-crewai`
makes one.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flowcraft.crewai.library import load_library

load_library()

from crewai.flow.flow import Flow, listen, start  # noqa: E402
from crewai.flow.persistence import SQLiteFlowPersistence, persist  # noqa: E402


def step(name: str, text: str) -> Callable[[Any], str]:
    def run(self: Any) -> str:
        self.state[name] = f"{name} {text}"
        return name

    run.__name__ = name
    return run


def flow(kind: str, count: int, size: int, database: Path) -> Any:
    methods: dict[str, Any] = {}
    before: Any = None
    for number in range(count):
        name = f"s{number}"
        marked = start() if kind == "once" or before is None else listen(before)
        before = methods[name] = marked(step(name, "x" * size))
    made: Any = type(Flow)("Measured", (Flow,), {**methods, "__module__": __name__})
    return persist(SQLiteFlowPersistence(str(database)))(made)


def measure(kind: str, count: int, size: int, folder: Path) -> dict[str, float]:
    flow("row", 2, size, folder / "crewai.db")(suppress_flow_events=True).kickoff()
    made = flow(kind, count, size, folder / "crewai.db")(suppress_flow_events=True)
    begun = time.perf_counter()
    made.kickoff()
    seconds = time.perf_counter() - begun
    found = [name for name in made.state if name.startswith("s")]
    assert len(found) == count, found
    return {"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    kind, count, size, folder = sys.argv[1:]
    print(json.dumps(measure(kind, int(count), int(size), Path(folder))))
