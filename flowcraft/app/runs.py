"""Runs: started, gone on with, carried out in this process."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowcraft import __version__
from flowcraft.app.ancestors import known_before, source
from flowcraft.app.approvals import Approvals
from flowcraft.app.budgets import KEPT_AS as RAISED_BUDGET
from flowcraft.app.budgets import raised_budget, told_change, with_budget
from flowcraft.app.plugins_used import KEPT_AS as PLUGINS_USED
from flowcraft.app.plugins_used import check_installed, plugins_used, told_versions
from flowcraft.app.results import RunResult, result_of, standing
from flowcraft.app.stage_models import StageModels
from flowcraft.app.workflows import Workflows
from flowcraft.engine import (
    ATTEND,
    CANCEL,
    ENDED,
    Answer,
    Engine,
    Job,
    NewRun,
    OnWait,
    ProcessRow,
    RunAlive,
    RunRow,
    SegmentStart,
    StateChange,
)
from flowcraft.engine.runs.segment import unhurried
from flowcraft.errors import PluginError, RunError, RunFenced, StoreError, WorkflowError
from flowcraft.events import Said
from flowcraft.manager import LLMManager
from flowcraft.plugin.agents import AgentRunner
from flowcraft.settings import Settings
from flowcraft.tools import function_tool
from flowcraft.workflow import Workflow, bind_inputs, load_workflow, plugin_tools
from flowcraft.workflow.checks.check import every_part
from flowcraft.workflow.schema import Shell

SNAPSHOT_VERSION = 1
CANCEL_SECONDS = 30.0
"""For so long a cancel waits until the owner of its run has ended it."""
ATTENDED = "attended"
"""Under which name of a run's snapshot stands how often in a row its process was lost, for who attends."""
LOST_AT_MOST = 5
"""With which so many processes in a row were lost, none of which finished anything: such a run is left to people."""
NOTES = "notes"
"""Under which name of a run's snapshot stands what its log is to say when the next segment begins."""
TOLD_VERSIONS = "told_versions"
"""Under which name of a run's snapshot stands what its log said last of other versions of plugins."""


