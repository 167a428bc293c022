"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from flowcraft.app import FlowCraft

SettingsPath = Annotated[
    Path | None,
    typer.Option("--settings", metavar="PATH", help="Settings file; default: FLOWCRAFT_SETTINGS, else settings.yaml."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of it.")]


def open_flowcraft(settings: Path | None) -> FlowCraft:
    """Return a FlowCraft over the settings that the command line names."""
    from flowcraft.app import FlowCraft

    return FlowCraft(settings)
