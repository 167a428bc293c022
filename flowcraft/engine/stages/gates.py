"""Gates: asked durably, answered once. What was not approved lets nothing behind it run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flowcraft.engine.context import ApproveAsk
from flowcraft.engine.pieces.values import json_text
from flowcraft.engine.stages.ground import Ground, stage_of
from flowcraft.engine.stages.job import Waiting
from flowcraft.engine.waiting import Answer, Approval, Mark
from flowcraft.errors import ApprovalTimedOut, Rejected, RunDiverged, RunError
from flowcraft.events import ApprovalAnswered, ApprovalAsked, ApprovalExpired, ApprovalWithdrawn
from flowcraft.workflow.loading.approvals import REJECT, best_match, parts_of_path

LONGEST_SHOWN = 2_000
"""Characters of a question that its event holds; the approval itself holds all of it."""


_PARTS = frozenset("/#~[")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a gate asks: its path, the digest of what it asks, how often it failed here before, its ``timeout`` in seconds."""

    path: str
    what: str
    before: int
    timeout: float | None


class Gates:
    """Asks people for one segment of a run."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.book = ground.book
        self.store = ground.desk.store
        self.now = ground.desk.now

    async def ask(self, place: Place, ask: ApproveAsk) -> Mapping[str, Any]:
        """Return what was chosen; raise Waiting where nobody has answered yet, Rejected, or ApprovalTimedOut."""
        await self.ground.may_start()
        answers = self.ground.run_row.answers
        found = await self._read(place.path)
        if found is None or found.number <= place.before or found.state == "withdrawn":
            found = await self._asked(place, ask)
            # Somebody may have answered beforehand while this segment ran: who does so looks for what is asked behind that.
            row = await self.ground.threads.run(lambda: self.store.get(self.book.run))
            answers = row.answers if row is not None else answers
        elif found.what != place.what:
            told = f"{place.path} asks people for something else than what this run asked them there; start a new run"
            raise RunDiverged(told, run=self.book.run, stage=place.path)
        elif found.open:
            self.ground.emit(ApprovalAsked, keep=False, **_told(found))
        if found.open:
            found = await self._settled(found, answers)
        if found.open:
            raise Waiting
        if found.answered:
            return await self._taken(found, ask.rejects)
        message = f"nobody answered within {place.timeout or 0:g} s"
        raise await self._failed(found, ApprovalTimedOut(message, run=self.book.run, stage=place.path))

    async def withdraw(self, within: str = "") -> None:
        """Take back what is still asked, of the whole run or ``within`` a path: nobody waits for it any more.

        What was answered within a path meanwhile counts as taken: nothing of it goes on, and no segment begins for it.
        """
        if not self.ground.asks:
            return
        await self.ground.write()  # what was being asked when its stage was cut short is a row by now
        states = ("open", "answered") if within else ("open",)
        found = await self.ground.threads.run(lambda: [one for state in states for one in self._in_state(state)])
        for one in found:
            if within and not (one.path.startswith(within) and one.path[len(within) : len(within) + 1] in _PARTS):
                continue
            await self.ground.write(marks=(Mark(path=one.path, number=one.number, state="withdrawn"),))
            now = await self._read(one.path) or one
            if now.state == "withdrawn":
                self.ground.emit(ApprovalWithdrawn, **_about(now))
            elif within:
                await self._take(now)

    def _in_state(self, state: str) -> Sequence[Approval]:
        return self.store.approvals(self.book.run, state=state)

    async def _read(self, path: str) -> Approval | None:
        return await self.ground.threads.run(lambda: self.store.approval(self.book.run, path))

    async def _asked(self, place: Place, ask: ApproveAsk) -> Approval:
        """Ask anew: a row and an event, behind the fence."""
        await self.ground.may_start()
        now = self.now()
        question = self.ground.job.redactor.text(ask.question)
        json_text(question, "the question")  # raises where it is too large
        made = Approval(
            run=self.book.run,
            path=place.path,
            number=place.before + 1,
            gate=".".join(name if index is None else f"{name}[{index}]" for name, index in parts_of_path(place.path)),
            what=place.what,
            question=question,
            choices=ask.choices,
            fields=ask.form.json_schema() if ask.form is not None else None,
            asked=now,
            deadline=None if place.timeout is None else await self._since(place, now) + place.timeout,
        )
        await self.ground.write(self.ground.event(ApprovalAsked, **_told(made)), asked=(made,))
        return made

    async def _since(self, place: Place, now: float) -> float:
        """Return since when the time runs: of a stage with ``until``, since its first try was asked."""
        element, mark, number = place.path.rpartition("#")
        if not mark or "/" in number or number == "1" or place.before:
            return now
        first = await self._read(f"{element}#1")
        return now if first is None else first.asked

    async def _settled(self, asked: Approval, answers: Mapping[str, Answer]) -> Approval:
        """Return what is asked as it is now: over, or answered beforehand, or still open."""
        name = best_match(asked.path, list(answers))
        if asked.deadline is not None and asked.deadline <= self.now():
            # An answer may have come in the last moment: which of the two was first is the database's word.
            await self.ground.write(marks=(Mark(path=asked.path, number=asked.number, state="timed_out"),))
        elif name is not None:
            await self.ground.threads.run(lambda: self._answer(asked, answers[name]))
        else:
            return asked
        return await self._read(asked.path) or asked

    def _answer(self, asked: Approval, answer: Answer) -> None:
        self.store.answer(asked.run, asked.path, asked.number, answer, self.now())

    async def _taken(self, answered: Approval, rejects: bool) -> Mapping[str, Any]:
        """Take the answer: return what the stage gives, or fail where it was rejected."""
        await self._take(answered)
        if rejects and answered.choice == REJECT:
            message = f"rejected by {answered.by}" + (f": {answered.comment}" if answered.comment else "")
            raise await self._failed(answered, Rejected(message, run=self.book.run, stage=answered.path))
        told = {"choice": answered.choice, "comment": answered.comment, "by": answered.by, "at": iso(answered.at or 0.0)}
        return {**told, **answered.values}

    async def _take(self, answered: Approval) -> None:
        """Mark an answer as taken, once."""
        if answered.state == "answered":
            said = {"choice": answered.choice, "comment": answered.comment, "by": answered.by, "at": answered.at or 0.0}
            event = self.ground.event(ApprovalAnswered, **_about(answered), **said)
            await self.ground.write(event, marks=(Mark(path=answered.path, number=answered.number, state="taken"),))

    async def _failed(self, asked: Approval, error: RunError) -> RunError:
        """Record that the gate has failed, and return ``error``: a resumed run asks anew."""
        if isinstance(error, ApprovalTimedOut):
            self.ground.emit(ApprovalExpired, **_about(asked))
        left = self.book.kept(asked.path, {"error": str(error), "goes": asked.number})
        await self.book.record(asked.path, asked.what, left, state="failed")
        return error


def iso(seconds: float) -> str:
    """Return a time as text: 2026-11-21T14:04:00Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _about(asked: Approval) -> dict[str, Any]:
    return {"stage": stage_of(asked.path), "path": asked.path, "gate": asked.gate}


def _told(asked: Approval) -> dict[str, Any]:
    shown = asked.question[:LONGEST_SHOWN] + ("..." if len(asked.question) > LONGEST_SHOWN else "")
    fields = tuple((asked.fields or {}).get("properties", ()))
    times = {"asked": asked.asked, "deadline": asked.deadline}
    return {**_about(asked), **times, "question": shown, "choices": dict(asked.choices), "fields": fields}
