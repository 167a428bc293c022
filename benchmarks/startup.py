"""How long the first things take: `import flowcraft`, short commands and a run of one stage, beside peers that begin alike."""

from __future__ import annotations

import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks.measure import Target, interleaved, median, show, wall

WORKFLOW = 'flowcraft: 1\nstages: {hello: {run: "hello:hello"}}\n'
LANGGRAPH = """
from typing import TypedDict
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

class State(TypedDict):
    hello: str

def hello(state: State) -> State:
    return {"hello": "hello"}

graph = StateGraph(State)
graph.add_node("hello", hello)
graph.add_edge(START, "hello")
graph.add_edge("hello", END)
with SqliteSaver.from_conn_string("FOLDER/langgraph.db") as saver:
    print(graph.compile(checkpointer=saver).invoke({"hello": ""}, {"configurable": {"thread_id": "one"}}))
"""
"""The same as ``WORKFLOW``: one function, its result kept in SQLite. It reads no file, checks none, and has no command line."""


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
            "flowcraft validate": ("-m", "flowcraft", "validate", str(path / "hello.yaml")),
            "flowcraft run (one stage)": ("-m", "flowcraft", "run", str(path / "hello.yaml")),
        }
        if find_spec("langgraph"):
            measures["LangGraph (one node, kept in SQLite)"] = ("-c", LANGGRAPH.replace("FOLDER", folder))
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
        (name, time, time - empty, time / empty, targets[name](time - empty, time) if name in targets else "")
        for name, time in found.items()
    ]
    columns = ("", "whole", "above python", "by python", "target")
    show(f"Startup, ms, medians of {rounds} interleaved rounds", columns, rows)
