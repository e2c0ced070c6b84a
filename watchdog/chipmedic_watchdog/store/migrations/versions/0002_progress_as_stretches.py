"""Progress as stretches: a row per thing that happened instead of one per second."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Let a start be seen before its first step; sum up pauses; say why a row stands."""
    with op.batch_alter_table("job_progress") as table:
        table.alter_column("step", existing_type=sa.Integer(), nullable=True)
        for name in ("checkpoint_seconds", "other_seconds"):
            table.add_column(sa.Column(name, sa.Float(), nullable=False, server_default="0"))
        table.add_column(sa.Column("mark", sa.String(), nullable=False, server_default=""))
