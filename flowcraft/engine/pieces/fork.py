"""A fork: what the run that it was made of has done already, found by its hash."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from flowcraft.engine.pieces.reuse import Reuse, Wanted, plain_path, source_of
from flowcraft.engine.ports import Piece
from flowcraft.workflow.words import FINALLY

_NUMBER = re.compile(r"(\d+)")


class Fork(Reuse):
    """Finds the finished pieces of run ``run``; those of stage ``anew`` are left out, ``own`` are the fork's own so far.

    Of several with the same hash the one at the same path comes first, else each is lent once, in the order of paths.
    """

    def __init__(self, run: str, pieces: Sequence[Piece], own: Iterable[Piece], anew: str = "") -> None:
        self.run = run
        self._anew = anew
        self._at = {piece.path: piece for piece in pieces if not self._left_out(piece.path)}
        self._alike: dict[tuple[str, str], list[Piece]] = {}
        for piece in sorted(self._at.values(), key=lambda piece: _order(piece.path), reverse=True):
            if piece.state == "done":
                self._alike.setdefault((piece.what, piece.code), []).append(piece)
        self._used = {source_of(piece.origin, piece.path) for piece in own if piece.origin.startswith("fork:")}

    def find(self, wanted: Wanted) -> Piece | None:
        """Return the piece that answers what is wanted; what failed there is done anew, with all its parts."""
        if self._left_out(wanted.path):
            return None
        same = self._at.get(wanted.path)
        if same is not None and (same.what, same.code) == (wanted.what, wanted.code):
            if same.state == "done" and not self._in_failed(wanted):
                return self._lent(same, wanted)
            return None
        if wanted.here:
            return None
        alike = self._alike.get((wanted.what, wanted.code), [])
        while alike:
            piece = alike.pop()
            if piece.path not in self._used:
                return self._lent(piece, wanted)
        return None

    def _lent(self, piece: Piece, wanted: Wanted) -> Piece:
        self._used.add(piece.path)
        elsewhere = "" if piece.path == wanted.path else f":{piece.path}"
        return replace(piece, origin=f"fork:{self.run}{elsewhere}")

    def _in_failed(self, wanted: Wanted) -> bool:
        """Say whether this is a part of a go that failed: carried out again from the same parts, it would fail again."""
        return any(
            (piece := self._at.get(path)) is not None and piece.state == "failed"
            for path in (wanted.part_of, _without_go(wanted.part_of))
        )

    def _left_out(self, path: str) -> bool:
        name = plain_path(path)
        return name.startswith(f"{FINALLY}/") or (bool(self._anew) and f"{name}/".startswith(f"{self._anew}/"))


def _without_go(path: str) -> str:
    group, slash, last = path.rpartition("/")
    return group + slash + last.partition("~")[0]


def _order(path: str) -> list[tuple[int, str]]:
    """Return what paths are put in order by: text as text, numbers as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBER.split(path)]
