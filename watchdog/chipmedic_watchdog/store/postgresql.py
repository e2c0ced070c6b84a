"""What a connection to PostgreSQL is told, and what its refusals mean."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import URL

IDLE_IN_TRANSACTION_SECONDS = 5
"""The server ends a transaction whose watchdog has said nothing for so long (it was stopped, or its
host is gone): what it has locked must not hold up the others."""
LOCK_SECONDS = 10
"""How long a statement waits for a row before it fails, and is tried again."""
DEFAULTS = {
    "connect_timeout": "5",
    # A server whose host is gone answers nothing: without these a commit waits for a quarter hour.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""libpq's words; what the address itself says wins."""
REMEDIES = (
    ("password authentication failed", "see the address in store.url_file, or PGPASSFILE"),
    ("no password supplied", "put the address with it into store.url_file, or use PGPASSFILE"),
    ("no pg_hba.conf entry", "let this host in (pg_hba.conf of the server)"),
    ("Connection refused", "is the server running there, and does it listen on that address?"),
    ("No such file or directory", "is the server running here?"),
    ("timeout expired", "is the server's host up and its port open?"),
    ("could not translate host name", "see the host in the address"),
    ("failed to resolve host", "see the host in the address"),
    ("permission denied", "the database must belong to the watchdog's user"),
    ("read-only transaction", "that is a standby: name the primary"),
    ("disk is full", "make room on the file system of the store"),
    ("disk I/O error", "is its file system full (make room), or does the disk fail (see dmesg)?"),
    ("No space left on device", "make room on the file system of the server's data"),
)
NO_DATABASE = ("database", "does not exist")


def connect_arguments(url: URL, watchdog: str) -> dict[str, str]:
    """Return what is passed to the driver beside the address."""
    chosen = {name: value for name, value in DEFAULTS.items() if name not in url.query}
    return chosen | {"application_name": session_name(watchdog)}


def session_name(watchdog: str) -> str:
    """Return how the sessions of one watchdog are called in the server (63 letters at most)."""
    return f"chipmedic-watchdog {watchdog}".strip()


def set_up(connection: Any, _: object) -> None:
    """Prepare a new connection of the driver."""
    with connection.cursor() as cursor:
        # A commit is on the disk when it returns, which is what an acknowledgement promises; a
        # server that waits for its standbys as well goes on to.
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) "
            "WHERE current_setting('synchronous_commit') = 'off'"
        )
        cursor.execute(
            f"SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_SECONDS}s'"
        )
        cursor.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
    connection.commit()


def remedy(words: str) -> str:
    """Return what to do about an error, or nothing where nobody knows."""
    if all(word in words for word in NO_DATABASE) and "relation" not in words:
        return "make it: createdb --owner USER DATABASE"
    return next((advice for sign, advice in REMEDIES if sign in words), "")
