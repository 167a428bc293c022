"""What a piece asked for and where it came from; approvals; outputs that later runs may take over."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text(name: str, default: str | None = "") -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _double(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False, server_default="0")


def upgrade() -> None:
    """Make the columns and tables."""
    for name in ("asked", "origin"):
        op.add_column("pieces", _text(name))
    op.create_table(
        "approvals",
        _text("run", None),
        _text("path", None),
        sa.Column("number", sa.Integer, nullable=False, server_default="0"),
        *map(_text, ("gate", "state", "what", "question", "choices", "fields")),
        _double("asked"),
        sa.Column("deadline", sa.Double),
        *map(_text, ("choice", "comment", "by", "form")),
        sa.Column("at", sa.Double),
        sa.PrimaryKeyConstraint("run", "path", name="pk_approvals"),
        sa.ForeignKeyConstraint(["run"], ["runs.id"], name="fk_approvals_run", ondelete="CASCADE"),
    )
    op.create_index("ix_approvals_state_deadline", "approvals", ["state", "deadline"])
    op.create_table(
        "outputs",
        _text("key", None),
        *map(_double, ("created", "expires")),
        *map(_text, ("run", "path", "result")),
        sa.PrimaryKeyConstraint("key", name="pk_outputs"),
    )
    op.create_index("ix_outputs_expires", "outputs", ["expires"])


def downgrade() -> None:
    """What people decided is not forgotten."""
    raise NotImplementedError
