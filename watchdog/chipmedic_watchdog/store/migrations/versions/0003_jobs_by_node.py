"""The jobs of a node without reading those of all nodes."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the index."""
    op.create_index("job_nodes_by_node", "job_nodes", ["node", "is_present"], unique=False)
