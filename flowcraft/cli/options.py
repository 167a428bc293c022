"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flowcraft.app import FlowCraft
    from flowcraft.engine import RunRow
    from flowcraft.engine.ports import RunStore

SettingsPath = Annotated[
    Path | None,
    typer.Option("--settings", metavar="PATH", help="Settings file; default: FLOWCRAFT_SETTINGS, else settings.yaml."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RunOrFile = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, the beginning of it, 'last', or the file of an export.")
]
Answers = Annotated[
    list[str] | None,
    typer.Option(
        "--answer",
        metavar="GATE=CHOICE",
        help="Answer a gate beforehand, each time it asks: gate=approve, gate.comment=.., gate.FIELD=..",
    ),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of it, or 'last'.")]


def open_flowcraft(settings: Path | None) -> FlowCraft:
    """Return a FlowCraft over the settings that the command line names."""
    from flowcraft.app import FlowCraft

    return FlowCraft(settings)


def open_run(run: str, settings: Path | None) -> tuple[RunStore, RunRow]:
    """Return a run to be read, and the store that holds what belongs to it: that of the settings, or the file of an export."""
    from flowcraft.app.recordings import Export, is_export

    if is_export(run):
        export = Export(Path(run))
        return export.store, export.run
    flow = open_flowcraft(settings)
    return flow.engine.store, flow.engine.find(run)
