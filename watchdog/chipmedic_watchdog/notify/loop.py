"""The loop of notices: writes the news into the outbox and keeps a courier for each channel."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from sqlalchemy import Connection

from chipmedic.errors import ConfigError, DeliveryFailed, StoreError
from chipmedic.recoverer import NodeView
from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.incidents.rules import RuleSet, builtin
from chipmedic_watchdog.notify import news, outbox, proof
from chipmedic_watchdog.notify.channels import make
from chipmedic_watchdog.notify.courier import Courier
from chipmedic_watchdog.notify.deadman import Deadman
from chipmedic_watchdog.notify.holds import Word
from chipmedic_watchdog.notify.links import Linker
from chipmedic_watchdog.notify.settings import ChannelKind, NotifySettings
from chipmedic_watchdog.notify.standing import ChannelState
from chipmedic_watchdog.store.database import Store

LOGGER = logging.getLogger(__name__)

POLL_SECONDS = 5.0
DECISION_POLL_SECONDS = 0.05
BATCH = 50
"""Incidents of one transaction: a storm must not keep the store from the events of agents."""

Witness = Callable[[], Awaitable[Mapping[str, NodeView]]]
"""Asks the schedulers for all of their nodes; raises DeliveryFailed."""


class NotifyLoop:
    """Tells people until it is cancelled; what is pending is delivered after the next start."""

    def __init__(
        self,
        database: Store,
        settings: NotifySettings,
        *,
        now: Callable[[], float] = time.time,
        witness: Witness | None = None,
        troubles: Callable[[], Iterable[str]] = tuple,
        on_ping: Callable[[bool], None] = lambda _: None,
        rules: Callable[[], RuleSet] = builtin,
    ) -> None:
        self._rules = rules
        self._database = database
        self._settings = settings
        self._now = now
        self._witness = witness
        self._troubles = troubles
        self._bell = Bell()
        self._couriers = [
            Courier(database, make(name, channel), settings, now=now)
            for name, channel in settings.channels.items()
        ]
        self._deadman = Deadman(settings.deadman, self._prove, on_ping)
        self._link_trouble = ""
        self._word = Word()
        self._asking: asyncio.Task[None] | None = None
        self._looked_at = time.monotonic()
        self._trouble = ""

    def wake(self) -> None:
        """Look now: an incident or a recovery changed, or a person did something."""
        self._bell.ring()
        for courier in self._couriers:
            courier.wake()

    def channel_states(self) -> list[ChannelState]:
        """Return how each channel fares."""
        return [courier.state for courier in self._couriers]

    async def run(self) -> None:
        """Work until cancelled."""
        self._check()
        async with asyncio.TaskGroup() as group:
            for courier in self._couriers:
                group.create_task(courier.run(), name=f"courier {courier.name}")
            group.create_task(self._deadman.run(), name="deadman")
            await self._write_news_for_ever(group)

    async def _write_news_for_ever(self, group: asyncio.TaskGroup) -> None:
        is_first = True
        beat_at = 0.0
        while True:
            is_waiting = False
            try:
                if is_first:
                    await self._database.write(self._drop_unknown_channels)
                is_first = False
                is_beat = time.monotonic() - beat_at >= POLL_SECONDS
                beat_at = time.monotonic() if is_beat else beat_at
                is_waiting = await self._look(group, is_beat=is_beat)
                self._looked_at = time.monotonic()
                self._trouble = ""
            except StoreError as e:
                if str(e) != self._trouble:
                    LOGGER.error("notices wait for the store: why=%s", e)  # noqa: TRY400
                self._trouble = str(e)
            await self._bell.wait(
                DECISION_POLL_SECONDS if is_waiting else POLL_SECONDS,
                at_least_seconds=DECISION_POLL_SECONDS,
            )

    async def _look(self, group: asyncio.TaskGroup, *, is_beat: bool) -> bool:
        """Write what is news; return whether something is left to look at in a moment."""
        desk = self._desk()
        outcome, is_left = await self._write_unread(desk, is_beat=is_beat)
        now = self._now()
        if is_beat and await self._is_to_escalate(desk, now):
            self._send(await self._database.write(lambda c: news.escalate(c, desk, now)))
        if is_beat and await self._is_to_remind(now):
            self._send(await self._database.write(lambda c: news.remind(c, desk, now)))
        if outcome.asks_scheduler:
            self._ask(group)
        return outcome.is_waiting or is_left

    async def _write_unread(self, desk: news.Desk, *, is_beat: bool) -> tuple[news.Outcome, bool]:
        """Write all that is news, in batches; return whether there was no time for the rest.

        Before each batch it is seen whether others have come whose turn is earlier.
        """
        outcome = news.Outcome()
        seen: set[str] = set()
        ids: list[str] = []
        begun = time.monotonic()
        while time.monotonic() - begun < POLL_SECONDS:
            now = self._now()
            if not ids or self._bell.is_rung:
                self._bell.hush()
                found = await self._database.read(partial(self._unread, desk, now, is_beat))
                ids = [one for one in found if one not in seen]
                if not ids:
                    return outcome, False
            part, ids = ids[:BATCH], ids[BATCH:]
            seen.update(part)
            written = await self._database.write(
                partial(news.write_news, ids=part, desk=desk, now=now)
            )
            self._send(written.written)
            outcome += written
        return outcome, True

    def _unread(
        self, desk: news.Desk, now: float, is_beat: bool, connection: Connection
    ) -> list[str]:
        ids = news.unread(connection, self._settings, now)
        return ids + (news.newly_silenced(connection, desk, now) if is_beat else [])

    def _send(self, written: int) -> None:
        if written:
            for courier in self._couriers:
                courier.wake()

    async def _is_to_escalate(self, desk: news.Desk, now: float) -> bool:
        """Whether there is something to write: most looks find nothing and wait for no writer."""
        if not any(route.escalations for route in self._settings.routes):
            return False
        return bool(await self._database.read(lambda c: news.escalations_due(c, desk, now)))

    async def _is_to_remind(self, now: float) -> bool:
        return await self._database.read(lambda c: news.is_to_remind(c, self._settings, now))

    def _desk(self) -> news.Desk:
        return news.Desk(
            settings=self._settings,
            linker=self._linker(),
            word=self._word,
            has_scheduler=self._witness is not None,
            rules=self._rules(),
        )

    def _ask(self, group: asyncio.TaskGroup) -> None:
        """Ask the schedulers beside everything else, one question at a time."""
        if self._witness is not None and (self._asking is None or self._asking.done()):
            self._asking = group.create_task(self._hear(self._witness), name="ask the scheduler")

    async def _hear(self, witness: Witness) -> None:
        asked_at = self._now()
        try:
            views = await witness()
        except DeliveryFailed as e:
            LOGGER.warning("scheduler does not say which nodes are meant to be away: why=%s", e)
            return
        self._word = Word(asked_at=asked_at, views=views)
        self._bell.ring()

    def _drop_unknown_channels(self, connection: Connection) -> None:
        count = outbox.drop_unknown_channels(connection, self._settings.channels)
        if count:
            LOGGER.error("notices failed, their channel is gone: count=%d", count)

    async def _prove(self) -> list[str]:
        """Return what keeps people from being told, proved now; empty: all works."""
        reasons = [*self._troubles()]
        age_seconds = time.monotonic() - self._looked_at
        reasons += proof.of_loop(age_seconds, POLL_SECONDS, self._trouble)
        reasons += proof.of_couriers(self._couriers, self._now())
        return reasons + await proof.of_store(self._database, self._now())

    def _check(self) -> None:
        """Say at the start what would fail at the first notice."""
        if not self._settings.channels:
            LOGGER.warning("nobody is told of anything: no [notify.channels] is configured")
        for name, channel in self._settings.channels.items():
            try:
                if channel.kind in WITH_URL:
                    channel.read_url()
                if channel.kind in WITH_SECRET:
                    channel.read_secret()
            except ConfigError as e:
                LOGGER.error("channel cannot deliver: channel=%s why=%s", name, e)  # noqa: TRY400

    def _linker(self) -> Linker | None:
        """Return what makes links; the key is read anew, as other secrets are."""
        links = self._settings.links
        if not links.key_file:
            return None
        try:
            linker = Linker(links, self._settings.external_url, links.read_key())
        except ConfigError as e:
            if str(e) != self._link_trouble:
                LOGGER.error("notices bear no links: why=%s", e)  # noqa: TRY400
            self._link_trouble = str(e)
            return None
        self._link_trouble = ""
        return linker


WITH_URL = (ChannelKind.APPRISE, ChannelKind.WEBHOOK, ChannelKind.ALERTMANAGER)
WITH_SECRET = (ChannelKind.WEBHOOK, ChannelKind.SLACK)
