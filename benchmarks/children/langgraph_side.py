"""LangGraph with its SQLite saver: `python -m benchmarks.children.langgraph_side KIND COUNT SIZE FOLDER DURABILITY KEEP`.

KIND is row (each node after the one before) or once (all from the start). KEEP is all (every result stays in the state, as
FlowCraft keeps every stage's result) or last (one value, overwritten: the least that LangGraph can write).
"""

from __future__ import annotations

import json
import operator
import resource
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


def graph(kind: str, count: int, keep: str, size: int) -> StateGraph[Any]:
    built: StateGraph[Any] = StateGraph(Last if keep == "last" else All)
    names = [f"s{number}" for number in range(count)]
    for name in names:
        built.add_node(name, node(name, keep, "x" * size))
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
        begun = time.perf_counter()
        result = compiled.invoke(dict(first), {**config, "configurable": {"thread_id": "1"}}, durability=durability)
        seconds = time.perf_counter() - begun
    if keep == "last":
        assert result["value"].startswith(f"s{count - 1} ")
    else:
        assert len(result["values"]) == count
    return {"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    kind, count, size, folder, durability, keep = sys.argv[1:]
    print(json.dumps(measure(kind, int(count), int(size), Path(folder), durability, keep)))
