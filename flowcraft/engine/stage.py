"""One stage: when -> each -> per element: timeout -> retry -> body -> type, every end of it recorded."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowcraft.engine.context import Context, LeavesValue
from flowcraft.engine.functions import load_module
from flowcraft.engine.job import Frame, StageReport, Stopped
from flowcraft.engine.pieces import Kept, StagePieces
from flowcraft.engine.ports import Piece
from flowcraft.engine.rendering import Rendered, asked, parallel, render
from flowcraft.engine.values import digest, plain
from flowcraft.errors import BudgetExceeded, FlowCraftError, RunError, StageFailed, StoreError
from flowcraft.events import ElementFinished, GoFailed, StageFinished, StageStarted
from flowcraft.plugin.chat import OutputSpec
from flowcraft.workflow.expressions import Expression, ExpressionError
from flowcraft.workflow.schema import Prompt, Run, Stage, Uses
from flowcraft.workflow.template import render_value
from flowcraft.workflow.types import Type, TypeMismatch

if TYPE_CHECKING:
    from flowcraft.engine.segment import Segment

LONGEST_PAUSE = 300.0
LONGEST_MESSAGE = 20_000


class TimedOut(StageFailed):
    """The stage's own time ran out; it is not tried again."""


def is_failure(error: BaseException) -> bool:
    """Say whether ``error`` is the failure of a stage, not the end of the run."""
    if isinstance(error, StageFailed):
        return True
    return isinstance(error, Exception) and not isinstance(error, RunError | StoreError | BudgetExceeded | Stopped)


def explain(error: BaseException) -> str:
    """Return what a person reads of a failure."""
    if isinstance(error, TypeMismatch):
        return "; ".join(f"{item['field']}: {item['message']}" if item["field"] else item["message"] for item in error.details)
    if isinstance(error, FlowCraftError | ExpressionError):
        details = getattr(error, "details", ())
        told = "; ".join(f"{item.get('field', '')}: {item.get('message', '')}" for item in details)
        return f"{error} ({told})" if told else str(error)
    return f"{type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One element of a stage, or the whole of a stage without ``each``."""

    path: str
    what: str
    code: str
    rendered: Rendered
    scope: Mapping[str, Any]


