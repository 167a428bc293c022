"""The library's face: what is wired here is all there is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flowcraft.app.parts import Part, Parts
from flowcraft.events import Bus, Drain, Event, Said
from flowcraft.settings import Settings, load_settings

if TYPE_CHECKING:
    from flowcraft.app.comparing.differences import RunDifference
    from flowcraft.app.forks import Forks
    from flowcraft.app.results import RunResult
    from flowcraft.app.runs import Runs
    from flowcraft.app.workflows import Workflows
    from flowcraft.discovery import Plugins
    from flowcraft.drawing import Drawing
    from flowcraft.engine import Approval, Engine, OnWait, RunRow
    from flowcraft.engine.forecasts.figures import Forecast
    from flowcraft.errors import Problem
    from flowcraft.llm import Chain
    from flowcraft.llm.ports import CallRecord
    from flowcraft.manager import LLMManager
    from flowcraft.plugin import Preset, Provider
    from flowcraft.storage import Database
    from flowcraft.workflow import Workflow


class FlowCraft(Parts):
    """Workflows and models over one settings page and one database.

    ``settings`` is a ``Settings``, the path of a settings file, or None for the file found by its usual names. Use it as an
    async context manager, or call ``aclose``.
    """

    def __init__(self, settings: Settings | str | Path | None = None) -> None:
        super().__init__()
        self.settings = settings if isinstance(settings, Settings) else load_settings(settings)
        self.bus = Bus(self._tell_of_dropped)
        self._drain: Drain | None = None

    # -- parts, each made when it is first used: whoever only draws a workflow needs no database

    @Part
    def database(self) -> Database:
        """The database that settings name; raises StoreError where that is none."""
        from flowcraft.storage import Database

        return Database(self.settings.storage)

    @Part
    def engine(self) -> Engine:
        """What carries runs out, and finds them."""
        from flowcraft.engine import Engine
        from flowcraft.storage import SqlRunStore

        return Engine(SqlRunStore(self.database), self.bus)

    @Part
    def manager(self) -> LLMManager:
        """The models."""
        from flowcraft.manager import LLMManager
        from flowcraft.manager.records import KeptStore
        from flowcraft.manager.stores import kept_stores

        stores = kept_stores(KeptStore(lambda: self.database))
        return LLMManager(self.settings, stores=stores, sinks=(self._record,), bus=self.bus)

    @property
    def plugins(self) -> Plugins:
        """The plugins that are installed."""
        return self.manager.plugins

    @Part
    def workflows(self) -> Workflows:
        """What loads and checks workflow files."""
        from flowcraft.app.workflows import Workflows

        return Workflows(self.manager)

    @Part
    def runs(self) -> Runs:
        """What begins runs and goes on with them."""
        from flowcraft.app.runs import Runs

        return Runs(self.engine, self.workflows, self._open_sinks)

    @Part
    def forks(self) -> Forks:
        """What makes new runs of others."""
        from flowcraft.app.forks import Forks

        return Forks(self.runs)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Write what waits and close providers and database."""
        try:
            if self.has("engine"):
                await self.engine.interrupt()
            for manager in self._managers():
                await manager.aclose()
            if self._drain is not None:
                await asyncio.to_thread(self._drain.close)
        finally:
            if self.has("engine"):
                await asyncio.to_thread(self.engine.close)
            if self.has("database"):
                self.database.close()

    def _managers(self) -> Sequence[LLMManager]:
        """Return the managers that were needed so far."""
        if self.has("runs"):
            return self.runs.managers
        return [self.manager] if self.has("manager") else []

    # -- models

    def llm(self, model: str | None = None, *, stage: str | None = None, task: str | None = None, **options: Any) -> Chain:
        """Return the chain for a tier, alias or model, for a stage's tier, or the default chain."""
        return self.manager.llm(model, stage=stage, task=task, **options)

    def register_provider(self, name: str, provider: type[Provider] | Preset | None = None) -> Any:
        """Add a provider type under ``name``; without ``provider``, a decorator of its class."""
        return self.manager.register_provider(name, provider)

    def subscribe(self, watcher: Callable[[Event], None]) -> Callable[[], None]:
        """Hand every event to ``watcher``, which must be cheap; call the result to stop that."""
        return self.bus.subscribe(watcher)

    # -- workflows

    def load(self, path: str | Path, *, model: str | None = None) -> Workflow:
        """Return the checked workflow of a file, ready to run; raise WorkflowError with every problem of it at once.

        ``model`` stands in for every model, as in ``run``.
        """
        return self.workflows.load(path, model=model)

    def check(self, workflow: Workflow, *, starting: bool = False, model: str | None = None) -> list[Problem]:
        """Return what is wrong or doubtful about a workflow with these settings, plugins and environment.

        What only this machine lacks, such as an environment name, is a problem where a run is ``starting``, else a warning.
        ``model`` stands in for every model.
        """
        return self.workflows.check(workflow, starting=starting, model=model)

    def draw(self, workflow: Workflow | str | Path, *, deep: bool = False) -> Drawing:
        """Return the drawing of a workflow; with ``deep`` those that it uses are unfolded. Nothing of it is run.

        Raises WorkflowError with every problem of a file that cannot be read.
        """
        from flowcraft.drawing import draw
        from flowcraft.workflow import Workflow, load_workflow

        if not isinstance(workflow, Workflow):
            workflow = load_workflow(workflow, bodies=self.plugins.bodies())
        return draw(workflow, deep=deep)

    def draw_run(self, run: str, *, deep: bool = False) -> Drawing:
        """Return the drawing of a run: the workflow that it started with, and what became of it so far."""
        from flowcraft.app.drawings import draw_run

        return draw_run(self.engine.store, self.engine.find(run), self.plugins.bodies(), deep=deep)

    def plan(
        self, workflow: Workflow | str | Path, inputs: Mapping[str, Any] | None = None, *, model: str | None = None
    ) -> Forecast:
        """Return what a run is going to take: calls, tokens, money, time. Runs nothing, spends nothing, writes nothing.

        It rests on earlier runs, else on what models are known for, else on defaults, which it names. Without ``inputs`` it
        tells what can be told.
        """
        from flowcraft.app.forecasts import Forecasts

        return Forecasts(self.workflows, self.settings.storage).plan(workflow, inputs, model=model)

    async def run(
        self,
        workflow: Workflow | str | Path,
        inputs: Mapping[str, Any] | None = None,
        *,
        model: str | None = None,
        answers: Mapping[str, Any] | None = None,
        on_start: Callable[[str], None] | None = None,
    ) -> RunResult:
        """Run a workflow to its end, or until it waits for people. ``model`` stands in for every model.

        ``answers`` answers gates as soon as they ask: a choice, or a mapping of choice, comment, by and values, by the gate's
        name. ``on_start`` is told the run's id.
        """
        runs = await self._ready()
        return await runs.run(workflow, inputs, model=model, answers=answers, on_start=on_start)

    async def resume(
        self,
        run: str,
        *,
        answers: Mapping[str, Any] | None = None,
        budget: Mapping[str, Any] | None = None,
        on_wait: OnWait | None = None,
        on_start: Callable[[RunRow], None] | None = None,
    ) -> RunResult:
        """Go on with a run from its last finished piece of work, with the workflow and settings that it started with.

        Takes the run over if its process is gone; ``on_wait`` is told where that has to be found out first. ``budget`` raises
        for this run what its file lets it spend: ``{"usd": 5, "time": "2h"}``. Raises WorkflowError for a unit that the file
        does not limit, and for a value that is spent already. A run that waits for people, of whom nobody has answered, goes on
        waiting; ``answers`` is that of ``run``.
        """
        runs = await self._ready()
        return await runs.resume(run, answers=answers, budget=budget, on_wait=on_wait, on_start=on_start)

    def approvals(self, run: str | None = None) -> Sequence[Approval]:
        """Return what waits for an answer, of one run or of all."""
        return self.runs.approvals.open(run)

    async def approve(
        self,
        run: str,
        gate: str | None = None,
        *,
        choice: str,
        comment: str = "",
        by: str = "",
        values: Mapping[str, Any] | None = None,
    ) -> Approval:
        """Answer a gate of a run, by its name or path; without one, the only one that is open. It counts once.

        ``values`` are those of its form, ``by`` is who is logged in where nothing else is said. The run goes on with
        ``resume``, or by itself where its process still does other work. Raises WorkflowError where the gate, the choice or a
        value is wrong, RunError where somebody else was faster or the time is over.
        """
        from flowcraft.engine import Answer

        runs = await self._ready()
        answer = Answer(choice=choice, comment=comment, by=by, values=values or {})
        return await asyncio.to_thread(runs.approvals.answer, run, gate, answer)

    async def attend(self, *, every: float = 5.0, on_result: Callable[[RunResult], None] | None = None) -> None:
        """Look after all runs of the database until this task is cancelled: go on with each that nobody goes on with.

        These are runs whose process is gone, runs that wait, once they are answered or a gate's time is over, runs that are to
        be cancelled and have no process, and runs that were interrupted while somebody attended to them. Runs of live
        processes are left alone; several may attend at once. One task sleeps for all of them; what other processes do it
        finds within ``every`` seconds. ``on_result`` is told how each of them ended, or that it waits again.
        """
        from flowcraft.app.attending import Attendant

        await Attendant(await self._ready(), every, on_result).attend()

    async def fork(
        self,
        run: str,
        *,
        stage: str | None = None,
        file: Workflow | str | Path | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        model: str | None = None,
        answers: Mapping[str, Any] | None = None,
        on_start: Callable[[str], None] | None = None,
    ) -> RunResult:
        """Make a new run of another one: what is unchanged is taken over, the rest is carried out.

        ``stage`` is done anew. ``file`` is the workflow as it was edited, ``inputs`` go over those of the run, ``outputs`` in
        place of what stages would give, by their names; ``model`` stands in for every model, '' for none any more. ``answers``
        is that of ``run``, for gates that are asked anew.
        """
        from flowcraft.app.forks import Changes

        given = {"inputs": inputs or {}, "outputs": outputs or {}, "answers": answers or {}}
        changes = Changes(stage=stage, file=file, model=model, **given)
        await self._ready()
        return await self.forks.fork(run, changes, on_start)

    async def cancel(
        self, run: str, *, on_wait: OnWait | None = None, on_start: Callable[[RunRow], None] | None = None
    ) -> RunRow:
        """End a run for good; return it as it is then.

        Its owner ends it at its next beat. With no live owner it is ended here, its ``finally`` included, and ``on_start`` is
        told when that begins.
        """
        runs = await self._ready()
        return await runs.cancel(run, on_wait=on_wait, on_start=on_start)

    def export(self, run: str, path: str | Path, *, force: bool = False) -> Path:
        """Write a run, as it stands, to one SQLite file, which ``flowcraft runs show`` reads elsewhere; return its path.

        Prompts, outputs, attempts, costs, events and approvals are in it, keys and secrets are not. Raises StoreError where
        the file is there already, unless ``force`` is given, or cannot be written.
        """
        from flowcraft.app.recordings import export_run

        return export_run(self.database, self.workflows, self.engine.find(run), Path(path), force=force)

    def diff(self, first: str | Path, second: str | Path) -> RunDifference:
        """Return what differs between two runs: inputs, files, settings, outputs, and stage by stage what became of them.

        Each is a run's id, the beginning of one, or the file of an export. Raises RunError where there is no such run,
        StoreError for a file that is no export.
        """
        from flowcraft.app.comparing.differences import differences
        from flowcraft.app.recordings import opened

        with opened(self.engine, first) as one, opened(self.engine, second) as two:
            return differences(one, two)

    async def _ready(self) -> Runs:
        """Return what carries runs out. It is loaded on a thread: nobody's loop stands still for that."""
        return await asyncio.to_thread(lambda: self.runs)

    def _record(self, record: CallRecord) -> None:
        """Hand a call to the run that it was made for."""
        if self.has("engine"):
            self.engine.record(record)

    def _tell_of_dropped(self, watcher: Callable[..., None], error: BaseException) -> None:
        name = getattr(watcher, "__qualname__", type(watcher).__name__)
        told = f"{name}, which watched events, failed and is told no more: {type(error).__name__}: {error}"
        self.bus.emit(Said(time=time.time(), level="warning", message=told))

    def _open_sinks(self) -> None:
        """Let plugins' sinks see the events of runs."""
        sinks = self.plugins.sinks() if self._drain is None else ()
        if sinks:
            self._drain = Drain(sinks, on_drop=self._tell_of_dropped)
            self.bus.subscribe(self._drain)
