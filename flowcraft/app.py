"""FlowCraft: the one place where the parts are wired together."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flowcraft import __version__
from flowcraft.engine import (
    FINALLY,
    AttemptRow,
    Case,
    Engine,
    Job,
    NewRun,
    OnWait,
    Quality,
    RunRow,
    SegmentStart,
    Spent,
    StageReport,
    StateChange,
    is_judge,
    stage_of,
)
from flowcraft.engine.bodies.shell import why_no_shell
from flowcraft.errors import Problem, SettingsError, StoreError, WorkflowError
from flowcraft.events import Bus, Drain, Event, Said
from flowcraft.llm import Chain
from flowcraft.llm.scoring import score_request
from flowcraft.llm.sharing.stores import Stores
from flowcraft.manager import LLMManager, Options
from flowcraft.plugin import Preset, Provider
from flowcraft.redaction import SHORTEST, Redactor
from flowcraft.settings import Settings, load_settings
from flowcraft.source import did_you_mean
from flowcraft.storage import Database, SqlAnswers, SqlCallStore, SqlLimits, SqlRunStore, SqlSpending, SqlVerdictStore
from flowcraft.tools import can_serve, function_tool
from flowcraft.workflow import (
    Facts,
    Prompt,
    Stage,
    Template,
    Workflow,
    bind_inputs,
    check_start,
    check_workflow,
    environment_names,
    load_workflow,
    plugin_tools,
)

SNAPSHOT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended. ``usd`` is None where no price is known; ``offline`` says that the built-in model answered.

    ``instead`` says that it answered although a real model was in the chain. ``stages`` holds, by name, state, error,
    errors, tries, model, tokens, usd and seconds.
    """

    run: str
    state: str
    outputs: Any = None
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    calls: int = 0
    tokens: int = 0
    usd: float | None = None
    offline: bool = False
    instead: bool = False
    error: str = ""

    @property
    def done(self) -> bool:
        """Whether the run reached its end."""
        return self.state == "done"


@dataclass(frozen=True, slots=True)
class _Models:
    """The manager, as the engine asks it; ``override`` stands in for every model of the run."""

    manager: LLMManager
    override: str | None = None

    def _choice(self, model: str | None, stage: str, default: str | None) -> str | None:
        if self.override or model:
            return self.override or model
        return None if stage in self.manager.settings.llm.expensive_stages else default

    def llm(self, model: str | None, stage: str, default: str | None, quality: Quality) -> Chain:
        return self.manager.llm(self._choice(model, stage, default), stage=stage, **self._options(quality))

    def written(self, model: str | None, stage: str, default: str | None, quality: Quality) -> Any:
        return self.manager.written(self._choice(model, stage, default), stage=stage, **self._options(quality))

    async def score(self, judge: str | None, stage: tuple[str | None, str, str | None], case: Case) -> tuple[float, str]:
        named = judge or self.manager.settings.llm.judge.model
        if named is not None and named in self.manager.plugins.judges():
            named = None  # it compares two answers, and scores none
        chain = self.manager.llm(
            self._choice(named or stage[0], stage[1], stage[2]), stage=stage[1], strategy="single", cache=0
        )
        said = (await chain.chat(score_request(case.question, case.answer, case.rubric, case.scope))).parsed
        return float(said["score"]), str(said["reason"])

    def doubts(self, stage: Stage, default: str | None) -> Sequence[str]:
        """Return what of a stage's strategy its models cannot carry out, and whether its judge has nothing to do.

        Where one model stands in for all, that is meant.
        """
        if self.override or isinstance(stage.model, Template):
            return ()
        judge = stage.judge.model if stage.judge is not None else None
        tools = isinstance(stage.body, Prompt) and bool(stage.body.tools)
        quality = Quality(strategy=stage.strategy, judge=judge, confidence=stage.confidence, tools=tools)
        asked = (stage.model, stage.name, default, quality)
        written = self.written(*asked)
        if stage.judge is not None and stage.until is None and "judge" not in written:
            told = f"'judge' has nothing to choose from with strategy {written['strategy']}, which settings say"
            return (f"{told}; write strategy: best_of_two",)
        return self.llm(*asked).notes

    def _options(self, quality: Quality) -> Options:
        judge = {"model": quality.judge, "criteria": quality.rubric} if quality.judge or quality.rubric else None
        return Options(
            strategy=quality.strategy,
            judge=judge,
            confidence=quality.confidence,
            confined=self.override is not None,
            tools=quality.tools,
        )

    def lacks(self, model: str | None, stage: str, default: str | None, wanted: frozenset[str]) -> str:
        return self.manager.lacks(wanted, self._choice(model, stage, default), stage=stage)


