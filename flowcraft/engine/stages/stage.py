"""One stage: when -> each -> its elements, every end of it recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flowcraft.engine.pieces.reuse import SET_BY_HAND, plain_path
from flowcraft.engine.stages.element import Element
from flowcraft.engine.stages.failures import ENDS, is_failure
from flowcraft.engine.stages.ground import Ground
from flowcraft.engine.stages.job import Frame, StageReport, Stopped, Waiting
from flowcraft.engine.stages.rendering import parallel
from flowcraft.errors import StageFailed
from flowcraft.events import ElementFinished, StageFinished, StageStarted
from flowcraft.workflow.expressions.expression import Expression, ExpressionError
from flowcraft.workflow.expressions.template import render_value
from flowcraft.workflow.schema import Approve, Stage


class StageRunner:
    """Carries one stage of a frame out."""

    def __init__(self, ground: Ground, frame: Frame, stage: Stage) -> None:
        self.ground = ground
        self.frame = frame
        self.stage = stage
        self.path = f"{frame.prefix}{stage.name}"
        self.report: StageReport = frame.reports[stage.name]
        self.element = Element(ground, frame, stage, self._start)
        self._started = False

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
        except Waiting:
            self.report.state = "waiting"
            return False
        except Exception as error:
            if not isinstance(error, ENDS) and not is_failure(error):
                raise
            return self._fails(error)
        self.frame.values[self.stage.name] = value
        self._end(state, reason)
        return not self.frame.stopping

    def _fails(self, error: Exception) -> bool:
        """Take note that the stage failed; return whether what depends on it may start all the same."""
        message = self.element.goes.told(error)
        self._end("failed", message)
        failed = StageFailed(message, run=self.ground.run_row.id, stage=getattr(error, "stage", "") or self.path)
        if isinstance(error, ENDS) or isinstance(self.stage.body, Approve):
            # The run is at its end, not the stage alone: what is under way is finished, nothing new starts anywhere. So it is
            # with a gate, whatever it failed of: nothing around it may go on as if somebody had approved.
            self.frame.top.fail(failed)
            return False
        if self.stage.on_error == "continue":  # a condition or a list that could not be worked out
            self.frame.values[self.stage.name] = None
            return not self.frame.stopping
        self.frame.fail(failed)
        return False

    async def _carry(self) -> tuple[Any, str, str]:
        stage = self.stage
        self.element.goes.prepare()
        before = self.ground.job.before
        if before is not None and (name := plain_path(self.path)) in before.given:
            return await self.element.give(self.path, before.given[name]), "done", ""
        scope = self.ground.scope(self.frame, stage)
        if stage.when is not None and not stage.when_per_element and not self.element.holds(scope):
            await self.element.skip(self.path)
            return None, "skipped", f"when: {stage.when.text}"
        self.report.tries = 1
        if stage.each is None:
            value, error = await self.element.carry(self.path, scope)
            self._take(self.path)
            if error:
                self.report.error = error
                return value, "failed", error
            return value, "done", ""
        items = self._items(scope)
        self.report.elements = len(items)
        if not items:
            self._start()  # no element of it does
        values = await self._list(items, scope)
        return values, "done", ""

    def _take(self, path: str, place: int | None = None) -> None:
        """Take over what is told of the tries of an element; of a list the most tries, and each element's judge."""
        report, told = self.report, self.element.tried.get(path)
        if told is not None:
            report.tries = max(report.tries, told.count)
            if place is None:
                report.judge = told.judge
            elif isinstance(report.judge, list):
                report.judge[place] = told.judge

    def _items(self, scope: Mapping[str, Any]) -> list[Any]:
        each, run = self.stage.each, self.ground.run_row.id
        try:
            items = each.evaluate(scope) if isinstance(each, Expression) else render_value(list(each or ()), scope)
        except ExpressionError as error:
            raise StageFailed(f"each: {error}", run=run, stage=self.path) from None
        if items is None:
            return []
        if not isinstance(items, list):
            raise StageFailed(f"each: a list is needed, not {_kind(items)}", run=run, stage=self.path)
        return items

    async def _list(self, items: list[Any], scope: Mapping[str, Any]) -> list[Any]:
        values: list[Any] = [None] * len(items)
        self.report.judge = [None] * len(items) if self.stage.judge is not None and self.stage.until is not None else None
        errors: dict[int, str] = {}
        waiting = iter(range(len(items)))
        waits: list[int] = []
        done = 0

        async def work() -> None:
            nonlocal done
            for index in waiting:
                if self.frame.stopping:
                    raise Stopped
                path = f"{self.path}[{index}]"
                try:
                    values[index], error = await self.element.carry(path, {**scope, "item": items[index], "index": index})
                except Waiting:
                    waits.append(index)  # it holds up none of the others
                    continue
                self._take(path, index)
                done += 1
                if error:
                    errors[index] = f"[{index}] {error}"
                if self._started:
                    state = "failed" if error else "done"
                    self.ground.emit(
                        ElementFinished,
                        stage=self.path,
                        path=path,
                        index=index,
                        state=state,
                        reason=error,
                        done=done,
                        elements=len(items),
                    )

        # Where nothing begins, one after the other: the first that stops must not keep others from being looked up.
        workers = 1 if self.ground.idle else min(parallel(self.stage, scope), len(items))
        if workers <= 1:
            await work()
        else:
            await self._together(work, workers)
        if waits:
            raise Waiting
        self.report.errors = [errors[index] for index in sorted(errors)]
        return values

    async def _together(self, work: Callable[[], Awaitable[None]], workers: int) -> None:
        """Let so many workers share the elements; after a failure they finish what they are doing."""
        outcomes: list[BaseException] = []

        async def guarded() -> None:
            try:
                await work()
            except Exception as error:
                if not is_failure(error) and not isinstance(error, (Stopped, *ENDS)):
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

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self.ground.emit(StageStarted, stage=self.path, elements=self.report.elements)

    def _end(self, state: str, reason: str) -> None:
        report = self.report
        report.state, report.error = state, reason if state == "failed" else report.error
        report.chosen = self.ground.chosen(self.path)
        report.seconds = time.monotonic() - (report.begun or time.monotonic())
        shown, kinds = state, self.ground.taken.get(self.path, set())
        forked = self.ground.job.before is not None
        if state == "done" and (not self._started or (forked and kinds and not self.ground.book.anew(self.path))):
            shown = "cached" if kinds == {"cache"} else "reused"
            reason = self._origin(kinds)
        elif state == "done" and kinds:
            before = self.ground.job.before
            reason = f"in part from run {before.run}" if before is not None and "fork" in kinds else "in part from the cache"
        self.ground.emit(
            StageFinished,
            keep=self._started or state != "done" or bool(kinds),
            stage=self.path,
            state=shown,
            reason=reason,
            seconds=report.seconds,
            errors=len(report.errors),
        )

    def _origin(self, kinds: set[str]) -> str:
        """Return from where the stage was taken, in words; nothing where this run had done it before."""
        if SET_BY_HAND in kinds:
            self.report.origin = SET_BY_HAND
            return "set by hand"
        before = self.ground.job.before
        if before is not None and "fork" in kinds:
            self.report.origin = before.origin
            return f"from run {before.run}"
        self.report.origin = "cache" if kinds else ""
        return ""


def _kind(value: Any) -> str:
    names: Mapping[type, str] = {str: "a string", dict: "an object", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)
