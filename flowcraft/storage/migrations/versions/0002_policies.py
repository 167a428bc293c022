"""What policies share by way of the database, and of an attempt whether it was a stream and its tokens are estimated."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _text(name: str, default: str | None = "") -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _double(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Double, nullable=False, server_default="0")


def _integer(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def upgrade() -> None:
    """Make the tables."""
    for table in ("attempts", "calls"):
        for name in ("estimated", "streamed"):
            op.add_column(table, sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "verdicts",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        _text("id", None),
        _double("time"),
        *map(_text, ("stage", "task", "run", "path", "first", "second", "winner", "judge", "reasons")),
        sa.PrimaryKeyConstraint("number", name="pk_verdicts"),
        sa.UniqueConstraint("id", name="uq_verdicts_id"),
    )
    op.create_index("ix_verdicts_stage_number", "verdicts", ["stage", "number"])
    op.create_table(
        "call_hours",
        *(_text(name, None) for name in ("model", "provider")),
        sa.Column("hour", sa.Integer, nullable=False),
        *(_text(name, None) for name in ("stage", "task", "outcome")),
        _integer("calls"),
        *map(_double, ("seconds", "last")),
        *map(_integer, ("input", "cached", "cache_write", "output", "reasoning", "audio")),
        sa.Column("usd", sa.Double),
        *map(_text, ("times", "first_tokens")),
        sa.PrimaryKeyConstraint("model", "provider", "hour", "stage", "task", "outcome", name="pk_call_hours"),
        sqlite_with_rowid=False,
    )
    _make_shared()


def _make_shared() -> None:
    op.create_table(
        "spending",
        _text("scope", None),
        _text("unit", None),
        *map(_double, ("spent", "allowed", "created")),
        sa.PrimaryKeyConstraint("scope", "unit", name="pk_spending"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_spending_created", "spending", ["created"])
    op.create_table(
        "rates",
        _text("model", None),
        *map(_double, ("requests", "tokens")),
        sa.PrimaryKeyConstraint("model", name="pk_rates"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "slots",
        _text("id", None),
        *map(_text, ("model", "owner")),
        *map(_double, ("expires", "since")),
        sa.Column("waiting", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_slots"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_slots_model_expires", "slots", ["model", "expires"])
    op.create_index("ix_slots_owner", "slots", ["owner"])
    op.create_table(
        "answers",
        _text("key", None),
        *map(_double, ("created", "expires")),
        _text("response"),
        sa.PrimaryKeyConstraint("key", name="pk_answers"),
    )
    op.create_index("ix_answers_expires", "answers", ["expires"])


def downgrade() -> None:
    """What was spent and judged is not forgotten."""
    raise NotImplementedError
