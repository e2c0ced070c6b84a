"""Group commit: arrivals of all agents that come close together share one transaction.

An arrival is acknowledged after its group is durable and never before. While the store refuses
(full disk), the group is kept and tried again, the queue fills, and the streams are read no
further; nothing is dropped, because the agents' spools still hold everything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import (
    DataError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
    StatementError,
)

from chipmedic.errors import StoreError
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.intake.arrival import Arrival
from chipmedic_watchdog.intake.board import OPEN_FAULTS_MAX
from chipmedic_watchdog.intake.commit import Committed, Memory, commit_group
from chipmedic_watchdog.intake.fair_queue import FairQueue
from chipmedic_watchdog.intake.message import Batch
from chipmedic_watchdog.intake.place import ALONE, Place
from chipmedic_watchdog.intake.sessions import NameTaken
from chipmedic_watchdog.lead.signals import Signal, tell
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store.database import Database

log = logging.getLogger(__name__)

NODE_QUEUE_WEIGHT = 4096
"""Of one node in the queue; above it its stream is read no further (flow control)."""
LINGER_MOST_SECONDS = 0.1
RETRY_FIRST_SECONDS, RETRY_LAST_SECONDS = 0.5, 10.0
POISON = (DataError, IntegrityError, OverflowError, UnicodeError)
"""Causes that lie in what is written, not in the store: trying again cannot help."""


class Unstorable(StoreError):
    """What this one agent sent cannot be written; others are not concerned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitterSettings:
    """How groups are made."""

    linger_seconds: float = 0.02
    group_events: int = 4096
    queue_events: int = 50_000


