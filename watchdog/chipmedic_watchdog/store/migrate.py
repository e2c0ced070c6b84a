"""Brings a store to the tables of this version, in one transaction."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from chipmedic.errors import StoreError
from chipmedic_watchdog.store.database import IS_WRITE, in_words, is_shared

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x63686970
"""Of the advisory locks of PostgreSQL; any number that nobody else in the database takes."""


def migrate(engine: Engine) -> None:
    """Create or upgrade the tables; a store of this version is left as it is.

    Raises:
        StoreError: the store is newer than this program, or cannot be written.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    newest = script.get_current_head()
    try:
        with engine.connect() as connection:
            connection.execution_options(**{IS_WRITE: True})
            with connection.begin():
                if is_shared(engine):
                    # Watchdogs that start together: the second finds the work done.
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
                present = MigrationContext.configure(connection).get_current_revision()
                if present == newest:
                    return
                if present is not None and present not in _known(script):
                    raise StoreError(
                        f"store: {engine.url.render_as_string()} is of schema {present}, this "
                        f"program knows {newest} and older: run the newer chipmedic again"
                    )
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
    except (DBAPIError, OSError) as e:
        words = in_words(e) if isinstance(e, DBAPIError) else str(e)
        raise StoreError(f"store: {engine.url.render_as_string()}: {words}") from e
    log.info("store migrated: from=%s to=%s", present, newest)


def _known(script: ScriptDirectory) -> set[str]:
    return {step.revision for step in script.walk_revisions()}
