"""Runs in files of their own: exported from the database, opened elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowcraft.app.workflows import Workflows
from flowcraft.engine import Engine, RunRow, RunStore
from flowcraft.errors import FlowCraftError
from flowcraft.redaction import Redactor
from flowcraft.storage import Database, Export, is_export, write_export
from flowcraft.workflow import load_workflow

__all__ = ["Export", "export_run", "is_export", "opened", "recording_of"]


SUFFIX = ".recorded.sqlite"


def recording_of(file: str | Path) -> Path:
    """Return where the recording of a workflow file lies: ``<stem>.recorded.sqlite`` beside it."""
    path = Path(file)
    return path.with_name(path.stem + SUFFIX)


@contextmanager
def opened(engine: Engine, run: str | Path) -> Iterator[tuple[RunStore, RunRow]]:
    """Open a run to be read: one of the database by its id, or the file of an export."""
    if not is_export(str(run)):
        yield engine.store, engine.find(str(run))
        return
    export = Export(Path(run))
    try:
        yield export.store, export.run
    finally:
        export.close()


def export_run(database: Database, workflows: Workflows, row: RunRow, target: Path, *, force: bool = False) -> Path:
    """Write a run to a SQLite file of its own, without keys and secrets; return the file."""
    write_export(database, row.id, target, redactor=_redactor(workflows, row), force=force)
    return target


def _redactor(workflows: Workflows, row: RunRow) -> Redactor:
    """Return what takes out the secrets of today's settings and of the run's environment.

    What is stored is without secrets already; this is for those that became known since.
    """
    plain = Redactor(workflows.manager.secrets)
    try:
        workflow = load_workflow(row.snapshot["file"], files=row.snapshot["files"], bodies=workflows.plugins.bodies())
    except (FlowCraftError, KeyError, TypeError):
        return plain  # kept in another form, or a plugin is gone: its environment cannot be told
    return plain.with_secrets(workflows.environment(workflow).values())
