"""What a stage asks of its body, and the goes that the body takes until it succeeds."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowcraft.engine.bodies.attachments import contents
from flowcraft.engine.bodies.crews import AGENTS, models_named
from flowcraft.engine.context import ApproveAsk, Context, LeavesValue
from flowcraft.engine.functions import load_module
from flowcraft.engine.pieces.book import Kept, StagePieces
from flowcraft.engine.pieces.reuse import Wanted
from flowcraft.engine.pieces.values import digest, plain
from flowcraft.engine.ports import Piece, Quality
from flowcraft.engine.stages.failures import LONGEST_MESSAGE, TimedOut, explain, is_failure
from flowcraft.engine.stages.gates import Gates, Place
from flowcraft.engine.stages.ground import Ground
from flowcraft.engine.stages.job import Frame, Stopped
from flowcraft.engine.stages.rendering import Latest, Rendered, asked, render
from flowcraft.errors import StageFailed
from flowcraft.events import GoFailed
from flowcraft.plugin.chat import OutputSpec
from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.expressions.template import render_value
from flowcraft.workflow.loading.attachments import LARGEST
from flowcraft.workflow.loading.stage_settings import LONGEST_PAUSE
from flowcraft.workflow.schema import Approve, Group, Run, Stage, Uses, agents_of, asks_models, tool_lists
from flowcraft.workflow.types.type import Type


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One element of a stage, or the whole of a stage without ``each``; with ``until``, one try of it.

    ``arguments`` is the rendered ``with``, names in place of environment values.
    """

    wanted: Wanted
    rendered: Rendered
    arguments: Mapping[str, Any]

    @property
    def path(self) -> str:
        """Where its piece lies."""
        return self.wanted.path


