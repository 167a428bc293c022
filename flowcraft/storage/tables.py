"""The tables, in types that every dialect has: text, integers and doubles; what is structured is JSON text.

A run's documents stand beside its row, because every batch of pieces touches the row. Booleans are 0 and 1.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Index, Integer, MetaData, Table, Text, UniqueConstraint

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _integer(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


def _double(name: str) -> Column[float]:
    return Column(name, Double, nullable=False, server_default="0")


def _number() -> Column[int]:
    # SQLite numbers rows by itself only where the column is exactly INTEGER.
    return Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


def _run() -> Column[str]:
    return Column("run", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False)


def _attempt() -> tuple[Column[str] | Column[float] | Column[int], ...]:
    return (
        *map(_text, ("model", "provider", "role", "outcome", "message")),
        *map(_double, ("started", "seconds", "wait")),
        Column("first_token", Double),
        *map(_integer, ("input", "cached", "cache_write", "output", "reasoning", "audio")),
        Column("usd", Double),
        _integer("offline"),
        _integer("estimated"),
        _integer("streamed"),
    )


runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True, nullable=False),
    *map(_text, ("workflow", "file", "folder", "state")),
    _double("created"),
    _integer("epoch"),
    _integer("segment"),
    _text("owner"),
    _text("wanted"),
    Column("ended", Double),
    _double("seconds"),
    Column("outputs", Text, nullable=False, server_default="null"),
    _text("error"),
    _integer("offline"),
    Index(None, "created"),
    Index(None, "state", "created"),
    Index(None, "owner"),
)

documents = Table(
    "documents",
    metadata,
    Column("run", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("snapshot", Text, nullable=False),
)

pieces = Table(
    "pieces",
    metadata,
    _number(),
    _run(),
    *map(_text, ("path", "what", "code", "state", "result")),
    _double("seconds"),
    *map(_text, ("asked", "origin")),
    UniqueConstraint("run", "path"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("run", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, nullable=False),
    Column("path", Text, primary_key=True, nullable=False),
    _integer("number"),
    *map(_text, ("gate", "state", "what", "question", "choices", "fields")),
    _double("asked"),
    Column("deadline", Double),
    *map(_text, ("choice", "comment", "by", "form")),
    Column("at", Double),
    Index(None, "state", "deadline"),
)

outputs = Table(
    "outputs",
    metadata,
    Column("key", Text, primary_key=True, nullable=False),
    *map(_double, ("created", "expires")),
    *map(_text, ("run", "path", "result")),
    Index(None, "expires"),
)

attempts = Table(
    "attempts",
    metadata,
    _number(),
    # No foreign key: the money is spent, whatever became of the run.
    _text("run"),
    *map(_text, ("path", "stage")),
    *_attempt(),
    Index(None, "run"),
)

events = Table(
    "events",
    metadata,
    Column("run", Text, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, nullable=False),
    Column("sequence", Integer, primary_key=True, nullable=False),
    *map(_text, ("kind", "stage")),
    _double("time"),
    _text("data"),
    sqlite_with_rowid=False,
)

processes = Table(
    "processes",
    metadata,
    Column("id", Text, primary_key=True, nullable=False),
    *map(_text, ("host", "boot", "namespace")),
    _integer("pid"),
    _text("started"),
    _integer("beat"),
)

calls = Table(
    "calls",
    metadata,
    _number(),
    Column("id", Text, nullable=False),
    *map(_text, ("stage", "task", "run", "path")),
    *_attempt(),
    UniqueConstraint("id"),
    Index(None, "model", "provider", "number"),
)

call_hours = Table(
    "call_hours",
    metadata,
    # Older calls, an hour together; ``hour`` counts from the epoch. ``last`` is the seconds of the last one, ``times`` and
    # ``first_tokens`` are histograms.
    *(
        Column(name, Integer if name == "hour" else Text, primary_key=True, nullable=False)
        for name in ("model", "provider", "hour", "stage", "task", "outcome")
    ),
    _integer("calls"),
    *map(_double, ("seconds", "last")),
    *map(_integer, ("input", "cached", "cache_write", "output", "reasoning", "audio")),
    Column("usd", Double),
    *map(_text, ("times", "first_tokens")),
    sqlite_with_rowid=False,
)

verdicts = Table(
    "verdicts",
    metadata,
    _number(),
    Column("id", Text, nullable=False),
    _double("time"),
    *map(_text, ("stage", "task", "run", "path", "first", "second", "winner", "judge", "reasons")),
    UniqueConstraint("id"),
    Index(None, "stage", "number"),
)

spending = Table(
    "spending",
    metadata,
    # What is spent from: run:ID, day:2026-11-21, key:NAME:2026-11-21; in which unit: usd, tokens, calls; the last limit;
    # and when it was first spent from.
    Column("scope", Text, primary_key=True, nullable=False),
    Column("unit", Text, primary_key=True, nullable=False),
    *map(_double, ("spent", "allowed", "created")),
    Index(None, "created"),
    sqlite_with_rowid=False,
)

rates = Table(
    "rates",
    metadata,
    # Of one limited model: when its requests and tokens so far will have been earned back (seconds since the epoch).
    Column("model", Text, primary_key=True, nullable=False),
    *map(_double, ("requests", "tokens")),
    sqlite_with_rowid=False,
)

slots = Table(
    "slots",
    metadata,
    # One call under way to a model that takes so many at a time, or ``waiting`` for a place; free when ``expires`` has passed.
    Column("id", Text, primary_key=True, nullable=False),
    *map(_text, ("model", "owner")),
    *map(_double, ("expires", "since")),
    _integer("waiting"),
    Index(None, "model", "expires"),
    Index(None, "owner"),
    sqlite_with_rowid=False,
)

answers = Table(
    "answers",
    metadata,
    Column("key", Text, primary_key=True, nullable=False),
    *map(_double, ("created", "expires")),
    _text("response"),
    Index(None, "expires"),
)
