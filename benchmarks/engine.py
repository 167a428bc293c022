"""The engine beside LangGraph with its SQLite saver and CrewAI's Flow with its own: stages in a row, at once, long lists, and
going on after a kill."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Target, answer, in_folder, interleaved, killed, median, show

OURS = "benchmarks.children.flowcraft_side"
THEIRS = "benchmarks.children.langgraph_side"
CREWAI = "benchmarks.children.crewai_flow"
CREWAI_PYTHON = ROOT / ".venv-crewai" / "bin" / "python"
"""Its pins do not go with the others': it is measured in the environment of `make test-crewai`, where there is one."""
COUNTS = (100, 300, 1000)
TEXT = 2000
"""Characters of a result: what a short answer of a model has."""
LONG = 10_000
KILL_AT = 9_000


def main(rounds: int = 5) -> None:
    """Measure; the long ones in fewer rounds."""
    for kind, title in (("row", "in a row"), ("once", "at once")):
        side_by_side(kind, title, rounds)
        crewai_flow(kind, title, rounds)
    small_results(rounds)
    lists(min(rounds, 3))
    going_on(min(rounds, 3))


Measure = Callable[[], dict[str, Any]]


def ours(kind: str, count: int, size: int = TEXT, **more: str) -> Measure:
    return in_folder(lambda folder: answer("-m", OURS, kind, str(count), str(size), folder, **more))


def theirs(kind: str, count: int, size: int = TEXT, durability: str = "async", keep: str = "all") -> Measure:
    return in_folder(lambda folder: answer("-m", THEIRS, kind, str(count), str(size), folder, durability, keep))


def side_by_side(kind: str, title: str, rounds: int) -> None:
    """Stages whose results are all kept, as FlowCraft keeps them; LangGraph as it comes (it saves while it goes on)."""
    rows = []
    for count in COUNTS:
        measures = {"ours": ours(kind, count), "theirs": theirs(kind, count)}
        found = interleaved(measures, rounds if count < 1000 else min(rounds, 3))
        mine, other = (median(found[side], "seconds") / count * 1000 for side in ("ours", "theirs"))
        cpu = median(found["ours"], "cpu") / count * 1000
        limit = Target(value=mine, limit=1.0 if kind == "row" else 0.5)
        factor = {("row", 100): 2.0, ("row", 300): 4.0}.get((kind, count), 1.0)
        faster = Target(value=other / mine, limit=factor, least=True)
        rows.append((f"{count} stages", mine, limit, cpu, other, other / mine, faster, median(found["ours"], "megabytes")))
    columns = ("", "FlowCraft", "target", "our CPU", "LangGraph", "times faster", "target", "our MB")
    show(f"Stages {title}, ms a stage, results of 2 kB", columns, rows)


def crewai_flow(kind: str, title: str, rounds: int) -> None:
    """The same beside a Flow of CrewAI's that is persisted behind each step; left out where CrewAI is not installed."""
    if not CREWAI_PYTHON.exists():
        sys.stderr.write(f"CrewAI's Flow, {title}: left out, since CrewAI is not installed; `make test-crewai` installs it\n")
        return

    def theirs(count: int) -> Measure:
        child = ("-m", CREWAI, kind, str(count), str(TEXT))
        return in_folder(lambda folder: answer(*child, folder, interpreter=str(CREWAI_PYTHON)))

    rows = []
    for count in COUNTS:
        found = interleaved({"ours": ours(kind, count), "theirs": theirs(count)}, min(rounds, 3) if count < 1000 else 1)
        mine, other = (median(found[side], "seconds") / count * 1000 for side in ("ours", "theirs"))
        rows.append((f"{count} stages", mine, other, other / mine, Target(value=other / mine, limit=1.0, least=True)))
    columns = ("", "FlowCraft", "CrewAI Flow", "times faster", "target")
    show(f"Stages {title} beside CrewAI's Flow with @persist, ms a stage, results of 2 kB", columns, rows)


def small_results(rounds: int) -> None:
    """The same with results of a few characters, and LangGraph in its other ways: safer, and keeping one value only."""
    measures = {
        (kind, count, side): measure
        for kind in ("row", "once")
        for count in (100, 300)
        for side, measure in {
            "ours": ours(kind, count, 0),
            "async": theirs(kind, count, 0),
            "sync": theirs(kind, count, 0, "sync"),
            "last": theirs(kind, count, 0, "async", "last") if kind == "row" else lambda: {"seconds": float("nan")},
        }.items()
    }
    found = interleaved(measures, rounds)
    rows = []
    for kind in ("row", "once"):
        for count in (100, 300):
            times = [median(found[kind, count, side], "seconds") / count * 1000 for side in ("ours", "async", "sync", "last")]
            rows.append((f"{count} {'in a row' if kind == 'row' else 'at once'}", *times, times[1] / times[0]))
    columns = ("", "FlowCraft", "LangGraph", "... durability=sync", "... one value kept", "times faster")
    show("Small results, ms a stage", columns, rows)


def lists(rounds: int) -> None:
    """One stage with `each`, 64 elements at a time: a function, and a prompt that is answered at once."""
    listed("", "functions", rounds, limited=True)
    listed("prompt", "prompts", rounds, limited=False)


def listed(body: str, title: str, rounds: int, *, limited: bool) -> None:
    """One kind of elements; what a prompt costs has no target of its own, only that it stays the same."""
    more = {"BENCH_BODY": body} if body else {}
    measures = {count: ours("list", count, **more) for count in (100, 1000, LONG)}
    found = interleaved(measures, rounds)
    each = {count: median(answers, "seconds") / count * 1000 for count, answers in found.items()}
    most = {count: max(one["megabytes"] for one in answers) for count, answers in found.items()}
    rows = [
        (
            f"{count:,}",
            each[count],
            Target(value=each[count], limit=0.5) if limited else "",
            median(found[count], "cpu") / count * 1000,
            most[count],
            Target(value=most[count], limit=250),
        )
        for count in measures
    ]
    columns = ("", "FlowCraft", "target", "CPU", "MB at most", "target")
    show(f"Elements of a list, {title}, ms an element, results of 2 kB", columns, rows)
    ratio = each[LONG] / each[100]
    show("An element of 10,000 by one of 100", ("ratio", "target"), [(ratio, Target(value=ratio, limit=1.3))])


def going_on(rounds: int) -> None:
    """A run of 10,000 elements, killed near its end: from the start of `resume` to the first element that is new."""

    def measure(folder: str) -> dict[str, Any]:
        killed("-m", OURS, "list", str(LONG), str(TEXT), folder, BENCH_KILL_AT=str(KILL_AT))
        run, first = Path(folder, "run").read_text(), Path(folder, "first")
        begun = time.monotonic()
        resumed = answer("-m", OURS, "resume", run, str(TEXT), folder, BENCH_FIRST=str(first))
        return {**resumed, "first": float(first.read_text()) - begun}

    found = interleaved({"resume": in_folder(measure)}, rounds)["resume"]
    first, most = median(found, "first"), max(one["megabytes"] for one in found)
    row = (first, Target(value=first, limit=2.0), most, Target(value=most, limit=250))
    title = "Going on after a kill at element 9,000 of 10,000, s from the start of the process"
    show(title, ("first new element", "target", "MB at most", "target"), [row])
