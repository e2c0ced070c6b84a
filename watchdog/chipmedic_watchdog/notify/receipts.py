"""What has arrived and is not written down yet: a store that refuses has nobody told twice."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from chipmedic_watchdog.notify import outbox
from chipmedic_watchdog.store.database import Store


class _Receipt(NamedTuple):
    words: str
    at: float


class Receipts:
    """The receipts of one channel on their way into the store, in memory until they are there.

    They survive no restart: what is lost here is delivered once more, under the same id.
    """

    def __init__(self, database: Store) -> None:
        self._database = database
        self._unwritten: dict[str, _Receipt] = {}

    def __bool__(self) -> bool:
        return bool(self._unwritten)

    def __contains__(self, notice: str) -> bool:
        return notice in self._unwritten

    def note(self, notice: str, words: str, at: float) -> None:
        """Keep what the channel has said."""
        self._unwritten[notice] = _Receipt(words, at)

    async def write(self) -> None:
        """Write down all that is kept.

        Raises:
            StoreError: the store refused; they are kept for the next time.
        """
        taken = dict(self._unwritten)
        if not taken:
            return

        def record(connection: Connection) -> None:
            for notice, receipt in taken.items():
                outbox.record_delivery(connection, notice, receipt.words, receipt.at)

        await self._database.write(record)
        for notice in taken:
            del self._unwritten[notice]
