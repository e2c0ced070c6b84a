"""The loop of notify."""

from __future__ import annotations

from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.notify.settings import NotifySettings
from chipmedic_watchdog.store.database import Database

POLL_SECONDS = 5.0


class NotifyLoop:
    """Runs notify over the store until it is cancelled."""

    def __init__(self, database: Database, settings: NotifySettings) -> None:
        self._database = database
        self._bell = Bell()

    def wake(self) -> None:
        """Look now: something changed."""
        self._bell.ring()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._bell.wait(POLL_SECONDS)
