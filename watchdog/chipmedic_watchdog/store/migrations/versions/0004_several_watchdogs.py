"""Several watchdogs on one store: who leads, who serves which node; and 64-bit numbers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
WIDENED = {
    "audit": ("id",),
    "counters": ("value",),
    "epochs": ("acked_seq",),
    "events": ("seq",),
    "faults": ("id", "count"),
    "incidents": ("root_fault",),
    "isolations": ("id",),
    "job_nodes": ("step", "checkpoint_step", "attempt"),
    "job_progress": ("step", "checkpoint_step", "attempt"),
    "ledger": ("id",),
    "nodes": ("backlog_events",),
    "notice_marks": ("root_fault",),
}


def upgrade() -> None:
    """Add the tables of the lead and the columns of streams and tokens; widen on PostgreSQL."""
    if op.get_bind().dialect.name == "postgresql":
        _widen()
    op.create_table(
        "lease",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("token", BIG, nullable=False),
        sa.Column("taken_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "watchdogs",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("http", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "job_tracks",
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("written_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job"),
    )
    _add_to_nodes()
    for table in ("notices", "recovery_steps"):
        op.add_column(table, sa.Column("fencing_token", BIG, nullable=False, server_default="0"))


def _add_to_nodes() -> None:
    for name in ("watchdog", "stream", "epoch"):
        op.add_column("nodes", sa.Column(name, sa.String(), nullable=False, server_default=""))
    op.add_column("nodes", sa.Column("silent_reason", sa.Text(), nullable=False, server_default=""))
    for name in ("connected_at", "silent_since"):
        op.add_column("nodes", sa.Column(name, sa.Float()))
    op.add_column("nodes", sa.Column("catch_up_seq", BIG, nullable=False, server_default="0"))
    op.add_column(
        "nodes", sa.Column("is_lost", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_index("nodes_by_connection", "nodes", ["connected_at"])


def _widen() -> None:
    for table, columns in WIDENED.items():
        for column in columns:
            op.alter_column(table, column, type_=sa.BigInteger(), existing_type=sa.Integer())
        if "id" in columns:
            # A serial column's sequence has the type of the column as it was made.
            op.execute(f"ALTER SEQUENCE {table}_id_seq AS BIGINT")
