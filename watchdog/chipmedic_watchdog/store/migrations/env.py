"""What alembic runs; `store/migrate.py` gives it the connection."""

from __future__ import annotations

from alembic import context

from chipmedic_watchdog.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite alters a table by copying it.
    render_as_batch=True,
)
context.run_migrations()
