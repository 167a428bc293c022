"""Runs: started, gone on with, carried out in this process."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flowcraft import __version__
from flowcraft.app.ancestors import known_before, source
from flowcraft.app.results import RunResult, result_of
from flowcraft.app.stage_models import StageModels
from flowcraft.app.workflows import Workflows
from flowcraft.engine import Engine, Job, NewRun, OnWait, RunRow, SegmentStart
from flowcraft.errors import StoreError, WorkflowError
from flowcraft.manager import LLMManager
from flowcraft.settings import Settings
from flowcraft.tools import function_tool
from flowcraft.workflow import Workflow, bind_inputs, load_workflow, plugin_tools

SNAPSHOT_VERSION = 1


class Runs:
    """Carries runs out with the workflows and models of one settings page. ``managers`` are those that were needed."""

    def __init__(self, engine: Engine, workflows: Workflows, open_sinks: Callable[[], None]) -> None:
        self.engine = engine
        self.workflows = workflows
        self.manager = workflows.manager
        self.settings = workflows.settings
        self.plugins = workflows.plugins
        self.managers: list[LLMManager] = [self.manager]
        self._open_sinks = open_sinks

    async def run(
        self,
        workflow: Workflow | str | Path,
        inputs: Mapping[str, Any] | None = None,
        *,
        model: str | None = None,
        on_start: Callable[[str], None] | None = None,
    ) -> RunResult:
        """Run a workflow to its end."""
        self.workflows.check_model(model)
        if not isinstance(workflow, Workflow):
            workflow = self.workflows.load(workflow, model=model)
        elif missing := self.workflows.unset(workflow):
            raise WorkflowError(f"the workflow needs the environment names {', '.join(sorted(missing))}; set them")
        new = self._new(workflow, inputs or {}, model)
        return await self.begin(workflow, self.manager, new, on_start)

    async def begin(
        self,
        workflow: Workflow,
        manager: LLMManager,
        new: NewRun,
        on_start: Callable[[str], None] | None,
    ) -> RunResult:
        """Store a new run and carry it out."""
        start = await self.engine.begin(lambda given_up: self.engine.create(new))
        if on_start is not None:
            on_start(new.id)
        return await self._carry(workflow, manager, start)

    def _new(self, workflow: Workflow, inputs: Mapping[str, Any], model: str | None) -> NewRun:
        bound = self.workflows.redactor(workflow).value(bind_inputs(workflow, inputs))
        self.workflows.check_settled(workflow, bound, model)
        now = time.time()
        return NewRun(
            id=new_id(now),
            workflow=workflow.name,
            file=workflow.path,
            folder=str(Path.cwd()),
            created=now,
            inputs=bound,
            snapshot={
                "v": SNAPSHOT_VERSION,
                "flowcraft": __version__,
                "file": workflow.path,
                "files": dict(workflow.files),
                "settings": self.settings.snapshot(),
                "model": model,
                "date": time.strftime("%Y-%m-%d", time.localtime(now)),
            },
        )

    def kept(self, row: RunRow) -> Workflow:
        """Return the workflow that a run started with; raise StoreError or WorkflowError where it cannot go on here."""
        snapshot = row.snapshot
        if snapshot.get("v") != SNAPSHOT_VERSION:
            raise StoreError(f"run {row.id} was kept in another form ({snapshot.get('v')!r}); it cannot be resumed")
        workflow = load_workflow(snapshot["file"], files=snapshot["files"], bodies=self.plugins.bodies())
        if missing := self.workflows.unset(workflow):
            names = ", ".join(sorted(missing))
            raise WorkflowError(f"run {row.id} needs the environment names {names}; set them and resume again")
        return workflow

    async def resume(
        self, run: str, *, on_wait: OnWait | None = None, on_start: Callable[[RunRow], None] | None = None
    ) -> RunResult:
        """Go on with a run from its last finished piece of work, with the workflow and settings that it started with."""
        row = await asyncio.to_thread(self.engine.find, run)
        workflow = self.kept(row)
        await asyncio.to_thread(source, self.engine.store, row)
        manager = self.manager_of(row.snapshot["settings"])
        wait = on_wait or (lambda process: None)
        start = await self.engine.begin(lambda given_up: self.engine.take_over(row.id, wait, given_up))
        if on_start is not None:
            on_start(start.run)
        return await self._carry(workflow, manager, start)

    def manager_of(self, snapshot: Mapping[str, Any]) -> LLMManager:
        """Return the models by the settings that a run keeps."""
        if snapshot == self.settings.snapshot():
            return self.manager
        settings = Settings.from_snapshot(snapshot, self.settings.environment, current=self.settings)
        manager = self.manager.with_settings(settings)
        self.managers.append(manager)
        return manager

    async def _carry(self, workflow: Workflow, manager: LLMManager, start: SegmentStart) -> RunResult:
        self._open_sinks()
        row = start.run
        reuse, before = await asyncio.to_thread(known_before, self.engine.store, start)
        job = Job(
            workflow=workflow,
            inputs=row.inputs,
            models=StageModels(manager, row.snapshot.get("model")),
            bodies=self.plugins.bodies(),
            tools=self.plugins.tools(function_tool) if any(plugin_tools(workflow)) else {},
            redactor=self.workflows.redactor(workflow),
            env=self.workflows.environment(workflow),
            folder=row.folder,
            date=str(row.snapshot.get("date", "")),
            reuse=reuse,
            before=before,
        )
        change, reports = await self.engine.carry(job, start)
        return await asyncio.to_thread(result_of, self.engine.store, row.id, change, reports)


def new_id(now: float) -> str:
    """Return the id of a run that begins now."""
    return f"{time.strftime('%y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(2)}"
