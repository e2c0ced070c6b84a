"""The loop of notices: writes the news into the outbox and keeps a courier for each channel."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from chipmedic.errors import ConfigError, StoreError
from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.notify import outbox
from chipmedic_watchdog.notify.channels import make
from chipmedic_watchdog.notify.courier import Courier
from chipmedic_watchdog.notify.settings import ChannelKind, NotifySettings
from chipmedic_watchdog.store.database import Database

LOGGER = logging.getLogger(__name__)

POLL_SECONDS = 5.0
DECISION_POLL_SECONDS = 0.05


class NotifyLoop:
    """Tells people until it is cancelled; what is pending is delivered after the next start."""

    def __init__(
        self,
        database: Database,
        settings: NotifySettings,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._settings = settings
        self._now = now
        self._bell = Bell()
        self._couriers = [
            Courier(database, make(name, channel), settings, now=now)
            for name, channel in settings.channels.items()
        ]
        self._trouble = ""

    def wake(self) -> None:
        """Look now: an incident or a recovery changed."""
        self._bell.ring()

    async def run(self) -> None:
        """Work until cancelled."""
        self._check_channels()
        async with asyncio.TaskGroup() as group:
            for courier in self._couriers:
                group.create_task(courier.run(), name=f"courier {courier.name}")
            await self._write_news_for_ever()

    async def _write_news_for_ever(self) -> None:
        is_first = True
        while True:
            is_waiting = False
            try:
                if is_first:
                    await self._database.write(self._drop_unknown_channels)
                is_first = False
                is_waiting = await self._look()
                self._trouble = ""
            except StoreError as e:
                if str(e) != self._trouble:
                    LOGGER.error("notices wait for the store: why=%s", e)  # noqa: TRY400
                self._trouble = str(e)
            await self._bell.wait(
                DECISION_POLL_SECONDS if is_waiting else POLL_SECONDS,
                at_least_seconds=DECISION_POLL_SECONDS,
            )

    async def _look(self) -> bool:
        """Write what is news; return whether a new incident waits for its decision."""
        ids = await self._database.read(outbox.unread)
        if not ids:
            return False
        now = self._now()
        written, is_waiting = await self._database.write(
            lambda c: outbox.write_news(c, ids, self._settings, now)
        )
        if written:
            for courier in self._couriers:
                courier.wake()
        return is_waiting

    def _drop_unknown_channels(self, connection: object) -> None:
        count = outbox.drop_unknown_channels(connection, self._settings.channels)  # type: ignore[arg-type]
        if count:
            LOGGER.error("notices failed, their channel is gone: count=%d", count)

    def _check_channels(self) -> None:
        """Say at the start what would fail at the first notice."""
        if not self._settings.channels:
            LOGGER.warning("nobody is told of anything: no [notify.channels] is configured")
        for name, channel in self._settings.channels.items():
            try:
                if channel.kind in (ChannelKind.APPRISE, ChannelKind.WEBHOOK):
                    channel.read_url()
                if channel.kind is ChannelKind.WEBHOOK:
                    channel.read_secret()
            except ConfigError as e:
                LOGGER.error("channel cannot deliver: channel=%s why=%s", name, e)  # noqa: TRY400