class Runs:
    """Carries runs out with the workflows and models of one settings page. ``managers`` are those that were needed."""

    def __init__(self, engine: Engine, workflows: Workflows, open_sinks: Callable[[], None]) -> None:
        self.engine = engine
        self.workflows = workflows
        self.manager = workflows.manager
        self.settings = workflows.settings
        self.plugins = workflows.plugins
        self.managers: list[LLMManager] = [self.manager]
        self.approvals = Approvals(engine, self.workflow_of, workflows.redactor)
        self._open_sinks = open_sinks

    async def run(
        self,
        workflow: Workflow | str | Path,
        inputs: Mapping[str, Any] | None = None,
        *,
        model: str | None = None,
        answers: Mapping[str, Any] | None = None,
        on_start: Callable[[str], None] | None = None,
    ) -> RunResult:
        """Run a workflow to its end; ``answers`` are given to its gates as soon as they ask."""
        self.workflows.check_model(model)
        if not isinstance(workflow, Workflow):
            workflow = self.workflows.load(workflow, model=model)
        elif missing := self.workflows.unset(workflow):
            raise WorkflowError(f"the workflow needs the environment names {', '.join(sorted(missing))}; set them")
        # Functions may have to be imported for what is checked, which takes as long as it takes.
        given = self.approvals.beforehand(workflow, answers or {})
        new = await self.engine.threads.run(lambda: self._new(workflow, inputs or {}, model, given))
        return await self.begin(workflow, self.manager, new, on_start)

    async def begin(
        self,
        workflow: Workflow,
        manager: LLMManager,
        new: NewRun,
        on_start: Callable[[str], None] | None,
    ) -> RunResult:
        """Store a new run and carry it out."""
        await self._make_ready(workflow, manager)
        start = await self.engine.begin(lambda given_up: self.engine.create(new))
        if on_start is not None:
            on_start(new.id)
        return await self._carry(workflow, manager, start)

    def _new(self, workflow: Workflow, inputs: Mapping[str, Any], model: str | None, answers: Mapping[str, Answer]) -> NewRun:
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
                **self.kept_of(workflow, model, self.manager),
                "settings": self.settings.snapshot(),
                "configured": list(self.settings.configured_providers()),
                "answers": {name: answer.data() for name, answer in answers.items()},
                "date": time.strftime("%Y-%m-%d", time.localtime(now)),
            },
        )

    def kept_of(self, workflow: Workflow, model: str | None, manager: LLMManager) -> dict[str, Any]:
        """Return what a new run keeps of the workflow that it starts with."""
        return {
            "v": SNAPSHOT_VERSION,
            "flowcraft": __version__,
            "file": str(Path(workflow.folder, Path(workflow.path).name)),  # it may be resumed in another folder
            "files": dict(workflow.files),
            PLUGINS_USED: plugins_used(workflow, StageModels(manager, model), self.plugins),
            "model": model,
        }

    def kept(self, row: RunRow) -> Workflow:
        """Return the workflow that a run started with; raise StoreError or WorkflowError where it cannot go on here."""
        check_installed(row, self.plugins)
        workflow = self.workflow_of(row)
        if not Path(row.folder).is_dir() and works_in_folder(workflow):
            gone = f"run {row.id} works in the folder {row.folder}, where it was started and which is gone"
            raise WorkflowError(f"{gone}; make that folder, with what the run needs in it, and resume again")
        if missing := self.workflows.unset(workflow):
            names = ", ".join(sorted(missing))
            raise WorkflowError(f"run {row.id} needs the environment names {names}; set them and resume again")
        return workflow

    def workflow_of(self, row: RunRow) -> Workflow:
        """Return the workflow that a run started with, whatever this machine lacks for it."""
        snapshot = row.snapshot
        if snapshot.get("v") != SNAPSHOT_VERSION:
            raise StoreError(f"run {row.id} was kept in another form ({snapshot.get('v')!r}); it cannot be resumed")
        return load_workflow(snapshot["file"], files=snapshot["files"], bodies=self.plugins.bodies())

    async def resume(
        self,
        run: str,
        *,
        answers: Mapping[str, Any] | None = None,
        budget: Mapping[str, Any] | None = None,
        on_wait: OnWait | None = None,
        on_start: Callable[[RunRow], None] | None = None,
        attended: bool = False,
    ) -> RunResult:
        """Go on with a run from its last finished piece of work, with the workflow and settings that it started with.

        ``budget`` raises what the file lets the run spend. A run that waits for people, of whom nobody has answered, goes on
        waiting, and nothing begins; ``answers`` are given as in ``run``. One that is to be cancelled is ended. Where it is
        ``attended`` to and interrupted, who attends next goes on with it.
        """
        row = await asyncio.to_thread(self.engine.find, run)
        if row.wanted == CANCEL and row.state not in ENDED:
            row = await self._cancelled(row, on_wait, on_start)
            return await asyncio.to_thread(standing, self.engine.store, row)
        if answers:
            await asyncio.to_thread(self.approvals.add_beforehand, row, answers)
        if row.state == "waiting" and not await asyncio.to_thread(self.engine.due, row.id):
            if budget:
                await asyncio.to_thread(self._raise_of_waiting, row, budget)
            change = StateChange(state="waiting", seconds=row.seconds)
            return await asyncio.to_thread(result_of, self.engine.store, row.id, change, {})
        workflow = self.kept(row)
        await asyncio.to_thread(source, self.engine.store, row)
        raised = await asyncio.to_thread(raised_budget, budget or {}, workflow, row, self.engine.store)
        manager = self.manager_of(row.snapshot["settings"])
        await self._make_ready(workflow, manager)
        lost = await asyncio.to_thread(self._told_of_lost, row, attended)
        start = await self._taken_over(row, on_wait)
        async with self._begun(start):
            changes, notes = self._news(start.run)
            notes += (lost,)
            if budget:
                changes[RAISED_BUDGET] = raised
                notes += (told_change(with_budget(workflow, start.run).budget, raised),)
            if attended:
                changes[ATTENDED] = self._attended(row, start)
            if attended or start.run.wanted == ATTEND:
                await asyncio.to_thread(self.engine.store.want, row.id, ATTEND if attended else "")
            if changes:
                start = await asyncio.to_thread(self._amended, start, changes)
            if on_start is not None:
                on_start(start.run)
        return await self._carry(workflow, manager, start, notes=tuple(filter(None, notes)))

    @contextlib.asynccontextmanager
    async def _begun(self, start: SegmentStart) -> AsyncIterator[None]:
        """Leave a run that has begun as interrupted where what stands inside fails: nobody would carry it out."""
        try:
            yield
        except BaseException:
            await unhurried(self.engine.let_go(start))
            raise

    def _told_of_lost(self, row: RunRow, attended: bool) -> str:
        """Return what the log of a run says whose process is gone; raise RunError where ``attended`` to it lost too many."""
        if row.state != "running":
            return ""
        told = row.snapshot.get(ATTENDED) or {}
        if attended and told.get("lost", 0) >= LOST_AT_MOST and told["pieces"] == len(self.engine.store.pieces(row.id)):
            raise RunError(
                f"{told['lost']} processes in a row were lost with it and finished nothing of it; it is left to people: "
                f"go on with 'flowcraft runs resume {row.id}', or end it with 'flowcraft runs cancel {row.id}'",
                run=row.id,
            )
        process = self.engine.store.process(row.owner)
        named = f"process {process.pid} on {process.host or 'an unknown host'}" if process is not None else "the process"
        return f"{named}, which carried the run out, is gone: taken over"

    @staticmethod
    def _attended(row: RunRow, start: SegmentStart) -> dict[str, int]:
        """Return how many processes in a row were lost with a run, as far as known, and how many pieces it had then."""
        told, pieces = row.snapshot.get(ATTENDED) or {}, len(start.pieces)
        again = row.state == "running" and told.get("pieces") == pieces
        return {"lost": told.get("lost", 0) + 1 if again else int(row.state == "running"), "pieces": pieces}

    def _news(self, row: RunRow) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Return what the log of a run that goes on has to say and does not hold yet, and the snapshot's changes for that."""
        notes, changes = tuple(row.snapshot.get(NOTES, ())), dict[str, Any]()
        if notes:
            changes[NOTES] = []
        versions = told_versions(row, self.plugins)
        if versions != row.snapshot.get(TOLD_VERSIONS, ""):
            changes[TOLD_VERSIONS] = versions
            notes = (versions, *notes)
        return changes, notes

    def _raise_of_waiting(self, row: RunRow, budget: Mapping[str, Any]) -> None:
        """Raise the budget of a run that goes on waiting: it counts, and stands in its log, as soon as that goes on."""
        workflow = self.workflow_of(row)
        raised = raised_budget(budget, workflow, row, self.engine.store)
        told = told_change(with_budget(workflow, row).budget, raised)
        notes = [*row.snapshot.get(NOTES, ()), *filter(None, (told,))]
        if not self.engine.store.amend(row.id, row.epoch, {RAISED_BUDGET: raised, NOTES: notes}):
            raise RunFenced(f"run {row.id} has just gone on; its budget was not changed", run=row.id)
        if told:
            self.engine.desk.bus.emit(Said(run=row.id, time=time.time(), message=told))

    async def _taken_over(self, row: RunRow, on_wait: OnWait | None) -> SegmentStart:
        wait = on_wait or (lambda process: None)
        return await self.engine.begin(lambda given_up: self.engine.take_over(row.id, wait, given_up))

    def _amended(self, start: SegmentStart, changes: Mapping[str, Any]) -> SegmentStart:
        """Change what a run keeps; raise RunFenced where it was taken over meanwhile."""
        row = start.run
        if not self.engine.store.amend(row.id, row.epoch, changes):
            raise RunFenced(f"another process owns run {row.id} now", run=row.id)
        return replace(start, run=replace(row, snapshot={**row.snapshot, **changes}))

    async def cancel(
        self, run: str, *, on_wait: OnWait | None = None, on_start: Callable[[RunRow], None] | None = None
    ) -> RunRow:
        """End a run for good; return it as it is then.

        That it is to end is kept first, so that whoever goes on with it ends it, whatever becomes of this process. Its owner
        ends it at its next beat. With no live owner it is ended here, its ``finally`` included, and ``on_start`` is told when
        that begins.
        """
        row = await asyncio.to_thread(self.engine.want_cancel, run)
        if self.engine.carries(row.id):
            return row
        return await self._cancelled(row, on_wait, on_start)

    async def _cancelled(self, row: RunRow, on_wait: OnWait | None, on_start: Callable[[RunRow], None] | None) -> RunRow:
        """Return a run that is to be cancelled once that is done: by its owner, or here where it has none that lives."""
        wait, last_word = on_wait or _unheard, self._has_last_word(row)
        until = time.monotonic() + CANCEL_SECONDS
        while True:
            row = await asyncio.to_thread(self.engine.await_cancel, row.id, wait, until - time.monotonic())
            wait = _unheard  # told already
            if row.state in ENDED or self.engine.is_carried(row):
                return row
            if not last_word:
                await asyncio.to_thread(self.engine.end_unowned, row)
                continue
            workflow = self.kept(row)
            manager = self.manager_of(row.snapshot["settings"])
            try:
                start = await self._taken_over(row, wait)
            except RunAlive:  # somebody has just begun to carry it out, and ends it
                continue
            if on_start is not None:
                on_start(start.run)
            await self._carry(workflow, manager, start)
            return await asyncio.to_thread(self.engine.find, row.id)

    def _has_last_word(self, row: RunRow) -> bool:
        """Say whether a run's file has a ``finally``."""
        snapshot = row.snapshot
        try:
            workflow = load_workflow(snapshot["file"], files=snapshot["files"], bodies=self.plugins.bodies())
        except KeyError:
            return False  # kept in another form: there is nothing that could be carried out
        return bool(workflow.finally_)

    def manager_of(self, snapshot: Mapping[str, Any]) -> LLMManager:
        """Return the models by the settings that a run keeps."""
        if snapshot == self.settings.snapshot():
            return self.manager
        settings = Settings.from_snapshot(snapshot, self.settings.environment, current=self.settings)
        manager = self.manager.with_settings(settings)
        self.managers.append(manager)
        return manager

    async def _make_ready(self, workflow: Workflow, manager: LLMManager) -> None:
        """Let who carries a workflow's agents out load what it takes, beside the first stages. Raises PluginError."""
        runner = await self.engine.threads.run(lambda: self.workflows.runner_of(workflow, manager.settings))
        if runner is not None:
            threading.Thread(target=_prepared, args=(runner,), name="flowcraft agents", daemon=True).start()

    def _runner(self, workflow: Workflow, manager: LLMManager, cancels: bool) -> AgentRunner | None:
        """Return who carries agents out; a run that is ended goes without where there is nobody any more."""
        try:
            return self.workflows.runner_of(workflow, manager.settings)
        except PluginError:
            if not cancels:
                raise
            return None

    async def _carry(
        self,
        workflow: Workflow,
        manager: LLMManager,
        start: SegmentStart,
        *,
        notes: tuple[str, ...] = (),
    ) -> RunResult:
        async with self._begun(start):
            job = await self._job(workflow, manager, start, notes)
        change, reports = await self.engine.carry(job, start)
        return await asyncio.to_thread(result_of, self.engine.store, start.run.id, change, reports)

    async def _job(self, workflow: Workflow, manager: LLMManager, start: SegmentStart, notes: tuple[str, ...]) -> Job:
        """Return what a segment works with."""
        self._open_sinks()
        row = start.run
        reuse, before = await asyncio.to_thread(known_before, self.engine.store, start)
        return Job(
            workflow=with_budget(workflow, row),
            notes=notes,
            inputs=row.inputs,
            models=StageModels(manager, row.snapshot.get("model")),
            bodies=self.plugins.bodies(),
            tools=self.plugins.tools(function_tool) if any(plugin_tools(workflow)) else {},
            runner=await asyncio.to_thread(self._runner, workflow, manager, row.wanted == CANCEL),
            redactor=self.workflows.redactor(workflow),
            env=self.workflows.environment(workflow),
            folder=row.folder,
            date=str(row.snapshot.get("date", "")),
            reuse=reuse,
            before=before,
        )


def works_in_folder(workflow: Workflow) -> bool:
    """Say whether something of a workflow is carried out in the folder where its run was started: a command, an MCP server."""
    parts = list(every_part(workflow))
    return any(part.servers or any(isinstance(stage.body, Shell) for stage in part.every_stage) for part in parts)


def _prepared(runner: AgentRunner) -> None:
    """Load what a runner needs while other stages run; what goes wrong is told where its stage runs."""
    try:
        runner.prepare()
    except Exception:  # noqa: BLE001 - border: a plugin's; its stage loads it again, and fails with the reason
        return


def _unheard(process: ProcessRow) -> None:
    pass


def new_id(now: float) -> str:
    """Return the id of a run that begins now."""
    return f"{time.strftime('%y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(2)}"
