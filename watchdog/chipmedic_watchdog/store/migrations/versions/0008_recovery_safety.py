"""Switches of recovery with who turned them, why a recovery waits, the check of a return."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the tables and columns; a hold that is on stays on."""
    switches = op.create_table(
        "recovery_switches",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )
    counters = sa.table("counters", sa.column("name"), sa.column("value"))
    was_held = counters.c.name == "recovery_hold"
    row = op.get_bind().execute(sa.select(counters.c.value).where(was_held)).first()
    if row is not None and row.value:
        held = {"name": "hold", "state": "on", "at": 0.0, "who": "", "why": "since before 0008"}
        op.bulk_insert(switches, [held])
    op.execute(sa.delete(counters).where(was_held))
    op.add_column("recoveries", sa.Column("held_by", sa.String, nullable=False, server_default=""))
    for name in ("device", "gate"):
        op.add_column("isolations", sa.Column(name, sa.String, nullable=False, server_default=""))
    op.add_column(
        "isolations", sa.Column("gate_detail", sa.Text, nullable=False, server_default="")
    )
    op.add_column("isolations", sa.Column("gate_at", sa.Float))
    op.create_index("isolations_by_node", "isolations", ["node", "isolated_at"])
