"""How much models were asked: when each limit's requests and tokens are earned back, and the calls under way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, or_, select, update

from flowcraft.llm.ports import Caller, Hold, LimitStore, Want
from flowcraft.llm.sharing.limits import PLACE_LASTS, TURN_LASTS, held_back, taken
from flowcraft.storage.database import Database
from flowcraft.storage.rows import real, storable
from flowcraft.storage.statements import Statement
from flowcraft.storage.tables import rates, slots

_OF_NAME = rates.c.model == bindparam("of")
_RATE = select(rates.c.requests, rates.c.tokens).where(_OF_NAME)
_SET = update(rates).where(_OF_NAME).values(requests=bindparam("requests_at"), tokens=bindparam("tokens_at"))
_GIVE_BACK = (
    update(rates)
    .where(_OF_NAME)
    .values(requests=rates.c.requests - bindparam("of_requests"), tokens=rates.c.tokens - bindparam("of_tokens"))
)
_BUSY = select(func.count()).where(
    slots.c.model == bindparam("of"),
    or_(slots.c.waiting == 0, slots.c.since < bindparam("since_when")),
)
_PURGE = delete(slots).where(slots.c.model == bindparam("of"), slots.c.expires <= bindparam("now"))
_RENEW = update(slots).where(slots.c.owner == bindparam("call"), slots.c.waiting == 0).values(expires=bindparam("until"))
_LEAVE = delete(slots).where(slots.c.owner == bindparam("call"))
_SLOT = ("id", "model", "owner", "expires", "waiting", "since")


class _Compiled:
    def __init__(self, database: Database) -> None:
        dialect = database.engine.dialect
        self.new = Statement(database.dialect.insert_new(rates, ("model",)), dialect, ("model",))
        self.slot = Statement(insert(slots), dialect, _SLOT)
        self.rate, self.set, self.give_back = (Statement(made, dialect) for made in (_RATE, _SET, _GIVE_BACK))
        self.busy, self.purge, self.renew, self.leave = (Statement(made, dialect) for made in (_BUSY, _PURGE, _RENEW, _LEAVE))


class SqlLimits(LimitStore):
    """LimitStore over a SQL database; whoever writes there writes alone, so that no two calls take the same room."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, caller: Caller, wants: Sequence[Want], now: float) -> Hold | None:
        """Take what a call needs of all limits, or nothing: then return what holds it back the longest."""
        with self._database.transaction() as cursor:
            desk = _Desk(self._compiled, cursor, caller)
            counted = [want for want in wants if want.concurrent is not None]
            if counted:
                desk.do(desk.sql.leave, call=caller.id)
            for want in counted:
                desk.do(desk.sql.purge, of=storable(want.name), now=now)
            hold = held_back(wants, caller.tokens, now, desk.rate, desk.busy)
            if hold is None:
                for want in wants:
                    desk.charge(want, now)
            for want in counted:
                desk.place(want.name, waiting=hold is not None, now=now)
        return hold

    def give_back(self, wants: Sequence[Want], requests: int, tokens: int) -> None:
        """Give back so many requests and tokens that were not used; below 0, what was used besides."""
        with self._database.transaction() as cursor:
            desk = _Desk(self._compiled, cursor)
            for want in wants:
                of_requests = requests * want.requests.interval if want.requests is not None else 0.0
                of_tokens = tokens * want.tokens.interval if want.tokens is not None else 0.0
                if of_requests or of_tokens:
                    desk.do(self._compiled.give_back, of=storable(want.name), of_requests=of_requests, of_tokens=of_tokens)

    def renew(self, calls: Sequence[str], now: float) -> None:
        """Let these calls keep their places for some seconds more."""
        with self._database.transaction() as cursor:
            desk = _Desk(self._compiled, cursor)
            for call in calls:
                desk.do(self._compiled.renew, call=call, until=now + PLACE_LASTS)

    def leave(self, call: str) -> None:
        """Give the places of a call back, or its turn."""
        with self._database.transaction() as cursor:
            _Desk(self._compiled, cursor).do(self._compiled.leave, call=call)

    @cached_property
    def _compiled(self) -> _Compiled:
        return _Compiled(self._database)


class _Desk:
    """One transaction's reading and writing."""

    def __init__(self, sql: _Compiled, cursor: Any, caller: Caller | None = None) -> None:
        self.sql = sql
        self._cursor = cursor
        self._caller = caller or Caller(id="", tokens=0, since=0.0)

    def do(self, statement: Statement, **values: Any) -> None:
        self._cursor.execute(statement.text, statement.bind(values))

    def rate(self, name: str) -> tuple[float, float]:
        """Return when requests and tokens of a limit will be earned back; a limit that is new gets its row."""
        self.do(self.sql.rate, of=storable(name))
        row = self._cursor.fetchone()
        if row is None:
            self.do(self.sql.new, model=storable(name))
            return 0.0, 0.0
        return real(row[0]), real(row[1])

    def busy(self, name: str) -> int:
        """Return how many calls of a limit are under way, or have waited for longer than this one."""
        self.do(self.sql.busy, of=storable(name), since_when=self._caller.since)
        return int(self._cursor.fetchone()[0])

    def charge(self, want: Want, now: float) -> None:
        """Count the call."""
        if want.requests is not None or want.tokens is not None:
            requests_at, tokens_at = taken(want, self._caller.tokens, now, self.rate(want.name))
            self.do(self.sql.set, of=storable(want.name), requests_at=requests_at, tokens_at=tokens_at)

    def place(self, name: str, *, waiting: bool, now: float) -> None:
        """Give the call a place, or the turn to get one."""
        expires = now + (TURN_LASTS if waiting else PLACE_LASTS)
        of, owner = storable(name), self._caller.id
        since = self._caller.since
        id = f"{owner}/{of}"
        self.do(self.sql.slot, id=id, model=of, owner=owner, expires=expires, waiting=int(waiting), since=since)
