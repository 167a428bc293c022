"""LangGraph with its SQLite saver: `python -m benchmarks.children.langgraph_side KIND COUNT SIZE FOLDER DURABILITY KEEP`.

KIND is row (each node after the one before) or once (all from the start). KEEP is all (every result stays in the state, as
FlowCraft keeps every stage's result) or last (one value, overwritten: the least that LangGraph can write). With BENCH_BODY the
nodes are commands (shell), graphs of two nodes (group) or of one (uses), or graphs of a node that comes back twice (until).
"""

from __future__ import annotations

import gc
import json
import operator
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph


class Last(TypedDict):
    value: str


class All(TypedDict):
    values: Annotated[dict[str, str], operator.or_]


def node(name: str, keep: str, text: str) -> Callable[[Any], dict[str, Any]]:
    def last(state: Last) -> dict[str, Any]:
        return {"value": f"{name} {text}"}

    def every(state: All) -> dict[str, Any]:
        return {"values": {name: f"{name} {text}"}}

    return last if keep == "last" else every


class Tried(TypedDict):
    values: Annotated[dict[str, str], operator.or_]
    tries: int


def other_body(name: str, size: int, body: str) -> Any:
    """What a node is that does more than call a function: a command, or a graph of its own."""
    text = "x" * size

    def command(state: All) -> dict[str, Any]:
        environment = {"PATH": os.environ["PATH"], "name": name, "size": str(size)}
        script = 'printf "%s %0${size}d" "$name" 0'
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        return {"values": {name: done.stdout}}

    if body == "shell":
        return command
    if body == "until":
        inner: StateGraph[Any] = StateGraph(Tried, input_schema=All, output_schema=All)
        inner.add_node("try", lambda state: {"values": {name: f"{name} {text}"}, "tries": state.get("tries", 0) + 1})
        inner.add_edge(START, "try")
        inner.add_conditional_edges("try", lambda state: END if state["tries"] >= 3 else "try", ["try", END])
        return inner.compile()
    inner = StateGraph(All)
    inside = [f"{name}_a", f"{name}_b"] if body == "group" else [name]
    for one in inside:
        inner.add_node(one, node(one, "all", text))
    for before, after in zip([START, *inside], [*inside, END], strict=True):
        inner.add_edge(before, after)
    return inner.compile()


def graph(kind: str, count: int, keep: str, size: int) -> StateGraph[Any]:
    built: StateGraph[Any] = StateGraph(Last if keep == "last" else All)
    names = [f"s{number}" for number in range(count)]
    body = os.environ.get("BENCH_BODY", "")
    for name in names:
        built.add_node(name, other_body(name, size, body) if body else node(name, keep, "x" * size))
    if kind == "row":
        for before, after in zip([START, *names], [*names, END], strict=True):
            built.add_edge(before, after)
    else:
        for name in names:
            built.add_edge(START, name)
            built.add_edge(name, END)
    return built


def measure(kind: str, count: int, size: int, folder: Path, durability: str, keep: str) -> dict[str, float]:
    first: dict[str, Any] = {"value": ""} if keep == "last" else {"values": {}}
    with SqliteSaver.from_conn_string(str(folder / "langgraph.db")) as saver:
        small = graph("row", 2, keep, size).compile(checkpointer=saver)
        config = {"recursion_limit": count + 10, "max_concurrency": 64}
        small.invoke(dict(first), {**config, "configurable": {"thread_id": "warm"}}, durability=durability)
        compiled = graph(kind, count, keep, size).compile(checkpointer=saver)
        gc.collect()
        begun = time.perf_counter()
        result = compiled.invoke(dict(first), {**config, "configurable": {"thread_id": "1"}}, durability=durability)
        seconds = time.perf_counter() - begun
    if keep == "last":
        assert result["value"].startswith(f"s{count - 1} ")
    else:
        assert len(result["values"]) == count * (2 if os.environ.get("BENCH_BODY") == "group" else 1)
    return {"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    kind, count, size, folder, durability, keep = sys.argv[1:]
    print(json.dumps(measure(kind, int(count), int(size), Path(folder), durability, keep)))
