"""What the leader wants agents to do, for the watchdog that has their streams."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "agent_orders",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("node", sa.String, nullable=False),
        sa.Column("act", sa.String, nullable=False),
        sa.Column("job", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("fencing_token", BIG, nullable=False),
        sa.Column("asked_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("answered_at", sa.Float),
        sa.Column("is_ok", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("is_final", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("detail", sa.Text, nullable=False, server_default=""),
    )