class StageRunner:
    """Carries one stage of a frame out."""

    def __init__(self, segment: Segment, frame: Frame, stage: Stage) -> None:
        self.segment = segment
        self.frame = frame
        self.stage = stage
        self.book = segment.book
        self.path = f"{frame.prefix}{stage.name}"
        self.report: StageReport = frame.reports[stage.name]
        self._started = False
        self._output: Type | None = None
        self._schema: dict[str, Any] | None = None
        self._code: str | None = None

    async def settle(self) -> bool:
        """Carry the stage out; return whether what depends on it may start."""
        if self.frame.stopping:
            return False
        self.report.begun = time.monotonic()
        try:
            value, state, reason = await self._carry()
        except Stopped:
            self.report.state = "stopped"
            return False
        except BudgetExceeded as error:
            # Not the stage failed, but the run is at its end: what is under way is finished, nothing new starts anywhere.
            message = self._told(error)
            self._end("failed", message)
            self.segment.root.fail(StageFailed(message, run=self.book.run, stage=self.path))
            return False
        except Exception as error:
            if not is_failure(error):
                raise
            message = self._told(error)
            self._end("failed", message)
            if self.stage.on_error == "continue":  # a condition or a list that could not be worked out
                self.frame.values[self.stage.name] = None
                return not self.frame.stopping
            self.frame.fail(StageFailed(message, run=self.book.run, stage=getattr(error, "stage", "") or self.path))
            return False
        self.frame.values[self.stage.name] = value
        self._end(state, reason)
        return not self.frame.stopping

    async def _carry(self) -> tuple[Any, str, str]:
        stage = self.stage
        if stage.output is not None:
            self._output = stage.output.resolve(lambda name: load_module(self.frame.workflow.folder, name))
            self._schema = self._output.json_schema()
        scope = self.segment.scope(self.frame, stage)
        if stage.when is not None and not stage.when_per_element and not self._holds(stage.when, scope):
            await self._skip(self.path)
            return None, "skipped", f"when: {stage.when.text}"
        self.report.tries = 1
        if stage.each is None:
            value, error = await self._element(self.path, scope)
            if error:
                self.report.error = error
                return value, "failed", error
            return value, "done", ""
        items = self._items(scope)
        self.report.elements = len(items)
        values = await self._list(items, scope)
        return values, "done", ""

    def _told(self, error: Exception) -> str:
        return self.book.redactor.text(explain(error))[:LONGEST_MESSAGE]  # cut behind: half a secret is none that is known

    def _holds(self, condition: Expression, scope: Mapping[str, Any]) -> bool:
        try:
            return bool(condition.evaluate(scope))
        except ExpressionError as error:
            raise StageFailed(f"when: {error}", run=self.book.run, stage=self.path) from None

    def _items(self, scope: Mapping[str, Any]) -> list[Any]:
        each = self.stage.each
        try:
            items = each.evaluate(scope) if isinstance(each, Expression) else render_value(list(each or ()), scope)
        except ExpressionError as error:
            raise StageFailed(f"each: {error}", run=self.book.run, stage=self.path) from None
        if items is None:
            return []
        if not isinstance(items, list):
            raise StageFailed(f"each: a list is needed, not {_kind(items)}", run=self.book.run, stage=self.path)
        return items

    async def _list(self, items: list[Any], scope: Mapping[str, Any]) -> list[Any]:
        values: list[Any] = [None] * len(items)
        errors: dict[int, str] = {}
        waiting = iter(range(len(items)))
        done = 0

        async def work() -> None:
            nonlocal done
            for index in waiting:
                if self.frame.stopping:
                    raise Stopped
                path = f"{self.path}[{index}]"
                values[index], error = await self._element(path, {**scope, "item": items[index], "index": index})
                done += 1
                if error:
                    errors[index] = f"[{index}] {error}"
                if self._started:
                    state = "failed" if error else "done"
                    self.segment.emit(
                        ElementFinished,
                        stage=self.path,
                        path=path,
                        index=index,
                        state=state,
                        reason=error,
                        done=done,
                        elements=len(items),
                    )

        workers = min(parallel(self.stage, scope), len(items))
        if workers <= 1:
            await work()
        else:
            await self._together(work, workers)
        self.report.errors = [errors[index] for index in sorted(errors)]
        return values

    async def _together(self, work: Callable[[], Awaitable[None]], workers: int) -> None:
        """Let so many workers share the elements; after a failure they finish what they are doing."""
        outcomes: list[BaseException] = []

        async def guarded() -> None:
            try:
                await work()
            except Exception as error:
                if not is_failure(error) and not isinstance(error, Stopped | BudgetExceeded):
                    raise
                outcomes.append(error)
                self.frame.stopped = True

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(guarded())
        for outcome in outcomes:
            if not isinstance(outcome, Stopped):
                raise outcome
        if outcomes:
            raise Stopped

    async def _element(self, path: str, scope: Mapping[str, Any]) -> tuple[Any, str]:
        """Return the value of one element, or None and the error that ``on_error: continue`` let pass."""
        stage = self.stage
        try:
            if stage.when_per_element and stage.when is not None and not self._holds(stage.when, scope):
                await self._skip(path)
                return None, ""
            unit = self._unit(path, scope)
        except StageFailed as error:
            # Nothing is recorded: rendered again on resume, it fails the same.
            if stage.on_error == "continue":
                return None, self._told(error)
            raise
        piece = self.book.known(path)
        if piece is not None:
            self.book.check(piece, unit.what)
            if unit.code != piece.code and piece.state == "done":
                self.segment.say_once("code", f"the code of {stage.name} changed since it ran; what it finished stays finished")
            if piece.state == "done":
                return json.loads(piece.result), ""
            if piece.state == "failed" and stage.on_error == "continue":
                told = json.loads(piece.result)
                return told.get("value"), str(told["error"])
        await self.segment.may_start()
        self._start()
        begun = time.monotonic()
        try:
            kept = await self._goes(unit, piece)
        except Exception as error:
            if not is_failure(error):
                raise
            goes = self.book.goes(path, _goes_before(piece)) + 1
            return await self._failed(unit, error, goes, time.monotonic() - begun)
        return await self.book.record(path, unit.what, kept, code=unit.code, seconds=time.monotonic() - begun), ""

    def _unit(self, path: str, scope: Mapping[str, Any]) -> Unit:
        stage = self.stage
        try:
            rendered = render(stage, scope, self.segment.job.bodies)
            arguments = rendered.arguments
            if arguments and self.segment.job.env:
                arguments = render_value(stage.with_, {**scope, "env": {name: f"env.{name}" for name in self.segment.job.env}})
        except ExpressionError as error:
            raise StageFailed(f"{path}: {error}", run=self.book.run, stage=path) from None
        chain = None
        if isinstance(stage.body, Prompt):
            chain = self.segment.job.models.written(
                rendered.model, stage.name, self.frame.workflow.default_model, rendered.quality
            )
        what = digest(_behind(path), asked(stage, rendered, arguments), chain, self._schema)
        return Unit(path=path, what=what, code=self._code_of(), rendered=rendered, scope=scope)

    def _code_of(self) -> str:
        if self._code is None:
            body = self.stage.body
            self._code = self.segment.code(self.frame.workflow.folder, body.module) if isinstance(body, Run) else ""
        return self._code

    async def _goes(self, unit: Unit, failed: Piece | None) -> Kept:
        """Repeat the body until it succeeds or ``retry`` is used up, all of it within ``timeout``."""
        # A stage that failed for good gets as many goes again; a kill between two goes gives none back.
        before = _goes_before(failed)
        first = self.book.goes(unit.path, before) + 1
        last = max(before + 1 + self.stage.retry.max, first)
        seconds = unit.rendered.timeout
        if seconds is None:
            return await self._repeat(unit, range(first, last + 1), None)
        clock = asyncio.timeout(seconds)
        try:
            async with clock:
                return await self._repeat(unit, range(first, last + 1), clock.when())
        except TimeoutError:
            if not clock.expired():
                raise
            raise TimedOut(f"timed out after {seconds:g} s", run=self.book.run, stage=unit.path) from None

    async def _repeat(self, unit: Unit, goes: range, deadline: float | None) -> Kept:
        for go in goes:
            try:
                return await self._body(unit, go, deadline)
            except Exception as error:
                if go == goes[-1] or not is_failure(error) or isinstance(error, TimedOut):
                    raise
                await self._pause(unit, go, go - goes[0], error)
        raise AssertionError("a go either returns or raises")

    async def _pause(self, unit: Unit, go: int, before: int, error: Exception) -> None:
        told = self._told(error)
        failed = self.book.kept(unit.path, {"error": told, "go": go})
        await self.book.record(f"{unit.path}~{go}", unit.what, failed, state="failed")
        if self.frame.stopping:
            raise Stopped
        pause = min(self.stage.retry.backoff * 2**before, LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        self.segment.emit(GoFailed, stage=self.path, path=unit.path, go=go, error=told, pause=pause)
        await asyncio.sleep(pause)
        await self.segment.may_start()

    async def _body(self, unit: Unit, go: int, deadline: float | None) -> Kept:
        stage = self.stage
        path = unit.path if go == 1 and not stage.retry.max else f"{unit.path}~{go}"
        segment = self.segment
        context = Context(
            run=self.book.run,
            path=path,
            stage=stage.name,
            pieces=StagePieces(self.book, path, _behind(path)),
            chain=lambda model, quality: segment.llm(model, stage.name, self.frame.workflow.default_model, quality),
            answered=lambda response: segment.answered(unit.path, response),
            say=lambda message, **data: segment.say(unit.path, message, **data),
            run_workflow=lambda workflow, inputs, below: segment.run_part(self.frame, workflow, inputs, below),
            threads=segment.threads,
            deadline=deadline,
            output=OutputSpec(schema=self._schema, name=stage.name) if self._schema is not None else None,
            arguments=unit.rendered.arguments,
            params=unit.rendered.params,
            model=unit.rendered.model,
            quality=unit.rendered.quality,
            folder=self.frame.workflow.folder,
            started_in=segment.job.folder,
            environment={name: value for name, value in segment.job.env.items() if name in self.frame.workflow.env},
            redactor=segment.job.redactor,
            budget=segment.budget,
        )
        body = segment.body(stage.key)
        try:
            value = await body.run(unit.rendered.options, context)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not we were cancelled, but something of the body's own; the task group would take it for an end without a word.
            raise StageFailed("the body was cancelled from within", run=self.book.run, stage=unit.path) from None
        return self.book.kept(unit.path, value if self._output is None else self._output.check(plain(value)))

    async def _failed(self, unit: Unit, error: Exception, goes: int, seconds: float) -> tuple[Any, str]:
        """Record the final failure; under ``on_error: continue`` return what it leaves and its message, else raise it."""
        failed = error.stage if isinstance(error, StageFailed) else ""
        inner = isinstance(self.stage.body, Uses) and bool(failed) and failed.startswith(unit.path)
        message = self._told(error)
        if self.stage.on_error == "continue" or not inner:
            # What failed inside is recorded there, and it is there that a resumed run goes on.
            left = {"value": error.value} if isinstance(error, LeavesValue) else {}
            result = self.book.kept(unit.path, {"error": message, "goes": goes, **left})
            await self.book.record(unit.path, unit.what, result, code=unit.code, state="failed", seconds=seconds)
            if self.stage.on_error == "continue":
                return result.value.get("value"), message
        raise StageFailed(message, run=self.book.run, stage=failed if inner else unit.path) from error

    async def _skip(self, path: str) -> None:
        if self.book.known(path) is None and self.stage.when is not None:
            reason = self.book.kept(path, {"reason": f"when: {self.stage.when.text}"})
            await self.book.record(path, "", reason, state="skipped")

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self.segment.emit(StageStarted, stage=self.path, elements=self.report.elements)

    def _end(self, state: str, reason: str) -> None:
        report = self.report
        report.state, report.error = state, reason if state == "failed" else report.error
        report.chosen = self.segment.chosen(self.path)
        report.seconds = time.monotonic() - (report.begun or time.monotonic())
        shown = "reused" if state == "done" and not self._started else state
        self.segment.emit(
            StageFinished,
            keep=self._started or state != "done",
            stage=self.path,
            state=shown,
            reason=reason,
            seconds=report.seconds,
            errors=len(report.errors),
        )


def _goes_before(piece: Piece | None) -> int:
    """Return after how many goes the failure that ``piece`` records was final; 0 where it records none."""
    return int(json.loads(piece.result)["goes"]) if piece is not None and piece.state == "failed" else 0


def _behind(path: str) -> str:
    """Return the part of a path behind its first stage and element."""
    return "/" + path.partition("/")[2] if "/" in path else path[_first_end(path) :]


def _first_end(path: str) -> int:
    bracket = path.find("]")
    if bracket >= 0:
        return bracket + 1
    tilde = path.find("~")
    return tilde if tilde >= 0 else len(path)


def _kind(value: Any) -> str:
    names: Mapping[type, str] = {str: "a string", dict: "an object", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)
