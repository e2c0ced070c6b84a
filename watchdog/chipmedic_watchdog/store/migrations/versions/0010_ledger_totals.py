"""Sums of jobs that have ended, which stay when their progress and their ledger are purged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables; the ledger fills them with the jobs that it still knows."""
    op.create_table(
        "job_totals",
        sa.Column("job", sa.String, primary_key=True),
        sa.Column("vendor", sa.String, nullable=False),
        sa.Column("began_at", sa.Float, nullable=False),
        sa.Column("end_at", sa.Float, nullable=False),
        sa.Column("starts", sa.Integer, nullable=False),
        sa.Column("highest_step", BIG),
        sa.Column("seconds", sa.JSON, nullable=False),
    )
    op.create_index("job_totals_by_end", "job_totals", ["end_at"])
    op.create_table(
        "lost_totals",
        sa.Column("job", sa.String, primary_key=True),
        sa.Column("phase", sa.String, primary_key=True),
        sa.Column("cause", sa.String, primary_key=True),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("interruptions", sa.Integer, nullable=False),
    )