class Goes:
    """Makes units of one stage and carries them out."""

    def __init__(self, ground: Ground, frame: Frame, stage: Stage) -> None:
        self.ground = ground
        self.frame = frame
        self.stage = stage
        self.book = ground.book
        self.path = f"{frame.prefix}{stage.name}"
        # What people decided in another run counts for none but a recording's.
        asks = isinstance(stage.body, Approve) and not ground.job.replays
        self.container = isinstance(stage.body, Uses | Group) or asks
        self._output: Type | None = None
        self._schema: dict[str, Any] | None = None
        self._code: str | None = None
        self._files: dict[tuple[str, int, int], str] = {}

    def prepare(self) -> None:
        """Import what the stage's output type needs."""
        if self.stage.output is not None:
            self._output = self.stage.output.resolve(lambda name: load_module(self.frame.workflow.folder, name))
            self._schema = self._output.json_schema()

    def told(self, error: Exception) -> str:
        """Return what a person reads of a failure, secrets taken out."""
        return self.book.redactor.text(explain(error))[:LONGEST_MESSAGE]  # cut behind: half a secret is none that is known

    def unit(self, path: str, scope: Mapping[str, Any], latest: Latest | None = None) -> Unit:
        """Return what is asked for at ``path``; ``latest`` is the try before, where the stage has ``until``."""
        stage = self.stage
        try:
            rendered = render(stage, scope, self.ground.job.bodies, latest)
            arguments = rendered.arguments
            if arguments and self.ground.job.env:
                arguments = render_value(stage.with_, {**scope, "env": {name: f"env.{name}" for name in self.ground.job.env}})
        except ExpressionError as error:
            raise StageFailed(f"{path}: {error}", run=self.book.run, stage=path) from None
        chain = self._chain(rendered.model, rendered) if asks_models(stage.body) else None
        asks = asked(stage, rendered, arguments)
        what = digest(_behind(path), asks, chain, self._schema)
        told = {**asks, "chain": chain, "output": self._schema}
        wanted = Wanted(path=path, what=what, code=self._code_of(rendered), asks=told)
        return Unit(wanted=wanted, rendered=rendered, arguments=arguments)

    def _chain(self, model: str | None, rendered: Rendered) -> Any:
        """Return the chain of a model as settings write it, with those that a stage's agents name."""
        written, default = self.ground.written, self.frame.workflow.default_model
        chain = written(model, self.stage.name, default, rendered.quality)
        named = models_named(rendered.options)
        if not named:
            return chain
        return {"stage": chain, **{name: written(name, self.stage.name, default, rendered.quality) for name in named}}

    def told_of(self, unit: Unit) -> Wanted:
        """Return what is recorded as asked for by a unit: nothing where inner stages say it."""
        return replace(unit.wanted, asks={}) if isinstance(self.stage.body, Group) else unit.wanted

    def _code_of(self, rendered: Rendered) -> str:
        code = self._code_of_modules()
        attached = getattr(rendered.options, "attach", ())
        if not attached:
            return code
        paths = [one.found(self.ground.job.folder) for one in attached if not one.is_url]
        return digest(code, [self._contents(path) for path in paths])

    def _contents(self, path: str) -> str:
        """Return the digest of an attached file; made once, though a thousand elements attach it."""
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return ""
        key = (path, found.st_mtime_ns, found.st_size)
        if key not in self._files:
            self._files[key] = contents(path) if found.st_size <= LARGEST else ""
        return self._files[key]

    def _code_of_modules(self) -> str:
        if self._code is None:
            codes: list[Any] = [self.ground.code(self.frame.workflow.folder, module) for module in _modules(self.stage)]
            names = sorted({tool.server for _, tools in tool_lists(self.stage) for tool in tools if tool.server})
            codes += [[name, self._server(name)] for name in names]
            self._code = codes[0] if len(codes) == 1 and not names else digest(*codes) if codes else ""
        return self._code

    def _server(self, name: str) -> Any:
        """Return how an MCP server is reached, environment values by their names."""
        names = {known: f"env.{known}" for known in self.ground.job.env}
        try:
            return render_value(self.frame.workflow.servers[name], {"inputs": self.frame.inputs, "env": names})
        except ExpressionError:
            return None  # told where the server is needed

    async def carry(self, unit: Unit, failed: Piece | None, deadline: float | None) -> Kept:
        """Repeat the body until it succeeds or ``retry`` is used up; ``failed`` is the final failure that is recorded."""
        # A stage that failed for good gets as many goes again; a kill between two goes gives none back.
        before = goes_before(failed)
        first = self.book.goes(unit.path, before) + 1
        last = max(before + 1 + self.stage.retry.max, first)
        return await self._repeat(unit, range(first, last + 1), deadline)

    async def finish(self, unit: Unit, piece: Piece | None, deadline: float | None) -> Kept:
        """Do as ``carry`` does, and record the final failure at the unit's own place."""
        begun = time.monotonic()
        try:
            return await self.carry(unit, piece, deadline)
        except Exception as error:
            if not is_failure(error) or (isinstance(error, StageFailed) and error.stage.startswith(f"{unit.path}/")):
                raise
            message = self.told(error)
            goes = self.book.goes(unit.path, goes_before(piece)) + 1
            left = {"value": error.value} if isinstance(error, LeavesValue) else {}
            failed = self.book.kept(unit.path, {"error": message, "goes": goes, **left})
            seconds = time.monotonic() - begun
            await self.book.done(unit.wanted, failed, state="failed", seconds=seconds)
            told = LeavesValue(message, error.value) if isinstance(error, LeavesValue) else StageFailed(message)
            told.run, told.stage = self.book.run, unit.path
            raise told from error

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
        told = self.told(error)
        failed = self.book.kept(unit.path, {"error": told, "go": go})
        await self.book.record(f"{unit.path}~{go}", unit.wanted.what, failed, state="failed")
        if self.container:
            await Gates(self.ground).withdraw(f"{unit.path}~{go}")
        if self.frame.stopping:
            raise Stopped
        pause = min(self.stage.retry.backoff * 2**before, LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        self.ground.emit(GoFailed, stage=self.path, path=unit.path, go=go, error=told, pause=pause)
        await asyncio.sleep(pause)
        await self.ground.may_start()

    async def _body(self, unit: Unit, go: int, deadline: float | None) -> Kept:
        stage = self.stage
        path = unit.path if go == 1 and not stage.retry.max else f"{unit.path}~{go}"
        ground = self.ground
        pieces = StagePieces(self.book, path, _behind(path), ground.may_start, unit.wanted.code)
        context = Context(
            run=self.book.run,
            path=path,
            stage=stage.name,
            pieces=pieces,
            chain=lambda model, quality: ground.llm(model, stage.name, self.frame.workflow.default_model, quality),
            answered=lambda response: ground.answered(unit.path, response),
            say=lambda message, **data: ground.say(unit.path, message, **data),
            run_workflow=lambda workflow, inputs, below: ground.run_part(self.frame, workflow, inputs, below),
            run_stages=lambda stages, names, below: ground.run_group(self.frame, stages, names, below),
            tools=lambda names: ground.bench.given(self.frame, names, pieces),
            ask=lambda ask: self._asked(unit, ask),
            runner=ground.runner,
            threads=ground.threads,
            deadline=deadline,
            output=OutputSpec(schema=self._schema, name=stage.name) if self._schema is not None else None,
            arguments=unit.rendered.arguments,
            params=unit.rendered.params,
            model=unit.rendered.model,
            quality=unit.rendered.quality,
            others=AGENTS if agents_of(stage.body) else Quality(),
            folder=self.frame.workflow.folder,
            started_in=ground.job.folder,
            environment={name: value for name, value in ground.job.env.items() if name in self.frame.workflow.env},
            redactor=ground.job.redactor,
            budget=ground.budget,
        )
        body = ground.body(stage.key)
        try:
            value = await body.run(unit.rendered.options, context)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not we were cancelled, but something of the body's own; the task group would take it for an end without a word.
            raise StageFailed("the body was cancelled from within", run=self.book.run, stage=unit.path) from None
        return self.book.kept(unit.path, value if self._output is None else self._output.check(plain(value)))

    async def _asked(self, unit: Unit, ask: ApproveAsk) -> Mapping[str, Any]:
        before = goes_before(self.book.known(unit.path))
        place = Place(path=unit.path, what=unit.wanted.what, before=before, timeout=unit.rendered.timeout)
        return await Gates(self.ground).ask(place, ask)


def goes_before(piece: Piece | None) -> int:
    """Return after how many goes the failure that ``piece`` records was final; 0 where it records none."""
    return int(json.loads(piece.result)["goes"]) if piece is not None and piece.state == "failed" else 0


def _modules(stage: Stage) -> list[str]:
    """Return the modules whose code a stage runs."""
    if isinstance(stage.body, Run):
        return [stage.body.module]
    return sorted({tool.module for _, tools in tool_lists(stage) for tool in tools if tool.module})


def _behind(path: str) -> str:
    """Return the part of a path behind its first stage and element."""
    first, slash, rest = path.partition("/")
    end = first.find("]") + 1 or min(place if (place := first.find(mark)) >= 0 else len(first) for mark in "#~")
    return first[end:] + slash + rest
