"""Takes the notices of one channel from the outbox to the channel, in turns, again and again.

Each channel has a courier of its own, and each delivery a thread: one that is slow or hangs delays
no other channel. While a delivery hangs no second one is started.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from chipmedic.errors import DeliveryFailed, StoreError
from chipmedic.notifier import Notifier, StandingNotifier
from chipmedic_watchdog.abandon import call_abandonable
from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.notify import digest, outbox
from chipmedic_watchdog.notify.channels.retry import RetryLater
from chipmedic_watchdog.notify.limits import Maximum, Portion, Sent, portion
from chipmedic_watchdog.notify.receipts import Receipts
from chipmedic_watchdog.notify.settings import NotifySettings
from chipmedic_watchdog.notify.standing import ChannelState, last_success
from chipmedic_watchdog.store.database import Store

LOGGER = logging.getLogger(__name__)
Result = TypeVar("Result")

BEAT_SECONDS = 30.0
MARGIN_SECONDS = 5.0
"""A channel keeps its own deadline; when it is so much over it, the delivery counts as failed."""
STORE_RETRY_SECONDS = 2.0
REFRESH_RETRY_SECONDS = 10.0
SENT_KEPT = 1_000
ROUND = 8
"""Notices after which a courier looks whether others have come meanwhile."""
STUCK_SECONDS = 120.0
"""A courier that has not moved for so long does not work."""


class Courier:
    """Serves one channel."""

    def __init__(
        self,
        database: Store,
        notifier: Notifier,
        settings: NotifySettings,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._notifier = notifier
        self._settings = settings
        channel = settings.channels[notifier.name]
        self._timeout_seconds = channel.timeout_seconds + MARGIN_SECONDS
        self._maximum = Maximum(in_all=channel.per_minute, of_one_node=channel.per_node_per_minute)
        self._now = now
        self._bell = Bell()
        self._hanging = 0
        self._trouble = ""
        self._store_trouble = ""
        self._is_refused = False
        """Whether the store has refused a write since the last look."""
        self._receipts = Receipts(database)
        self._sent: deque[Sent] = deque(maxlen=SENT_KEPT)
        self._refresh_at = 0.0
        self._moved_at = time.monotonic()
        self.failing_since: float | None = None
        """Since when nothing has arrived that was to be delivered; None: the last one did."""
        self._failures = 0
        self._success_at: float | None = None

    def wake(self) -> None:
        """There is something to deliver."""
        self._bell.ring()

    async def run(self) -> None:
        """Deliver until cancelled."""
        is_first = True
        while True:
            self._moved_at = time.monotonic()
            try:
                if is_first:
                    self._success_at = await self._database.read(
                        lambda c: last_success(c, self.name)
                    )
                is_first = False
                await self._refresh()
                wait_seconds = await self._deliver_due()
                if not self._is_refused:
                    self._note_store("")
            except StoreError as e:
                self._note_store(str(e))
                wait_seconds = STORE_RETRY_SECONDS
            await self._bell.wait(wait_seconds)

    @property
    def name(self) -> str:
        """The channel's name."""
        return self._notifier.name

    @property
    def state(self) -> ChannelState:
        """How the channel fares."""
        return ChannelState(
            name=self.name,
            last_success_at=self._success_at,
            failures_in_a_row=self._failures,
        )

    @property
    def is_stuck(self) -> bool:
        """Whether it has not moved for longer than any delivery takes."""
        longest = max(STUCK_SECONDS, 2 * self._timeout_seconds)
        return time.monotonic() - self._moved_at > longest

    async def _deliver_due(self) -> float:
        """Deliver what is due; return how long nothing else will be."""
        while True:
            now = self._now()
            self._bell.hush()
            self._is_refused = False
            await self._write(self._receipts.write)
            pending, next_at = await self._due(now)
            pending = [one for one in pending if not self._receipts.forbids(one.notice.id, now)]
            part = portion(pending, self._sent, self._maximum, now)
            if part.over:
                await self._put_into_digest(part)
            if not part.now:
                times = [at for at in (next_at, part.room_at or None) if at is not None]
                longest = STORE_RETRY_SECONDS if self._is_refused else BEAT_SECONDS
                return max(0.01, min([longest, *(at - now for at in times)]))
            await self._deliver_in_order(part.now)

    async def _deliver_in_order(self, turns: Sequence[outbox.Pending]) -> None:
        """Deliver until all are tried, or until others have come whose turn may be earlier."""
        stopped: set[str] = set()
        for count, one in enumerate(turns, start=1):
            if one.incident not in stopped and not await self._deliver(one):
                stopped.add(one.incident)
            if count % ROUND == 0 and self._bell.is_rung:
                return

    async def _put_into_digest(self, part: Portion) -> None:
        ids = [one.notice.id for one in part.over]
        await self._write(
            lambda: self._database.write(lambda c: digest.put_off(c, ids, part.room_at))
        )

    async def _due(self, now: float) -> tuple[list[outbox.Pending], float | None]:
        """Return what may be delivered now, the digest whose time has come among it."""
        pending, next_at, digest_at = await self._database.read(
            lambda c: (*outbox.due(c, self.name, now), digest.next_at(c, self.name))
        )
        if digest_at is None:
            return pending, next_at
        if digest_at > now:
            return pending, digest_at if next_at is None else min(next_at, digest_at)
        gather = partial(digest.gather, channel=self.name, settings=self._settings, now=now)
        if not await self._write(lambda: self._database.write(gather)):
            return pending, next_at
        return await self._database.read(lambda c: outbox.due(c, self.name, now))

    async def _refresh(self) -> None:
        """Say again what is open, where the receiver forgets it otherwise."""
        notifier = self._notifier
        if not isinstance(notifier, StandingNotifier):
            return
        if self._now() < self._refresh_at:
            return
        standing = await self._database.read(lambda c: outbox.standing(c, self.name))
        try:
            if standing:
                await self._call(lambda: notifier.refresh(standing))
        except DeliveryFailed as e:
            self._note(e)
            self._refresh_at = self._now() + REFRESH_RETRY_SECONDS
        else:
            self._note_success()
            self._refresh_at = self._now() + notifier.refresh_seconds

    async def _deliver(self, pending: outbox.Pending) -> bool:
        """Deliver one notice and write down what came of it; return whether it arrived."""
        # At the last moment: one that was stopped and goes on may have been replaced meanwhile.
        self._database.assert_leading()
        token = self._database.fencing_token
        notice = replace(pending.notice, data={**pending.notice.data, "fencing_token": token})
        try:
            receipt = await self._call(lambda: self._notifier.deliver(notice))
        except DeliveryFailed as e:
            await self._put_off(pending, e)
            return False
        self._moved_at = time.monotonic()
        now = self._note_success()
        self._sent.append(Sent(now, pending.node))
        self._receipts.note_arrival(notice.id, receipt, now)
        await self._write(self._receipts.write)
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

    async def _write(self, work: Callable[[], Awaitable[object]]) -> bool:
        """Write something down; while the store refuses, the rest is delivered all the same.

        Who is to be told must not wait for our disk, and must not be told twice for it either.
        """
        try:
            await work()
        except StoreError as e:
            self._is_refused = True
            self._note_store(str(e))
            return False
        return True

    async def _call(self, work: Callable[[], Result]) -> Result:
        """Call the channel in a thread of its own."""
        if self._hanging:
            raise DeliveryFailed("an earlier delivery still hangs")

        def counted() -> Result:
            self._hanging += 1
            try:
                return work()
            finally:
                self._hanging -= 1

        try:
            return await call_abandonable(
                counted, timeout_seconds=self._timeout_seconds, name=f"notify-{self.name}"
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
        self._moved_at = time.monotonic()
        self._note(error)
        self._receipts.note_failure(pending.notice.id, str(error), next_at)
        await self._write(self._receipts.write)

    def _note_store(self, trouble: str) -> None:
        """Tell the log when the store's trouble begins or changes."""
        if trouble and trouble != self._store_trouble:
            LOGGER.warning("outbox not read or written: channel=%s why=%s", self.name, trouble)
        self._store_trouble = trouble

    def _note_success(self) -> float:
        now = self._now()
        self.failing_since, self._failures, self._success_at = None, 0, now
        return now

    def _note(self, error: DeliveryFailed) -> None:
        """Tell the log of a trouble that is a new one, and since when there is one."""
        self._failures += 1
        if str(error) != self._trouble:
            LOGGER.warning("channel does not deliver: channel=%s why=%s", self.name, error)
        self._trouble = str(error)
        if self.failing_since is None:
            self.failing_since = self._now()

    def _wait_seconds(self, attempts: int, error: DeliveryFailed) -> float:
        """Return the wait before the next try: doubled each time, with jitter against herds."""
        if isinstance(error, RetryLater):
            return error.after_seconds
        longest = self._settings.retry_longest_seconds
        doubled: float = self._settings.retry_first_seconds * 2.0 ** min(attempts, 20)
        return min(doubled, longest) * random.uniform(0.8, 1.2)  # noqa: S311  not for secrets
