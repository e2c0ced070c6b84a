"""An SQLite file has one watchdog: a lock beside it keeps a second process away."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from sqlalchemy import Engine

from chipmedic.errors import StoreError


def claim(engine: Engine) -> IO[str] | None:
    """Take an SQLite store for this process; it is held until the result is closed.

    Returns None for a store that several may share, or that is no file.

    Raises:
        StoreError: another process has it, or its disk is full.
    """
    path = engine.url.database
    if engine.dialect.name != "sqlite" or not path or path == ":memory:":
        return None
    try:
        lock = Path(f"{path}.lock").open("a+", encoding="ascii")  # noqa: SIM115  held while we live
    except OSError as e:
        raise StoreError(f"store: {path}.lock cannot be opened: {e.strerror}") from e
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        lock.seek(0)
        holder = lock.read(20).strip() or "unknown"
        lock.close()
        raise StoreError(
            f"store: {path} is in use by another chipmedic-watchdog (process {holder}): an SQLite "
            "file serves one; for several set store.url to PostgreSQL"
        ) from e
    try:
        os.truncate(lock.fileno(), 0)
        os.write(lock.fileno(), str(os.getpid()).encode())
    except OSError as e:
        lock.close()
        raise StoreError(f"store: {path}.lock cannot be written: {e.strerror}") from e
    return lock
