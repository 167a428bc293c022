"""Stages that do more than call a function, beside LangGraph and CrewAI Flow: commands, groups, other workflows, tries."""

from __future__ import annotations

from typing import Any

from benchmarks.engine import COUNTS, CREWAI, CREWAI_PYTHON, OURS, TEXT, THEIRS, Measure
from benchmarks.measure import Target, answer, in_folder, interleaved, median, show

BODIES = {
    "shell": "a command of bash",
    "group": "a group of two functions",
    "uses": "another workflow of one function",
    "until": "a function that is tried three times",
}


def main(rounds: int = 3) -> None:
    """Measure each body in a row and at once."""
    for body, title in BODIES.items():
        for kind, order in (("row", "in a row"), ("once", "at once")):
            side_by_side(body, kind, f"{title}, {order}", rounds)


def ours(body: str, kind: str, count: int) -> Measure:
    return in_folder(lambda folder: answer("-m", OURS, kind, str(count), str(TEXT), folder, BENCH_BODY=body))


def langgraph(body: str, kind: str, count: int) -> Measure:
    return in_folder(lambda folder: answer("-m", THEIRS, kind, str(count), str(TEXT), folder, "async", "all", BENCH_BODY=body))


def crewai(body: str, kind: str, count: int) -> Measure:
    child, python = ("-m", CREWAI, kind, str(count), str(TEXT)), str(CREWAI_PYTHON)
    return in_folder(lambda folder: answer(*child, folder, interpreter=python, BENCH_BODY=body))


PEERS = {"LangGraph": langgraph, **({"CrewAI Flow": crewai} if CREWAI_PYTHON.exists() else {})}


def side_by_side(body: str, kind: str, title: str, rounds: int) -> None:
    """One body in one order, every result kept on both sides."""
    rows = []
    for count in COUNTS:
        measures = {name: measure(body, kind, count) for name, measure in {"ours": ours, **PEERS}.items()}
        found = interleaved(measures, rounds if count < 1000 else 1)
        mine = median(found["ours"], "seconds") / count * 1000
        row: list[Any] = [f"{count} stages", mine]
        for name in PEERS:
            other = median(found[name], "seconds") / count * 1000
            row += [other, other / mine, Target(value=other / mine, limit=1.0, least=True)]
        rows.append(row)
    columns = ["", "FlowCraft"]
    for name in PEERS:
        columns += [name, "times faster", "target"]
    show(f"{title[0].upper()}{title[1:]}, ms a stage, results of 2 kB", columns, rows)
