"""Keeps this watchdog's lease, or waits for it; says at every moment whether it may act."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from chipmedic.errors import StoreError
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.lead import lease
from chipmedic_watchdog.lead.lease import LEASE_SECONDS, Deposed, Member, View
from chipmedic_watchdog.store.database import FENCING, Database

log = logging.getLogger(__name__)

Part = Callable[[], Coroutine[None, None, None]]
Result = TypeVar("Result")

RENEW_SECONDS = 2.0
WATCH_SECONDS = 1.0
"""Between the looks of one that does not lead; with the lease it bounds how long nobody leads."""
MARGIN_SECONDS = 0.5
"""We stop acting so much before the others may begin."""
LOOK_SECONDS = 0.1
LOCK_NOT_AVAILABLE = "55P03"


class Lead:
    """One watchdog's part in the lead.

    The beats have a connection and a thread of their own: whatever else waits, they go on.
    """

    def __init__(
        self, database: Database, me: Member, health: Health, clock: Clock | None = None
    ) -> None:
        """`database` is for the beats alone where the store is shared."""
        self.me = me
        self._database = database
        self._health = health
        self._clock = clock or Clock()
        self._is_shared = database.is_shared
        self._held_token: int | None = None
        self._held_until = float("-inf")
        self.view = View(holder="", token=0)
        self.on_change: Callable[[], None] = lambda: None
        """Called when this watchdog begins or ceases to lead."""

    @property
    def is_held(self) -> bool:
        """Whether this watchdog leads, by its own clock alone; true only while nobody else can."""
        return self._held_token is not None and self._clock.elapsed() < self._held_until

    @property
    def token(self) -> int:
        """The newest token that is known here: ours, or that of whoever leads."""
        return self.view.token

    @property
    def alive(self) -> Collection[str]:
        """Ids of the watchdogs that live, this one among them."""
        return {*self.view.alive, self.me.id}

    @property
    def leader(self) -> str:
        """The name of the watchdog that leads; empty where none is known."""
        return self.view.alive.get(self.view.holder, "")

    def take_for_ever(self) -> None:
        """Lead a store that nobody else can work on.

        Raises:
            StoreError: it cannot be written.
        """
        view = self._database.write_now(lambda c: lease.beat(c, self.me, None, is_alone=True))
        self._note(view, float("inf"))

    async def run(self) -> None:
        """Beat until cancelled."""
        while self._is_shared:
            try:
                await self.beat()
                self._health.end("lead")
            except StoreError as e:
                if self._health.begin("lead", f"the lead cannot be kept or taken: {e}"):
                    log.warning("no beat to the store: is_leader=%s why=%s", self.is_held, e)
            await asyncio.sleep(RENEW_SECONDS if self.is_held else WATCH_SECONDS)
        await asyncio.Event().wait()

    async def beat(self) -> None:
        """Renew, or take the lead where it is free.

        Raises:
            StoreError: the store cannot be written.
        """
        # Counted from before the question: the answer may have been under way for long.
        until = self._clock.elapsed() + LEASE_SECONDS - MARGIN_SECONDS
        if not self.is_held:
            self.step_down("it was not renewed in time")
        token = self._held_token
        try:
            view = await self._database.write(lambda c: lease.beat(c, self.me, token))
        except StoreError as e:
            if _is_locked(e):
                await self._end_dead_sessions()
            raise
        self._note(view, until)

    async def _end_dead_sessions(self) -> None:
        count = await self._database.write(lease.end_sessions_of_dead_leader)
        if count:
            log.warning("ended the sessions of a leader that stands still: count=%d", count)

    def _note(self, view: View, until: float) -> None:
        self.view = view
        if view.holder != self.me.id:
            self.step_down(f"another leads now, token={view.token}")
            return
        self._held_until = until
        if self._held_token != view.token:
            self._held_token = view.token
            log.info("leading: token=%d", view.token)
            self.on_change()

    def step_down(self, why: str) -> None:
        """Cease to lead, if we did."""
        if self._held_token is not None:
            log.warning("leads no more: token=%d why=%s", self._held_token, why)
            self._held_token = None
            self._held_until = float("-inf")
            self.on_change()

    def assert_held(self) -> None:
        """Before an act on the world: see that this watchdog leads.

        Raises:
            Deposed: it does not.
        """
        if not self.is_held:
            raise Deposed("this watchdog does not lead")

    def require(self, connection: Connection) -> None:
        """In a transaction: see that this watchdog leads, and will until the commit.

        Raises:
            Deposed: it does not.
        """
        token = self._held_token
        if token is None or not self.is_held:
            raise Deposed("this watchdog does not lead")
        if self._is_shared:
            lease.require(connection, self.me.id, token)

    def leads(self, connection: Connection) -> bool:
        """Say in a transaction whether this watchdog leads, and will until the commit."""
        try:
            self.require(connection)
        except Deposed:
            return False
        return True

    async def until_held(self) -> None:
        """Wait until this watchdog leads."""
        while not self.is_held:
            await asyncio.sleep(LOOK_SECONDS)

    async def until_lost(self) -> None:
        """Wait until this watchdog leads no more, or leads anew."""
        token = self._held_token
        while self.is_held and self._held_token == token:
            await asyncio.sleep(LOOK_SECONDS)

    async def release(self) -> None:
        """Give the lead up at the end, so that another has it at once."""
        if self._is_shared:
            self.step_down("this watchdog stops")
            try:
                await self._database.write(lambda c: lease.release(c, self.me))
            except StoreError as e:
                log.warning("the lead was not given up and ends by itself: why=%s", e)


class LeaderStore:
    """The store as the leading parts use it: a write is only done while this watchdog leads."""

    def __init__(self, database: Database, lead: Lead) -> None:
        self._database = database
        self._lead = lead

    @property
    def fencing_token(self) -> int:
        """The token that every act and notice carries."""
        return self._lead.token

    def assert_leading(self) -> None:
        """See before an act on the world that this watchdog leads.

        Raises:
            Deposed: it does not.
        """
        self._lead.assert_held()

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` over a consistent view of the store."""
        return await self._database.read(work)

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` in a transaction in which this watchdog leads to the end.

        Raises:
            Deposed: it does not lead; nothing of `work` is in the store.
            StoreError: the store refused.
        """

        def fenced(connection: Connection) -> Result:
            self._lead.require(connection)
            connection.execution_options(**{FENCING: self._lead.token})
            return work(connection)

        try:
            return await self._database.write(fenced)
        except Deposed as e:
            self._lead.step_down(str(e))
            raise


def _is_locked(error: StoreError) -> bool:
    cause = error.__cause__
    return (
        isinstance(cause, OperationalError)
        and getattr(cause.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE
    )


async def lead_while_held(lead: Lead, parts: Mapping[str, Part]) -> None:
    """Run the leading parts whenever this watchdog leads, until cancelled."""
    while True:
        await lead.until_held()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(), name=name) for name, run in parts.items()]
            await lead.until_lost()
            for task in tasks:
                task.cancel()
