"""Takes the notices of one channel from the outbox to the channel, in order, again and again.

Each channel has a courier of its own, and each delivery a thread: one that is slow or hangs delays
no other channel. While a delivery hangs no second one is started.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from chipmedic.errors import DeliveryFailed, StoreError
from chipmedic.notifier import Notice, Notifier
from chipmedic_watchdog.abandon import call_abandonable
from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.notify import outbox
from chipmedic_watchdog.notify.channels.retry import RetryLater
from chipmedic_watchdog.notify.settings import NotifySettings
from chipmedic_watchdog.store.database import Database

LOGGER = logging.getLogger(__name__)

BEAT_SECONDS = 30.0
MARGIN_SECONDS = 5.0
"""A channel keeps its own deadline; when it is so much over it, the delivery counts as failed."""
STORE_RETRY_SECONDS = 2.0


class Courier:
    """Serves one channel."""

    def __init__(
        self,
        database: Database,
        notifier: Notifier,
        settings: NotifySettings,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._notifier = notifier
        self._settings = settings
        self._timeout_seconds = settings.channels[notifier.name].timeout_seconds + MARGIN_SECONDS
        self._now = now
        self._bell = Bell()
        self._hanging = 0
        self._trouble = ""

    def wake(self) -> None:
        """There is something to deliver."""
        self._bell.ring()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            try:
                wait_seconds = await self._deliver_due()
            except StoreError as e:
                LOGGER.warning("outbox not read or written: channel=%s why=%s", self.name, e)
                wait_seconds = STORE_RETRY_SECONDS
            await self._bell.wait(wait_seconds)

    @property
    def name(self) -> str:
        """The channel's name."""
        return self._notifier.name

    async def _deliver_due(self) -> float:
        """Deliver what is due; return how long nothing else will be."""
        while True:
            now = self._now()
            pending, next_at = await self._due(now)
            if not pending:
                return (
                    BEAT_SECONDS if next_at is None else max(0.01, min(BEAT_SECONDS, next_at - now))
                )
            stopped: set[str] = set()
            for one in pending:
                if one.notice.incident not in stopped and not await self._deliver(one):
                    stopped.add(one.notice.incident)

    async def _due(self, now: float) -> tuple[list[outbox.Pending], float | None]:
        return await self._database.read(lambda c: outbox.due(c, self.name, now))

    async def _deliver(self, pending: outbox.Pending) -> bool:
        """Deliver one notice and write down what came of it; return whether it arrived."""
        notice = pending.notice
        try:
            receipt = await self._call(notice)
        except DeliveryFailed as e:
            await self._put_off(pending, e)
            return False
        now = self._now()
        await self._database.write(lambda c: outbox.record_delivery(c, notice.id, receipt, now))
        if self._trouble:
            LOGGER.warning("channel delivers again: channel=%s", self.name)
            self._trouble = ""
        LOGGER.info(
            "notice delivered: id=%s seconds=%.2f receipt=%s",
            notice.id,
            now - pending.created_at,
            receipt,
        )
        return True

    async def _call(self, notice: Notice) -> str:
        """Call the channel in a thread of its own."""
        if self._hanging:
            raise DeliveryFailed("an earlier delivery still hangs")

        def work() -> str:
            self._hanging += 1
            try:
                return self._notifier.deliver(notice)
            finally:
                self._hanging -= 1

        try:
            return await call_abandonable(
                work, timeout_seconds=self._timeout_seconds, name=f"notify-{self.name}"
            )
        except TimeoutError as e:
            raise DeliveryFailed(f"no answer in {self._timeout_seconds:g} s") from e

    async def _put_off(self, pending: outbox.Pending, error: DeliveryFailed) -> None:
        """Write the failure and when to try again; tell the log when the trouble is a new one."""
        now = self._now()
        next_at: float | None = now + self._wait_seconds(pending.attempts, error)
        if error.is_permanent or now - pending.created_at > self._settings.give_up_after_seconds:
            next_at = None
            LOGGER.error("notice failed for good: id=%s why=%s", pending.notice.id, error)
        elif str(error) != self._trouble:
            LOGGER.warning("notice not delivered yet: id=%s why=%s", pending.notice.id, error)
        self._trouble = str(error)
        await self._database.write(
            lambda c: outbox.record_failure(
                c, pending.notice.id, str(error), next_attempt_at=next_at
            )
        )

    def _wait_seconds(self, attempts: int, error: DeliveryFailed) -> float:
        """Return the wait before the next try: doubled each time, with jitter against herds."""
        if isinstance(error, RetryLater):
            return error.after_seconds
        longest = self._settings.retry_longest_seconds
        doubled: float = self._settings.retry_first_seconds * 2.0 ** min(attempts, 20)
        return min(doubled, longest) * random.uniform(0.8, 1.2)  # noqa: S311  not for secrets
