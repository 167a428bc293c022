"""Pieces: known? its result : do, record, and only then go on."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flowcraft.engine.ports import AttemptRow, EventRow, Piece, PieceState, Write
from flowcraft.engine.values import digest, json_text, stored
from flowcraft.engine.writer import Writer
from flowcraft.errors import RunDiverged
from flowcraft.redaction import Redactor


@dataclass(frozen=True, slots=True)
class Kept:
    """A value as it is stored: its JSON text, and what reading that gives."""

    text: str
    value: Any


class PieceBook:
    """The pieces of one run, as one segment sees and adds to them.

    Kept events wait here for the next piece, so that both share a transaction.
    """

    def __init__(self, run: str, epoch: int, known: Mapping[str, Piece], writer: Writer, redactor: Redactor) -> None:
        self.run = run
        self.epoch = epoch
        self.redactor = redactor
        self._known = dict(known)
        self._writer = writer

    def known(self, path: str) -> Piece | None:
        """Return what is recorded at ``path``."""
        return self._known.get(path)

    def goes(self, path: str, after: int = 0) -> int:
        """Return the number of the last recorded failed go of the body at ``path``, ``after`` if none behind it is."""
        while (piece := self._known.get(f"{path}~{after + 1}")) is not None and piece.state == "failed":
            after += 1
        return after

    def check(self, piece: Piece, what: str) -> None:
        """Raise RunDiverged unless ``what`` is what was recorded."""
        if piece.what != what:
            raise RunDiverged(
                f"{piece.path} asks for something else than what this run recorded there; a run goes on with what it "
                "started with: start a new run for the changed workflow",
                run=self.run,
                stage=piece.path,
            )

    def kept(self, path: str, value: Any) -> Kept:
        """Return ``value`` as it is stored, secrets taken out; raise StageFailed where it cannot be."""
        text, value = stored(value, f"the value of {path}")
        if self.redactor and value is not None and not isinstance(value, bool | int | float):
            value = self.redactor.value(value)
            text = json_text(value)
        return Kept(text, value)

    async def record(
        self, path: str, what: str, kept: Kept, *, code: str = "", state: PieceState = "done", seconds: float = 0.0
    ) -> Any:
        """Record a finished bit of work and return its value."""
        piece = Piece(path=path, what=what, code=code, state=state, result=kept.text, seconds=seconds)
        await self._writer.save(Write(run=self.run, epoch=self.epoch, pieces=(piece,)))
        self._known[path] = piece
        return kept.value

    def add_event(self, row: EventRow) -> None:
        """Record an event soon."""
        self._writer.add(Write(run=self.run, epoch=self.epoch, events=(row,)))

    def add_attempt(self, row: AttemptRow) -> None:
        """Record an attempt soon, whoever owns the run: the money is spent."""
        self._writer.add(Write(run=self.run, epoch=self.epoch, attempts=(row,)))


async def _at_once() -> None:
    pass


class StagePieces:
    """The pieces below one stage: what a body makes of its own parts. ``may_start`` is asked before each."""

    def __init__(self, book: PieceBook, path: str, suffix: str, may_start: Callable[[], Awaitable[None]] = _at_once) -> None:
        self._book = book
        self._path = path
        self._suffix = suffix
        self._may_start = may_start

    async def do(self, part: str, what: Any, body: Callable[[], Awaitable[Any]]) -> Any:
        """Return the recorded result at ``part``, or carry out ``body`` and record what it returns."""
        path = f"{self._path}/{part}"
        wanted = digest(f"{self._suffix}/{part}", what)
        known = self._book.known(path)
        if known is not None and known.state == "done":
            self._book.check(known, wanted)
            return json.loads(known.result)
        await self._may_start()
        begun = time.monotonic()
        value = await body()
        return await self._book.record(path, wanted, self._book.kept(path, value), seconds=time.monotonic() - begun)
