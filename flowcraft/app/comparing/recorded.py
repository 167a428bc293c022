"""What a recorded run did, as a replay of it finds it, and what the replay asks for in vain."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowcraft.app.comparing.findings import Finding, Place, changed, locate
from flowcraft.engine import Piece, stage_of
from flowcraft.engine.pieces.asked import asked_text
from flowcraft.engine.pieces.reuse import SET_BY_HAND, Wanted
from flowcraft.engine.stages.job import Stopped
from flowcraft.errors import Rejected, StageFailed, StoreError
from flowcraft.workflow import Workflow
from flowcraft.workflow.schema import Approve, Group, Uses
from flowcraft.workflow.words import FINALLY

_END = re.compile(rf"{FINALLY}\[(\d+)\](.*)")
_ONLY_END = f"{FINALLY}[1]"
"""Where a replay comes to its end: once."""


def _of_last_end(pieces: Sequence[Piece]) -> Iterable[Piece]:
    """Yield the pieces of a run; of what ran last in it only that of its last end, as if it had been the only one."""
    ends = {piece.path: (int(found[1]), found[2]) for piece in pieces if (found := _END.fullmatch(piece.path))}
    last = max((number for number, _ in ends.values()), default=0)
    for piece in pieces:
        number, rest = ends.get(piece.path, (last, ""))
        if number == last:
            yield replace(piece, path=_ONLY_END + rest) if piece.path in ends else piece


class Recorded:
    """The pieces of a recording, as a replayed run finds them. ``findings`` is what it asked for in vain.

    ``cut`` says that the replay came to where the recorded run was stopped.
    """

    def __init__(self, pieces: Sequence[Piece], workflow: Workflow, stages: frozenset[str], *, ended: bool) -> None:
        self.workflow = workflow
        self.findings: list[Finding] = []
        self.used: set[str] = set()
        self.cut = False
        self._stages = stages
        self._ended = ended
        self._by_path = {piece.path: piece for piece in _of_last_end(pieces)}
        self._by_what: dict[str, list[Piece]] = {}
        for piece in self._by_path.values():
            if piece.what and "~" not in piece.path.rpartition("/")[2]:
                self._by_what.setdefault(piece.what, []).append(piece)

    def find(self, wanted: Wanted) -> Piece | None:
        """Return the recorded piece of work; raise its failure, or Stopped where there is none."""
        if wanted.path == _ONLY_END:
            return self._recorded_end(str(wanted.asks["state"]))
        piece = self._recorded(wanted)
        place = locate(self.workflow, wanted.path)
        if piece is None:
            self._miss(wanted, place)
            raise Stopped
        self.used.add(piece.path)
        if piece.state == "failed" and not self._goes_on(place, wanted.path):
            error = _told(piece, "error")
            asks = place is not None and isinstance(place.stage.body, Approve)
            raise (Rejected if asks else StageFailed)(error, stage=wanted.path)
        return piece

    def _recorded(self, wanted: Wanted) -> Piece | None:
        piece = self._by_path.get(wanted.path)
        if piece is not None and piece.what == wanted.what and piece.state != "skipped":
            return piece
        same = self._by_what.get(wanted.what, [])
        return next((piece for piece in same if piece.path not in self.used and piece.state != "skipped"), None)

    def _recorded_end(self, state: str) -> Piece | None:
        """Return how the recorded run ended, where this one comes to the same."""
        end = self._by_path.get(_ONLY_END)
        if end is None or self.findings:
            return None
        return end if self.cut or _told(end, "state") == state else None

    def has_failed(self, error: str) -> bool:
        """Say whether a run's error is one that the recording has too: of stages side by side the other may be first now."""
        return any(piece.state == "failed" and _told(piece, "error") in error for piece in self._by_path.values())

    def _goes_on(self, place: Place | None, path: str) -> bool:
        """Say whether the stage goes on in spite of a failure; that of a try is not its own."""
        return place is not None and place.stage.on_error == "continue" and "#" not in path.rpartition("/")[2]

    def _miss(self, wanted: Wanted, place: Place | None) -> None:
        path = wanted.path
        if path.startswith(f"{FINALLY}[") and (self.findings or self.cut):
            return  # how the run ended differs, and what runs last tells of it
        piece = self._by_path.get(path)
        if piece is not None and piece.state != "skipped":
            self.findings.append(changed(path, place, _asked(piece.asked), _plain(wanted.asks)))
            return
        failed = self._failed_around(path)
        if failed is not None:
            raise StageFailed(_told(failed, "error"), stage=failed.path)
        if not self._ended and stage_of(path) in self._stages and piece is None:
            self.cut = True
            return
        told, order = place.told() if place else "", place.order if place else ()
        self.findings.append(Finding(kind="new", path=path, message=self._new(path, piece), place=told, order=order))

    def _failed_around(self, path: str) -> Piece | None:
        """Return the piece of a stage around that failed in the recording, such as by its ``timeout``."""
        around = path.rpartition("/")[0]
        while around:
            piece = self._by_path.get(around)
            if piece is not None and piece.state == "failed":
                return piece
            around = around.rpartition("/")[0]
        return None

    def _new(self, path: str, skipped: Piece | None) -> str:
        if skipped is not None:
            return f"{path} is carried out; in the recording it was skipped: {_told(skipped, 'reason')}"
        stage = stage_of(path)
        if stage not in self._stages:
            return f"the stage '{stage}' is new: the recording has nothing of it"
        before = sum(stage_of(known) == stage and "~" not in known.rpartition("/")[2] for known in self._by_path)
        number = f"{before} piece{'s' * (before != 1)}"
        return f"{path} is asked for; the recording has {number} of '{stage}', and not this one"

    def gone(self, skipped: Iterable[str], *, ended: bool) -> list[Finding]:
        """Return what the recording has and the run did not ask for, where nothing before explains it.

        A run that has not ``ended`` well begins nothing new, while in the recording more may have been under way.
        """
        missing = {stage for stage in self._known_stages() if locate(self.workflow, stage) is None}
        outermost = [stage for stage in missing if not any(stage.startswith(f"{other}/") for other in missing)]
        found = [
            Finding(kind="gone", path=stage, message=f"the stage '{stage}' of the recording is gone", place=self._file)
            for stage in sorted(outermost)
        ]
        for path in skipped:
            piece, place = self._by_path.get(path), locate(self.workflow, path)
            if place is not None and (piece is None or piece.state != "skipped") and stage_of(path) in self._stages:
                message = f"{path} is skipped now; in the recording it was carried out"
                found.append(Finding(kind="gone", path=path, message=message, place=place.told("when"), order=place.order))
        if ended and not found and not self.findings and not self.cut:
            found += self._unasked()
        return found

    def _known_stages(self) -> set[str]:
        return {stage_of(piece.path) for piece in self._by_path.values() if piece.asked or piece.state == "skipped"}

    def _unasked(self) -> list[Finding]:
        """Return the elements and stages of the recording that nobody asked for, the outermost of each."""
        found = []
        for piece in self._by_path.values():
            last = piece.path.rpartition("/")[2]
            place = locate(self.workflow, piece.path)
            if piece.path in self.used or not piece.asked or piece.origin == SET_BY_HAND or "~" in last or place is None:
                continue
            if isinstance(place.stage.body, Group | Uses) or self._below_used(piece.path):
                continue  # what lies in it says it; or it lies in what was taken as a whole
            message = f"{piece.path} of the recording is not asked for any more"
            found.append(Finding(kind="gone", path=piece.path, message=message, place=place.told(), order=place.order))
        return found

    def _below_used(self, path: str) -> bool:
        """Say whether a part of a piece that was taken as a whole is meant: a call of it, or what it used."""
        around = path.rpartition("/")[0]
        while around:
            if around in self.used or around.partition("~")[0] in self.used:
                return True
            around = around.rpartition("/")[0]
        return False

    @property
    def _file(self) -> str:
        document = self.workflow.document
        return document.name if document is not None else self.workflow.path


def _told(piece: Piece, name: str) -> str:
    """Return what the result of a piece that gave nothing says; raise StoreError where it does not."""
    told = json.loads(piece.result)
    if not isinstance(told, dict) or name not in told:
        raise StoreError(f"the database is damaged: the piece {piece.path} is {piece.state} and has no {name}")
    return str(told[name])


def _asked(text: str) -> Mapping[str, Any]:
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _plain(asks: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is asked for as the recording holds it: shortened as there, and read back."""
    return _asked(asked_text(asks))
