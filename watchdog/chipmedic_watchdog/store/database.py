"""The store's engine: one writer, many readers; a write is durable when it returns.

SQLite allows one writer; a thread of its own serialises the writes, so that no caller meets a lock
and writes that arrive together can share one commit. With PostgreSQL it is the same within one
watchdog; between several, rows are locked where they decide (`intake/commit.py`, `lead/`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from chipmedic.errors import StoreError
from chipmedic_watchdog.store import postgresql

Result = TypeVar("Result")

BUSY_TIMEOUT_MILLISECONDS = 10_000
READERS = 4
IS_WRITE = "chipmedic_is_write"
"""Execution option of a connection whose transaction will write."""
FENCING = "chipmedic_fencing_token"
"""Execution option of a connection: under which token of the lead it writes."""


def open_engine(url: str, watchdog: str = "") -> Engine:
    """Open a store; nothing is connected yet, but the folder of an SQLite file is made.

    `watchdog` is the id under which the server shows the sessions.

    `sqlite:////var/lib/chipmedic/watchdog.db` or `postgresql+psycopg://user@host/database`.

    Raises:
        StoreError: the address is none, or the folder cannot be made.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql":
            return _open_postgresql(parsed.set(drivername="postgresql+psycopg"), watchdog)
        if parsed.get_backend_name() == "sqlite":
            return _open_sqlite(parsed)
    except (SQLAlchemyError, ImportError, ValueError) as e:
        raise StoreError(f"store: the address is not usable: {e}") from e
    raise StoreError(
        f"store: {parsed.drivername} is not known: allowed are sqlite:///FILE and "
        "postgresql+psycopg://USER@HOST/DATABASE"
    )


def is_shared(engine: Engine) -> bool:
    """Whether several watchdogs may work on this store at once."""
    return engine.dialect.name == "postgresql"


def _open_postgresql(url: URL, watchdog: str) -> Engine:
    engine = create_engine(
        url,
        json_serializer=_compact_json,
        # A server that was restarted has closed what the pool holds: it is tried before its use.
        pool_pre_ping=True,
        pool_size=READERS + 1,
        max_overflow=2,
        connect_args=postgresql.connect_arguments(url, watchdog),
    )
    event.listen(engine, "connect", postgresql.set_up)
    return engine


def _open_sqlite(url: URL) -> Engine:
    engine = create_engine(url, json_serializer=_compact_json)
    if engine.url.database and engine.url.database != ":memory:":
        folder = Path(engine.url.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise StoreError(f"store: {folder} cannot be made: {e.strerror}") from e
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _compact_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _set_up_sqlite(connection: Any, _: object) -> None:
    # The driver's own BEGIN comes late and never before a SELECT, so reads would see several states
    # of the store; `_begin_sqlite` begins instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL: a commit is on the disk when it returns, which is what an acknowledgement promises.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MILLISECONDS}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE takes the write lock first: what a writer read is still true when it writes, also
    # beside another process (the command line).
    is_write = connection.get_execution_options().get(IS_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def token_of(connection: Connection) -> int:
    """Return the fencing token of the leader for which a transaction writes; 0: there is none."""
    token: int = connection.get_execution_options().get(FENCING, 0)
    return token


class Store(Protocol):
    """The store as a part uses it that may work only where its watchdog leads."""

    @property
    def fencing_token(self) -> int:
        """What every act and notice carries; 0 where nobody else could lead."""
        ...

    def assert_leading(self) -> None:
        """See before an act on the world that this watchdog still leads.

        Raises:
            StoreError: it does not.
        """
        ...

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a transaction that is committed and durable when this returns.

        Raises:
            StoreError: the store refused, or this watchdog leads no more; nothing of `work` is in.
        """
        ...

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` over a consistent view of the store; what it writes is undone."""
        ...


class Database:
    """Runs functions over the store off the event loop: one write at a time, reads beside it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_shared = is_shared(engine)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    @property
    def fencing_token(self) -> int:
        """Of a store that is used alone: a test's, say."""
        return 0

    def assert_leading(self) -> None:
        """Nobody else could lead."""

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a transaction that is committed and durable when this returns.

        Raises:
            StoreError: the store refused (full disk, say); nothing of `work` is in it.
        """
        loop = asyncio.get_running_loop()
        # The thread knows on whose behalf it writes (`audit.VIA`).
        run: Callable[..., Result] = copy_context().run
        return await loop.run_in_executor(self._writer, run, self.write_now, work)

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` over a consistent view of the store; what it writes is undone."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, work)

    def write_now(self, work: Callable[[Connection], Result]) -> Result:
        """Do what `write` does, blocking; for the command line and tests."""
        try:
            with self.engine.connect() as connection:
                connection.execution_options(**{IS_WRITE: True})
                with connection.begin():
                    return work(connection)
        except DBAPIError as e:
            raise StoreError(f"store: {in_words(e)}") from e

    def read_now(self, work: Callable[[Connection], Result]) -> Result:
        """Do what `read` does, blocking."""
        try:
            with self.engine.connect() as connection:
                if self.is_shared:
                    # All of its questions see one state, as they do in SQLite.
                    connection.execution_options(isolation_level="REPEATABLE READ")
                return work(connection)
        except DBAPIError as e:
            raise StoreError(f"store: {in_words(e)}") from e

    def close(self) -> None:
        """Wait for the writes under way and let go of the store."""
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self.engine.dispose()


SQLITE_REMEDIES = {
    "unable to open database file": "is it a folder, or may this user not write there?",
    "file is not a database": "name another file in store.url, or put a backup in its place",
    "database disk image is malformed": "put a backup in its place",
    "attempt to write a readonly database": "give the file and its folder to the daemon's user",
}
"""What to do, by SQLite's own words."""


def in_words(error: DBAPIError) -> str:
    """Return what the database said, in one line, and what to do where that is known."""
    words = " ".join(str(error.orig).split())
    remedy = SQLITE_REMEDIES.get(words) or postgresql.remedy(words)
    return f"{words}: {remedy}" if remedy else words
