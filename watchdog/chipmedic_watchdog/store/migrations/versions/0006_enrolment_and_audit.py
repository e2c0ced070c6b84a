"""Join tokens, operators' roles and the chained audit."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from chipmedic.audit_chain import GENESIS, entry_hash

revision = "0006"
down_revision = "0005"

REFUSAL = "the audit is append-only"


def upgrade() -> None:
    """Add the tables, chain what the audit holds, and let nobody change it from now on."""
    _create_tables()
    _chain()
    _forbid_changes()


def _create_tables() -> None:
    for name in ("via", "previous", "hash"):
        op.add_column("audit", sa.Column(name, sa.String(), nullable=False, server_default=""))
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("node", sa.String(), nullable=True),
        sa.Column("uses_left", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
    )
    op.create_table(
        "certificates",
        sa.Column("serial", sa.String(), primary_key=True),
        sa.Column("node", sa.String(), nullable=False),
        sa.Column("issued_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("token", sa.String(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
    )
    op.create_index("certificates_by_node", "certificates", ["node"], unique=False)


def _chain() -> None:
    """Number the entries from 1 without holes, each after the one before it."""
    connection = op.get_bind()
    audit = sa.table(
        "audit",
        *(sa.column(name) for name in ("id", "who", "via", "act", "target", "previous", "hash")),
        sa.column("at", sa.Float()),
        sa.column("detail", sa.JSON()),
    )
    seq, last = 0, GENESIS
    for row in connection.execute(sa.select(audit).order_by(audit.c.id)).mappings().all():
        seq += 1
        entry: dict[str, Any] = {**row, "id": seq, "previous": last}
        entry["hash"] = last = entry_hash(entry)
        connection.execute(
            sa.update(audit)
            .where(audit.c.id == row["id"])
            .values(id=seq, previous=entry["previous"], hash=last)
        )
    head = sa.table("audit_head", sa.column("id"), sa.column("seq"), sa.column("hash"))
    connection.execute(sa.insert(head).values(id=1, seq=seq, hash=last))


def _forbid_changes() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION chipmedic_audit_is_append_only() RETURNS trigger AS "
            f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$ LANGUAGE plpgsql"
        )
        op.execute(
            "CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION chipmedic_audit_is_append_only()"
        )
        return
    for act in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_refuses_{act.lower()} BEFORE {act} ON audit "
            f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
        )
