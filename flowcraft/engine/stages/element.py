"""One element of a stage, or the whole of a stage without ``each``: timeout -> until -> retry -> body -> type."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from flowcraft.engine.context import LeavesValue
from flowcraft.engine.pieces.book import Kept
from flowcraft.engine.pieces.reuse import SET_BY_HAND, Wanted
from flowcraft.engine.pieces.values import digest
from flowcraft.engine.ports import Piece
from flowcraft.engine.stages.caching import StageCache
from flowcraft.engine.stages.failures import TimedOut, is_failure
from flowcraft.engine.stages.gates import Gates
from flowcraft.engine.stages.goes import Goes, Unit, goes_before
from flowcraft.engine.stages.ground import Ground
from flowcraft.engine.stages.job import Frame
from flowcraft.engine.stages.tries import Exhausted, Tried, Tries
from flowcraft.errors import StageFailed
from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.schema import Approve, Group, Prompt, Stage, Uses

Scope = Mapping[str, Any]


class Element:
    """Carries the elements of one stage out; ``start`` is called when one of them has to be worked on.

    ``tried`` tells of the tries of each element that was carried out, by path.
    """

    def __init__(self, ground: Ground, frame: Frame, stage: Stage, start: Callable[[], None]) -> None:
        self.ground = ground
        self.stage = stage
        self.book = ground.book
        self.goes = Goes(ground, frame, stage)
        self.tried: dict[str, Tried] = {}
        self._tries = Tries(self.goes)
        self._cache = StageCache(self.goes)
        self._start = start

    def holds(self, scope: Scope) -> bool:
        """Say whether the stage's ``when`` holds."""
        assert self.stage.when is not None
        try:
            return bool(self.stage.when.evaluate(scope))
        except ExpressionError as error:
            raise StageFailed(f"when: {error}", run=self.book.run, stage=self.goes.path) from None

    async def skip(self, path: str) -> None:
        """Record that the stage, or an element of it, is skipped."""
        if self.book.known(path) is None and self.stage.when is not None:
            reason = self.book.kept(path, {"reason": f"when: {self.stage.when.text}"})
            before = self.ground.job.before
            origin = before.origin if before is not None and path in before.skipped else ""
            await self.book.done(Wanted(path=path, what=""), reason, state="skipped", origin=origin)

    async def give(self, path: str, value: Any) -> Any:
        """Return the stage's output as somebody set it; it is recorded, and nothing is carried out."""
        wanted = Wanted(path=path, what=digest("set", value), asks={"set": value})
        piece = self.book.known(path)
        if piece is not None:
            self.book.check(piece, wanted)
            return json.loads(piece.result)
        given = await self.book.done(wanted, self.book.kept(path, value), origin=SET_BY_HAND)
        self.ground.taken.setdefault(path, set()).add(SET_BY_HAND)
        return given

    async def carry(self, path: str, scope: Scope) -> tuple[Any, str]:
        """Return the value of one element, or None and the error that ``on_error: continue`` let pass."""
        stage = self.stage
        try:
            if stage.when_per_element and not self.holds(scope):
                await self.skip(path)
                return None, ""
            unit = self.goes.unit(path, self._tries.first(scope))
        except StageFailed as error:
            # Nothing is recorded: rendered again on resume, it fails the same.
            if stage.on_error == "continue":
                return None, self.goes.told(error)
            raise
        piece = await self._recorded(unit)
        if piece is not None:
            self._check(unit, piece)
            if piece.state == "done" or (piece.state == "failed" and stage.on_error == "continue"):
                return self._known(path, piece)
        key = await self._cache.key(unit, scope) if self._cache.used else ""
        if key and (cached := await self._cached(key, unit)) is not None:
            return cached.value, ""
        if not self._is_container:
            await self.ground.may_start()
        if not self.ground.idle:
            self._start()
        begun = time.monotonic()
        try:
            kept = await self._in_time(unit, piece, scope)
        except Exception as error:
            if not is_failure(error):
                raise
            if self._is_container:
                await Gates(self.ground).withdraw(path)
            return await self._failed(unit, error, piece, time.monotonic() - begun)
        origin = self.ground.origin(path) if self._is_container else ""
        value = await self.book.done(self._wanted(unit), kept, seconds=time.monotonic() - begun, origin=origin)
        if key and not origin and not self.ground.offline_at(path):
            await self._cache.keep(key, unit, kept)
        return value, ""

    async def _recorded(self, unit: Unit) -> Piece | None:
        """Return what is recorded or taken over; what people decided holds in a fork if nothing in front ran again."""
        gate = isinstance(self.stage.body, Approve) and self.stage.until is None and self.ground.job.before is not None
        if gate and self.ground.untouched(self.goes.frame, self.stage):
            return await self.book.recorded(replace(unit.wanted, here=True))
        return self.book.known(unit.path) if self._is_container else await self.book.recorded(unit.wanted)

    async def _cached(self, key: str, unit: Unit) -> Kept | None:
        """Return what was given for the same question a while ago; it becomes a piece of this run."""
        found = await self._cache.find(key, unit)
        if found is None:
            return None
        run, kept = found
        await self.book.done(self._wanted(unit), kept, origin=f"cache:{run}")
        self.ground.took(unit.path, f"cache:{run}")
        return kept

    @property
    def _is_container(self) -> bool:
        """Whether what lies in an element is found elsewhere, and not the element as a whole."""
        return self.goes.container or self.stage.until is not None

    def _wanted(self, unit: Unit) -> Wanted:
        """Return what is recorded as asked for: nothing where tries say it."""
        return replace(unit.wanted, asks={}) if self.stage.until is not None else self.goes.told_of(unit)

    def _check(self, unit: Unit, piece: Piece) -> None:
        self.book.check(piece, unit.wanted)
        if unit.wanted.code != piece.code and piece.state == "done":
            attaches = isinstance(self.stage.body, Prompt) and self.stage.body.attach
            whose = f"what is attached to {self.stage.name}" if attaches else f"the code of {self.stage.name}"
            said = f"{whose} changed since it ran; what it finished stays finished"
            self.ground.say_once("code", said)

    def _known(self, path: str, piece: Piece) -> tuple[Any, str]:
        told = json.loads(piece.result)
        if self.stage.until is not None:
            best = told.get("try") if piece.state == "failed" else None
            self.tried[path] = self._tries.recorded(path, best)
        return (told, "") if piece.state == "done" else (told.get("value"), str(told["error"]))

    async def _in_time(self, unit: Unit, piece: Piece | None, scope: Scope) -> Kept:
        """Carry the element out within its ``timeout``."""
        seconds = unit.rendered.timeout if not isinstance(self.stage.body, Approve) else None  # its time is the calendar's
        if seconds is None:
            return await self._all(unit, piece, scope, None)
        clock = asyncio.timeout(seconds)
        try:
            async with clock:
                return await self._all(unit, piece, scope, clock.when())
        except TimeoutError:
            if not clock.expired():
                raise
            raise TimedOut(f"timed out after {seconds:g} s", run=self.book.run, stage=unit.path) from None

    def _all(self, unit: Unit, piece: Piece | None, scope: Scope, deadline: float | None) -> Awaitable[Kept]:
        if self.stage.until is None:
            return self.goes.carry(unit, piece, deadline)
        tried = self.tried[unit.path] = Tried()
        return self._tries.carry(unit, piece, scope, tried, deadline)

    async def _failed(self, unit: Unit, error: Exception, before: Piece | None, seconds: float) -> tuple[Any, str]:
        """Record the final failure; under ``on_error: continue`` return what it leaves and its message, else raise it."""
        failed = error.stage if isinstance(error, StageFailed) else ""
        inner = bool(failed) and failed.startswith(unit.path) and self._has_parts(failed != unit.path)
        message = self.goes.told(error)
        if self.stage.on_error == "continue" or not inner:
            # What failed inside is recorded there, and it is there that a resumed run goes on.
            left: dict[str, Any] = {"error": message, "goes": self.book.goes(unit.path, goes_before(before)) + 1}
            if isinstance(error, LeavesValue):
                left["value"] = error.value
            if isinstance(error, Exhausted):
                left |= {"tries": error.tries, "try": error.best}
            result = self.book.kept(unit.path, left)
            await self.book.done(self._wanted(unit), result, state="failed", seconds=seconds)
            if self.stage.on_error == "continue":
                return result.value.get("value"), message
        raise StageFailed(message, run=self.book.run, stage=failed if inner else unit.path) from error

    def _has_parts(self, below: bool) -> bool:
        return isinstance(self.stage.body, Uses | Group) or (self.stage.until is not None and below)
