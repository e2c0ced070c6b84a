"""How large an incident was when people were told of it last, and when that was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the columns; of what was told before, nothing is known, and nothing is told again."""
    for name, kind in (("told_nodes", sa.Integer), ("told_at", sa.Float)):
        op.add_column("notice_marks", sa.Column(name, kind, nullable=False, server_default="0"))
