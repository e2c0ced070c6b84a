"""What came of deliveries and is not written down yet: a store that refuses changes nothing of it.

Nobody is told twice, and a channel that asked to be left alone is, however long a disk is full.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from chipmedic_watchdog.notify import outbox
from chipmedic_watchdog.store.database import Store


class _Receipt(NamedTuple):
    words: str
    at: float


class _Failure(NamedTuple):
    words: str
    next_at: float | None


class Receipts:
    """The outcomes of one channel on their way into the store, in memory until they are there.

    They survive no restart: what had arrived is then delivered once more, under the same id.
    """

    def __init__(self, database: Store) -> None:
        self._database = database
        self._arrived: dict[str, _Receipt] = {}
        self._failed: dict[str, _Failure] = {}

    def note_arrival(self, notice: str, words: str, at: float) -> None:
        """Keep what the channel has said."""
        self._failed.pop(notice, None)
        self._arrived[notice] = _Receipt(words, at)

    def note_failure(self, notice: str, words: str, next_at: float | None) -> None:
        """Keep why it did not arrive and when it is tried again; None: never."""
        self._failed[notice] = _Failure(words, next_at)

    def forbids(self, notice: str, now: float) -> bool:
        """Whether a notice must not be delivered now, though the store has it as due."""
        failure = self._failed.get(notice)
        is_too_early = failure is not None and (failure.next_at is None or failure.next_at > now)
        return notice in self._arrived or is_too_early

    async def write(self) -> None:
        """Write down all that is kept.

        Raises:
            StoreError: the store refused; everything is kept for the next time.
        """
        arrived, failed = dict(self._arrived), dict(self._failed)
        if not arrived and not failed:
            return

        def record(connection: Connection) -> None:
            for notice, receipt in arrived.items():
                outbox.record_delivery(connection, notice, receipt.words, receipt.at)
            for notice, failure in failed.items():
                outbox.record_failure(
                    connection, notice, failure.words, next_attempt_at=failure.next_at
                )

        await self._database.write(record)
        for notice in arrived:
            del self._arrived[notice]
        for notice in failed:
            del self._failed[notice]
