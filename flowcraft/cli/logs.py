"""``flowcraft runs logs``: what happened in a run, and what happens while it goes on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from flowcraft.cli.console import print_json, stderr, stdout
from flowcraft.cli.options import AsJson, RunOrFile, SettingsPath, open_run

if TYPE_CHECKING:
    from flowcraft.engine.ports import EventRow, RunRow, RunStore

LOOKS_EVERY = 0.3
"""Seconds between two looks at the database, which tell nothing where nothing happened."""

GOES_ON = frozenset({"queued", "running", "waiting"})
"""States in which more may happen without anybody resuming the run."""

_STYLES = {"error": "red", "failed": "red", "warning": "yellow", "cancelled": "yellow", "done": "green", "skipped": "dim"}


def show_logs(
    run: RunOrFile,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends; Ctrl-C leaves.")] = False,
    as_json: AsJson = False,
    settings: SettingsPath = None,
) -> None:
    """Show what happened in a run, tracebacks of functions included. With --follow --json one document a line."""
    store, row = open_run(run, settings)
    if not follow and as_json:
        print_json([json.loads(event.data) for event in store.events(row.id)])
        return
    console = stdout()
    for events in _followed(store, row) if follow else iter((store.events(row.id),)):
        for event in events:
            if as_json:
                sys.stdout.write(json.dumps(json.loads(event.data), ensure_ascii=False) + "\n")
            else:
                _print(json.loads(event.data), console)
        sys.stdout.flush()
    if follow and _is_deserted(store, row.id):
        stderr().print(Text(f"the process of this run is gone; go on with: flowcraft runs resume {row.id}", style="yellow"))


def _followed(store: RunStore, row: RunRow) -> Iterator[Sequence[EventRow]]:
    """Yield the events of a run as they come, until it ends or nobody carries it out any more."""
    after = 0
    while True:
        now = store.get(row.id) or row  # asked before its events, so that none of the last ones is missed
        ended = now.state not in GOES_ON or _is_deserted(store, row.id)
        events = store.events(row.id, after)
        if events:
            after = events[-1].sequence
            yield events
        if ended:
            return
        time.sleep(LOOKS_EVERY)


def _is_deserted(store: RunStore, run: str) -> bool:
    """Say whether a run is running by its row, and its process is known to be gone."""
    from flowcraft.engine.lease import is_gone

    row = store.get(run)
    if row is None or row.state != "running":
        return False
    process = store.process(row.owner) if row.owner else None
    return process is None or is_gone(process)


def _print(event: dict[str, Any], console: Console) -> None:
    at = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    style = _STYLES.get(event.get("level", "")) or _STYLES.get(event.get("state", ""), "")
    console.print(Text(f"{at}  {event['kind']:<15} {_told(event)}", style=style))
    details = event.get("details", {})
    for more in (details.get("traceback"), details.get("text") if event["kind"] == "said" else None):
        if isinstance(more, str) and more:
            console.print(Text("    " + more.rstrip().replace("\n", "\n    "), style="dim"))


TOLD = ("stage", "state", "message", "reason", "error", "choice", "by", "comment")


def _told(event: dict[str, Any]) -> str:
    parts = [event.get(name, "") for name in TOLD]
    if event["kind"] == "run.started":
        parts.append(f"segment {event['segment']}")
    if event["kind"] == "answer.chosen":
        parts.append(f"{event['provider']}:{event['model']}")
        parts += [decided["reason"] for decided in event["decided"].values() if decided.get("reason")]
    if event.get("elements") is not None:
        parts.append(f"{event['elements']} elements")
    if event.get("seconds"):
        parts.append(f"{event['seconds']:.2f} s")
    return " · ".join(part for part in parts if part)
