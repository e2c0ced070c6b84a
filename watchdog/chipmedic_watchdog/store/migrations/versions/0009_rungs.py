"""The rung of the ladder that a restart takes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column; what was restarted so far was queued again."""
    op.add_column("recovery_steps", sa.Column("rung", sa.String, nullable=False, server_default=""))
    steps = sa.table("recovery_steps", sa.column("kind"), sa.column("rung"))
    op.execute(sa.update(steps).where(steps.c.kind == "restart").values(rung="requeue"))
