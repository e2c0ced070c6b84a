"""Silences, maintenance windows and the routes of notices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the tables, and what a notice and its mark know more of."""
    op.add_column("notices", sa.Column("digest_at", sa.Float))
    op.add_column("notices", sa.Column("route", sa.String, nullable=False, server_default=""))
    op.create_index("notices_by_incident", "notices", ["incident", "channel"])
    op.add_column(
        "notice_marks",
        sa.Column("reopened_count", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_table(
        "notice_holds",
        sa.Column("incident", sa.String, primary_key=True),
        sa.Column("held_by", sa.String, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_table(
        "silences",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("matchers", sa.JSON, nullable=False),
        sa.Column("starts_at", sa.Float, nullable=False),
        sa.Column("ends_at", sa.Float, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("created_by", sa.String, nullable=False),
        sa.Column("ended_by", sa.String),
    )
    op.create_table(
        "used_links",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("act", sa.String, nullable=False),
        sa.Column("target", sa.String, nullable=False),
    )
