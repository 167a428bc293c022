"""Pieces: known? its result : do, record, and only then go on."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowcraft.engine.pieces.asked import asked_text, difference
from flowcraft.engine.pieces.reuse import SET_BY_HAND, Reuse, Wanted, around
from flowcraft.engine.pieces.values import digest, json_text, stored
from flowcraft.engine.pieces.writer import Writer
from flowcraft.engine.ports import AttemptRow, EventRow, Piece, PieceState, Write
from flowcraft.errors import RunDiverged
from flowcraft.redaction import Redactor


@dataclass(frozen=True, slots=True)
class Kept:
    """A value as it is stored: its JSON text, and what reading that gives."""

    text: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where else than among a run's own pieces something of them is found.

    ``reuse`` knows other runs' work, ``took`` is told of each piece that was taken over. ``asked(path)`` reads what a piece of
    this run asked for, which is not kept in memory.
    """

    reuse: Reuse | None = None
    took: Callable[[Piece], None] = lambda piece: None
    asked: Callable[[str], str] = lambda path: ""


class PieceBook:
    """The pieces of one run, as one segment sees and adds to them.

    Kept events wait here for the next piece, so that both share a transaction.
    """

    def __init__(
        self, owned: tuple[str, int], known: Mapping[str, Piece], writer: Writer, redactor: Redactor, sources: Sources
    ) -> None:
        self.run, self.epoch = owned
        self.redactor = redactor
        self._known = dict(known)
        self._writer = writer
        self._sources = sources
        self._anew: set[str] = set()
        for piece in known.values() if sources.reuse is not None else ():
            self._note(piece)

    def known(self, path: str) -> Piece | None:
        """Return what is recorded at ``path``."""
        return self._known.get(path)

    def goes(self, path: str, after: int = 0) -> int:
        """Return the number of the last recorded failed go of the body at ``path``, ``after`` if none behind it is."""
        while (piece := self._known.get(f"{path}~{after + 1}")) is not None and piece.state == "failed":
            after += 1
        return after

    async def recorded(self, wanted: Wanted) -> Piece | None:
        """Return what this run has recorded of ``wanted``, else what is taken over from another run, which is recorded first.

        Raises RunDiverged where something else was asked for at its path.
        """
        piece = self._known.get(wanted.path)
        if piece is not None:
            self.check(piece, wanted)
            return piece
        if self._sources.reuse is None or (found := self._sources.reuse.find(wanted)) is None:
            return None
        piece = replace(found, path=wanted.path, what=wanted.what, code=wanted.code, asked="")
        await self._save(piece, wanted.asks)
        self._sources.took(piece)
        return piece

    def anew(self, path: str) -> bool:
        """Say whether this run did something itself at ``path`` or below it; asked only where it reuses other runs' work."""
        return path in self._anew

    def _note(self, piece: Piece) -> None:
        if self._sources.reuse is not None and (not piece.origin or piece.origin == SET_BY_HAND):
            self._anew.update(around(piece.path))

    def check(self, piece: Piece, wanted: Wanted) -> None:
        """Raise RunDiverged unless ``wanted`` is what was recorded."""
        if piece.what == wanted.what:
            return
        told = difference(self._sources.asked(piece.path), self._asked(wanted.asks))
        raise RunDiverged(
            f"{piece.path} asks for something else than what this run recorded there{f' ({told})' if told else ''}; a run "
            "goes on with what it started with: start a new run for the changed workflow",
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
        await self._save(Piece(path=path, what=what, code=code, state=state, result=kept.text, seconds=seconds), {})
        return kept.value

    async def done(
        self, wanted: Wanted, kept: Kept, *, state: PieceState = "done", seconds: float = 0.0, origin: str = ""
    ) -> Any:
        """Record that ``wanted`` is done, with what it asked for, and return its value."""
        what, code = wanted.what, wanted.code
        piece = Piece(path=wanted.path, what=what, code=code, state=state, result=kept.text, seconds=seconds, origin=origin)
        await self._save(piece, wanted.asks)
        return kept.value

    async def _save(self, piece: Piece, asks: Mapping[str, Any]) -> None:
        # What was asked is for people: it is written, and not kept in memory.
        written = replace(piece, asked=self._asked(asks)) if asks else piece
        await self._writer.save(Write(run=self.run, epoch=self.epoch, pieces=(written,)))
        self._known[piece.path] = piece
        self._note(piece)

    def _asked(self, asks: Mapping[str, Any]) -> str:
        return asked_text(self.redactor.value(asks)) if asks else ""

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

    def __init__(
        self, book: PieceBook, path: str, suffix: str, may_start: Callable[[], Awaitable[None]] = _at_once, code: str = ""
    ) -> None:
        self._book = book
        self._path = path
        self._suffix = suffix
        self._may_start = may_start
        self._code = code

    def known(self, part: str) -> bool:
        """Say whether this run has recorded something at ``part``."""
        return self._book.known(f"{self._path}/{part}") is not None

    async def do(self, part: str, what: Any, body: Callable[[], Awaitable[Any]]) -> Any:
        """Return the recorded result at ``part``, or carry out ``body`` and record what it returns."""
        path = f"{self._path}/{part}"
        wanted = Wanted(
            path=path,
            what=digest(f"{self._suffix}/{part}", what),
            code=self._code,
            asks=what if isinstance(what, dict) else {"what": what},
            here=True,
            part_of=self._path,
        )
        known = await self._book.recorded(wanted)
        if known is not None and known.state == "done":
            return json.loads(known.result)
        await self._may_start()
        begun = time.monotonic()
        value = await body()
        return await self._book.done(wanted, self._book.kept(path, value), seconds=time.monotonic() - begun)
