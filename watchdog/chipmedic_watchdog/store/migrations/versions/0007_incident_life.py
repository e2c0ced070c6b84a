"""What the life of an incident needs: to be purged, with all that is its own, without a scan."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the index by which old incidents are purged."""
    op.create_index("faults_by_end", "faults", ["cleared_at"], unique=False)
