"""The first tables: runs and what belongs to them, processes, calls."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _columns(kind: type[sa.types.TypeEngine[Any]], names: str, default: str | None) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=default is None, server_default=default) for name in names.split()]


def _texts(names: str) -> list[sa.Column[Any]]:
    return _columns(sa.Text, names, "")


def _number() -> sa.Column[Any]:
    return sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False)


def _attempt() -> list[sa.Column[Any]]:
    return [
        *_texts("model provider role outcome message"),
        *_columns(sa.Double, "started seconds wait", "0"),
        *_columns(sa.Double, "first_token", None),
        *_columns(sa.Integer, "input cached cache_write output reasoning audio", "0"),
        *_columns(sa.Double, "usd", None),
        *_columns(sa.Integer, "offline", "0"),
    ]


def _of_run(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["run"], ["runs.id"], name=f"fk_{table}_run", ondelete="CASCADE")


def upgrade() -> None:
    """Make the tables."""
    _make_runs()
    _make_parts_of_runs()
    op.create_table(
        "processes",
        sa.Column("id", sa.Text, nullable=False),
        *_texts("host boot namespace"),
        *_columns(sa.Integer, "pid", "0"),
        *_texts("started"),
        *_columns(sa.Integer, "beat", "0"),
        sa.PrimaryKeyConstraint("id", name="pk_processes"),
    )
    op.create_table(
        "calls",
        _number(),
        sa.Column("id", sa.Text, nullable=False),
        *_texts("stage task run path"),
        *_attempt(),
        sa.PrimaryKeyConstraint("number", name="pk_calls"),
        sa.UniqueConstraint("id", name="uq_calls_id"),
    )
    op.create_index("ix_calls_model_provider_number", "calls", ["model", "provider", "number"])


def _make_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, nullable=False),
        *_texts("workflow file folder state"),
        *_columns(sa.Double, "created", "0"),
        *_columns(sa.Integer, "epoch segment", "0"),
        *_texts("owner wanted"),
        *_columns(sa.Double, "ended", None),
        *_columns(sa.Double, "seconds", "0"),
        *_columns(sa.Text, "outputs", "null"),
        *_texts("error"),
        *_columns(sa.Integer, "offline", "0"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_created", "runs", ["created"])
    op.create_index("ix_runs_state_created", "runs", ["state", "created"])
    op.create_index("ix_runs_owner", "runs", ["owner"])


def _make_parts_of_runs() -> None:
    op.create_table(
        "documents",
        *(sa.Column(name, sa.Text, nullable=False) for name in ("run", "inputs", "snapshot")),
        sa.PrimaryKeyConstraint("run", name="pk_documents"),
        _of_run("documents"),
    )
    op.create_table(
        "pieces",
        _number(),
        sa.Column("run", sa.Text, nullable=False),
        *_texts("path what code state result"),
        *_columns(sa.Double, "seconds", "0"),
        sa.PrimaryKeyConstraint("number", name="pk_pieces"),
        sa.UniqueConstraint("run", "path", name="uq_pieces_run_path"),
        _of_run("pieces"),
    )
    op.create_table(
        "events",
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        *_texts("kind stage"),
        *_columns(sa.Double, "time", "0"),
        *_texts("data"),
        sa.PrimaryKeyConstraint("run", "sequence", name="pk_events"),
        _of_run("events"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempts",
        _number(),
        *_texts("run path stage"),
        *_attempt(),
        sa.PrimaryKeyConstraint("number", name="pk_attempts"),
    )
    op.create_index("ix_attempts_run", "attempts", ["run"])


def downgrade() -> None:
    """There is nothing before the first revision."""
    raise NotImplementedError
