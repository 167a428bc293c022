"""CrewAI's Flow with its SQLite persistence: `python -m benchmarks.children.crewai_flow KIND COUNT SIZE FOLDER`.

KIND is row (each step after the one before) or once (all from the start). Every result stays in the state, as FlowCraft keeps
every stage's result; ``@persist`` saves the state behind each step. With BENCH_BODY the steps are commands (shell), flows of
two steps (group) or of one (uses), or a flow whose router comes back twice (until). Needs an environment with crewai, as
`make test-crewai` makes one.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flowcraft.crewai.library import load_library

load_library()

from crewai.flow.flow import Flow, listen, or_, router, start  # noqa: E402
from crewai.flow.persistence import SQLiteFlowPersistence, persist  # noqa: E402


def command(name: str, size: int) -> Callable[[Any], str]:
    def run(self: Any) -> str:
        environment = {"PATH": os.environ["PATH"], "name": name, "size": str(size)}
        script = 'printf "%s %0${size}d" "$name" 0'
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        self.state[name] = done.stdout
        return name

    run.__name__ = name
    return run


def inner(name: str, text: str, body: str, database: Path) -> Callable[[Any], Any]:
    """A step that carries out a flow of its own, saved behind each of its steps too."""
    methods: dict[str, Any] = {}
    if body == "until":

        def attempt(self: Any) -> str:
            self.state["tries"] = self.state.get("tries", 0) + 1
            self.state[name] = f"{name} {text}"
            return "done" if self.state["tries"] >= 3 else "again"

        methods["begin"] = start()(step("begin", ""))
        methods["attempt"] = router(or_(methods["begin"], "again"))(attempt)
        methods["finish"] = listen("done")(step("finish", ""))
    else:
        methods["first"] = start()(step("first", text))
        if body == "group":
            methods["second"] = listen(methods["first"])(step("second", text))
    made = persist(SQLiteFlowPersistence(str(database)))(type(Flow)("Inner", (Flow,), {**methods, "__module__": __name__}))

    async def run(self: Any) -> str:
        part = made(suppress_flow_events=True)
        await part.kickoff_async()
        assert body != "until" or part.state["tries"] == 3
        self.state[name] = part.state[name if body == "until" else "second" if body == "group" else "first"]
        return name

    run.__name__ = name
    return run


def body_of(name: str, size: int, database: Path) -> Callable[[Any], Any]:
    body = os.environ.get("BENCH_BODY", "")
    if body == "shell":
        return command(name, size)
    return inner(name, "x" * size, body, database) if body else step(name, "x" * size)


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
        before = methods[name] = marked(body_of(name, size, database))
    made: Any = type(Flow)("Measured", (Flow,), {**methods, "__module__": __name__})
    return persist(SQLiteFlowPersistence(str(database)))(made)


def measure(kind: str, count: int, size: int, folder: Path) -> dict[str, float]:
    flow("row", 2, size, folder / "crewai.db")(suppress_flow_events=True).kickoff()
    made = flow(kind, count, size, folder / "crewai.db")(suppress_flow_events=True)
    gc.collect()
    begun = time.perf_counter()
    made.kickoff()
    seconds = time.perf_counter() - begun
    found = [name for name in made.state if name.startswith("s")]
    assert len(found) == count, found
    return {"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    kind, count, size, folder = sys.argv[1:]
    print(json.dumps(measure(kind, int(count), int(size), Path(folder))))