class FlowCraft:
    """Workflows and models over one settings page and one database.

    ``settings`` is a ``Settings``, the path of a settings file, or None for the file found by its usual names. Use it as an
    async context manager, or call ``aclose``.
    """

    def __init__(self, settings: Settings | str | Path | None = None) -> None:
        self.settings = settings if isinstance(settings, Settings) else load_settings(settings)
        self.bus = Bus(self._tell_of_dropped)
        self.database = Database(self.settings.storage)
        self.engine = Engine(SqlRunStore(self.database), self.bus)
        stores = Stores(
            calls=SqlCallStore(self.database),
            verdicts=SqlVerdictStore(self.database),
            spending=SqlSpending(self.database),
            limits=SqlLimits(self.database),
            answers=SqlAnswers(self.database),
        )
        self.manager = LLMManager(self.settings, stores=stores, sinks=(self.engine.record,), bus=self.bus)
        self.plugins = self.manager.plugins
        self._managers: list[LLMManager] = [self.manager]
        self._drain: Drain | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Write what waits and close providers and database."""
        try:
            await self.engine.interrupt()
            for manager in self._managers:
                await manager.aclose()
            if self._drain is not None:
                await asyncio.to_thread(self._drain.close)
        finally:
            await asyncio.to_thread(self.engine.close)
            self.database.close()

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
        workflow = load_workflow(path, bodies=self.plugins.bodies())
        problems = [problem for problem in self.check(workflow, starting=True, model=model) if not problem.warning]
        if problems:
            raise WorkflowError(problems=problems)
        return workflow

    def check(self, workflow: Workflow, *, starting: bool = False, model: str | None = None) -> list[Problem]:
        """Return what is wrong or doubtful about a workflow with these settings, plugins and environment.

        What only this machine lacks, such as an environment name, is a problem where a run is ``starting``, else a warning.
        ``model`` stands in for every model.
        """
        return check_workflow(workflow, self._facts(workflow, starting, model))

    def _facts(self, workflow: Workflow, starting: bool, model: str | None) -> Facts:
        models = _Models(self.manager, model)
        return Facts(
            tiers=self.manager.tiers,
            knows_model=self.manager.knows_model if model is None else lambda name: True,
            model_names=self.manager.model_names,
            aliases=frozenset(self.settings.llm.aliases),
            lacks=models.lacks,
            doubts=models.doubts,
            knows_judge=lambda name: name in self.plugins.judges(),
            tools=lambda: self.plugins.tools(function_tool),
            serves=can_serve(),
            unset_env=self._unset(workflow),
            no_shell=why_no_shell(),
            short_env=frozenset(name for name, value in self._environment(workflow).items() if len(value) < SHORTEST),
            starting=starting,
        )

    def _check_model(self, model: str | None) -> None:
        """Raise SettingsError where nobody knows the model that stands in for all."""
        tiers = self.manager.tiers
        if model is None or model in tiers or self.manager.knows_model(model) is not False:
            return
        hint = did_you_mean(model, [*sorted(tiers), *self.manager.model_names])
        raise SettingsError(f"unknown model or tier {model!r}; {hint or 'flowcraft models list shows those that are known'}")

    def _check_settled(self, workflow: Workflow, inputs: Mapping[str, Any], model: str | None) -> None:
        """Raise WorkflowError where these inputs make settings of stages wrong."""
        found = check_start(workflow, inputs, self._facts(workflow, True, model))
        problems = [problem for problem in found if not problem.warning]
        if problems:
            raise WorkflowError(problems=problems)

    def _unset(self, workflow: Workflow) -> frozenset[str]:
        """Return the environment names that a workflow and its parts may read and that have no value."""
        return environment_names(workflow) - self._environment(workflow).keys()

    async def run(
        self,
        workflow: Workflow | str | Path,
        inputs: Mapping[str, Any] | None = None,
        *,
        model: str | None = None,
        on_start: Callable[[str], None] | None = None,
    ) -> RunResult:
        """Run a workflow to its end. ``model`` stands in for every model; ``on_start`` is told the run's id."""
        self._check_model(model)
        if not isinstance(workflow, Workflow):
            workflow = self.load(workflow, model=model)
        elif missing := self._unset(workflow):
            raise WorkflowError(f"the workflow needs the environment names {', '.join(sorted(missing))}; set them")
        redactor = self._redactor(workflow)
        bound = redactor.value(bind_inputs(workflow, inputs or {}))
        self._check_settled(workflow, bound, model)
        now = time.time()
        new = NewRun(
            id=_new_id(now),
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
        start = await self.engine.begin(lambda given_up: self.engine.create(new))
        if on_start is not None:
            on_start(new.id)
        return await self._carry(workflow, self.manager, start)

    async def resume(
        self, run: str, *, on_wait: OnWait | None = None, on_start: Callable[[RunRow], None] | None = None
    ) -> RunResult:
        """Go on with a run from its last finished piece of work, with the workflow and settings that it started with.

        Takes the run over if its process is gone; ``on_wait`` is told where that has to be found out first.
        """
        row = await asyncio.to_thread(self.engine.find, run)
        snapshot = row.snapshot
        if snapshot.get("v") != SNAPSHOT_VERSION:
            raise StoreError(f"run {row.id} was kept in another form ({snapshot.get('v')!r}); it cannot be resumed")
        workflow = load_workflow(snapshot["file"], files=snapshot["files"], bodies=self.plugins.bodies())
        if missing := self._unset(workflow):
            names = ", ".join(sorted(missing))
            raise WorkflowError(f"run {row.id} needs the environment names {names}; set them and resume again")
        manager = self._manager_of(snapshot["settings"])
        wait = on_wait or (lambda process: None)
        start = await self.engine.begin(lambda given_up: self.engine.take_over(row.id, wait, given_up))
        if on_start is not None:
            on_start(start.run)
        return await self._carry(workflow, manager, start)

    def cancel(self, run: str, *, on_wait: OnWait | None = None) -> RunRow:
        """Cancel a run: its owner ends it at its next beat; with no live owner it is ended here."""
        return self.engine.cancel(run, on_wait or (lambda process: None))

    def _manager_of(self, snapshot: Mapping[str, Any]) -> LLMManager:
        if snapshot == self.settings.snapshot():
            return self.manager
        settings = Settings.from_snapshot(snapshot, self.settings.environment, current=self.settings)
        manager = self.manager.with_settings(settings)
        self._managers.append(manager)
        return manager

    def _environment(self, workflow: Workflow) -> dict[str, str]:
        """Return the values of the environment names that a workflow and its parts may read; an empty one is not set."""
        known = self.settings.environment
        return {name: known[name] for name in environment_names(workflow) if known.get(name)}

    def _redactor(self, workflow: Workflow) -> Redactor:
        return Redactor([*self.manager.secrets, *self._environment(workflow).values()])

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

    async def _carry(self, workflow: Workflow, manager: LLMManager, start: SegmentStart) -> RunResult:
        self._open_sinks()
        row = start.run
        job = Job(
            workflow=workflow,
            inputs=row.inputs,
            models=_Models(manager, row.snapshot.get("model")),
            bodies=self.plugins.bodies(),
            tools=self.plugins.tools(function_tool) if any(plugin_tools(workflow)) else {},
            redactor=self._redactor(workflow),
            env=self._environment(workflow),
            folder=row.folder,
            date=str(row.snapshot.get("date", "")),
        )
        change, reports = await self.engine.carry(job, start)
        return await asyncio.to_thread(self._result, row.id, change, reports)

    def _result(self, run: str, change: StateChange, reports: Mapping[str, StageReport]) -> RunResult:
        bill = _Bill(self.engine.store.attempts(run))
        totals = self.engine.store.totals([run]).get(run)
        return RunResult(
            run=run,
            state=change.state,
            outputs=change.outputs,
            stages={
                name: {**report.data(), "seconds": round(report.seconds, 3), **bill.of(name, report.chosen)}
                for name, report in reports.items()
            },
            seconds=change.seconds,
            calls=totals.calls if totals else 0,
            tokens=totals.tokens if totals else 0,
            usd=totals.usd if totals else None,
            offline=bill.offline,
            instead=bill.instead,
            error=change.error,
        )


def _stage_of(path: str) -> str:
    """Return the stage of the file that a path belongs to, by its name; those that run last as ``finally/NAME``."""
    first, _, rest = path.partition("/")
    name = stage_of(first)
    return f"{name}/{stage_of(rest.partition('/')[0])}" if name == FINALLY else name


class _Bill:
    """What the stages of a run spent, and whether the offline model answered for a real one."""

    def __init__(self, attempts: Iterable[AttemptRow]) -> None:
        self._stages: dict[str, Spent] = {}
        offline, real = set(), set()
        for row in attempts:
            name = _stage_of(row.path)
            self._stages.setdefault(name, Spent()).add(row.attempt, answers=not is_judge(row.path))
            if not row.attempt.offline:
                real.add(row.path)
            elif row.attempt.outcome == "ok":
                offline.add(row.path)
        self.offline = bool(offline)
        self.instead = bool(offline & real)

    def of(self, stage: str, chosen: str | None) -> dict[str, Any]:
        told = (self._stages.get(stage) or Spent()).data()
        return {**told, "model": chosen or told["model"]}


def _new_id(now: float) -> str:
    return f"{time.strftime('%y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(2)}"


__all__ = ["FlowCraft", "RunResult"]