class Committer:
    """The one writer of what agents say."""

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        health: Health,
        settings: CommitterSettings | None = None,
        place: Place = ALONE,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._health = health
        self._settings = settings or CommitterSettings()
        self._place = place
        self._queue = FairQueue()
        self._queued = 0
        self._took_seconds = 0.0
        """The last commit."""
        self._moved = asyncio.Event()
        """Set, and replaced, when a group has left the queue."""
        self._told: set[str] = set()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._memory = Memory()
        self.on_faults: Callable[[], None] = lambda: None
        """Called when a committed group has changed faults."""
        self.on_progress: Callable[[], None] = lambda: None
        self.on_recovered: Callable[[], None] = lambda: None
        """Called when the store works again."""

    @property
    def is_failing(self) -> bool:
        """Whether the store refuses now."""
        return "store" in self._health.problems

    async def put(self, arrival: Arrival) -> None:
        """Queue an arrival; waits while the queue, or its node's part of it, is full."""
        await self._room.wait()
        while self._queue.weight_of(arrival.node) >= NODE_QUEUE_WEIGHT:
            await self._moved.wait()
        self.put_now(arrival)

    def put_now(self, arrival: Arrival) -> None:
        """Queue what the watchdog itself found out, full or not: it is little."""
        arrival.queued_at = time.monotonic()
        self._queue.append(arrival)
        self._queued += arrival.weight
        if self._queued >= self._settings.queue_events:
            self._room.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Commit groups until cancelled; then commit what is left."""
        try:
            while True:
                await self._gather()
                await self._commit(self._next_group())
        except asyncio.CancelledError:
            while self._queue and not self.is_failing:
                await self._commit(self._next_group(), is_last=True)
            raise

    async def _gather(self) -> None:
        """Wait for the first arrival, then a moment for others."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        if self._queued < self._settings.group_events:
            # A store that is slow, or an interpreter that is busy, gets larger groups.
            linger_seconds = min(self._took_seconds, LINGER_MOST_SECONDS)
            await asyncio.sleep(max(self._settings.linger_seconds, linger_seconds))

    def _next_group(self) -> list[Arrival]:
        group = self._queue.take(self._settings.group_events)
        self._moved.set()
        self._moved = asyncio.Event()
        return group

    async def _commit(self, group: list[Arrival], *, is_last: bool = False) -> None:
        wait_seconds = RETRY_FIRST_SECONDS
        while True:
            try:
                committed = await self._write(group)
                break
            except StoreError as e:
                self._metrics.store_failures.inc()
                if _is_poison(e):
                    await self._commit_singly(group, e)
                    return
                self._begin_trouble(e)
                if is_last:
                    self._queue.put_back(group)
                    return
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, RETRY_LAST_SECONDS)
        self._end_trouble()
        self._finish(group, committed)

    async def _write(self, group: list[Arrival]) -> Committed:
        begun = time.monotonic()
        try:
            return await self._database.write(lambda c: self._commit_group(c, group))
        except (StatementError, OverflowError, UnicodeError) as e:
            # A value that the driver cannot bind never became an error of the database.
            raise StoreError(f"store: {e}") from e
        finally:
            self._took_seconds = time.monotonic() - begun

    def _commit_group(self, connection: Connection, group: list[Arrival]) -> Committed:
        committed = commit_group(connection, group, self._memory, self._place)
        for signal, is_due in (
            (Signal.FAULTS, committed.has_fault_news),
            (Signal.PROGRESS, committed.has_new_progress),
            (Signal.NODES, committed.has_lost_nodes),
        ):
            if is_due:
                tell(connection, signal)
        return committed

    async def _commit_singly(self, group: list[Arrival], error: StoreError) -> None:
        """Find the one arrival that the store cannot take, so that it costs only itself."""
        if len(group) > 1:
            for arrival in group:
                await self._commit([arrival])
            return
        (arrival,) = group
        log.error("cannot be stored: node=%s why=%s", arrival.node, error)
        self._metrics.messages_refused.labels("unstorable").inc()
        self._release(group)
        if arrival.done is not None and not arrival.done.done():
            arrival.done.set_exception(Unstorable(f"{arrival.node}: {error}"))

    def _finish(self, group: list[Arrival], committed: Committed) -> None:
        self._memory.take_over(committed)
        self._release(group)
        now = time.monotonic()
        metrics = self._metrics
        for arrival in group:
            if arrival.done is not None and not arrival.done.done():
                if (refusal := committed.refused.get(arrival.stream)) is not None:
                    arrival.done.set_exception(NameTaken(refusal))
                    continue
                arrival.done.set_result(committed.acked.get((arrival.node, arrival.epoch), 0))
            if isinstance(arrival.body, Batch):
                metrics.commit_seconds.observe(now - arrival.queued_at)
        metrics.events_committed.inc(committed.committed)
        metrics.events_duplicate.inc(committed.duplicates)
        metrics.events_unreadable.inc(committed.unreadable)
        metrics.events_missing.inc(committed.missing)
        for node, count in committed.refused_faults.items():
            self._note_refused_faults(node, count)
        if committed.has_fault_news:
            self.on_faults()
        if committed.has_new_progress:
            self.on_progress()

    def _note_refused_faults(self, node: str, count: int) -> None:
        self._metrics.messages_refused.labels("too_many_faults").inc(count)
        if node not in self._told:
            self._told.add(node)
            log.warning(
                "faults refused: node=%s why=it opens more than a sick node has (%d, then one in "
                "2 s); its events are kept",
                node, OPEN_FAULTS_MAX,
            )  # fmt: skip

    def _release(self, group: list[Arrival]) -> None:
        self._queued -= sum(arrival.weight for arrival in group)
        self._metrics.queue_events.set(self._queued)
        if self._queued < self._settings.queue_events:
            self._room.set()

    def _begin_trouble(self, error: StoreError) -> None:
        self._metrics.store_failing.set(1)
        if self._health.begin("store", f"{error}; events stay in the agents' spools"):
            log.error("store refuses: why=%s; nothing is acknowledged until it takes", error)

    def _end_trouble(self) -> None:
        self._metrics.store_failing.set(0)
        if self._health.end("store"):
            log.warning("store takes again: queued_events=%d", self._queued)
            self.on_recovered()


def _is_poison(error: StoreError) -> bool:
    cause = error.__cause__
    if isinstance(cause, InterfaceError | ProgrammingError):
        # PostgreSQL's driver says the same of a lost connection and of a missing right.
        return not type(cause.orig).__module__.startswith("psycopg")
    # A plain StatementError is a failed binding; its subclasses speak for the database.
    return isinstance(cause, POISON) or type(cause) is StatementError
