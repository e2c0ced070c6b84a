"""What the pipeline writes and the stream reads: numbered events that survive a kill.

The loop numbers events and goes on; a thread makes them durable, all that has gathered by then at
once. The stream gets only what is durable, so a number is never used twice.

When the disk fails (full, read-only, no answer) the agent goes on in memory. Because numbers of the
old epoch might then be used again after a kill, a new epoch begins at that moment; it is delivered
as usual (a dying disk is news that must get out) and written down when the disk works again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from chipmedic.errors import StoreError
from chipmedic.model import Change
from chipmedic_agent.disk import Disk, FolderTaken, Opened
from chipmedic_agent.record import (
    Loss,
    Record,
    events_in,
    gap_record,
    record_of,
    renumbered,
    thinned,
)
from chipmedic_agent.spool import new_epoch
from chipmedic_agent.state import AgentState
from chipmedic_agent.worker import Worker, finished

OPEN_SECONDS = 20.0
"""How long the start waits for the disk before it goes on without."""
DISK_SECONDS = 10.0
"""When a write or read that has not returned counts as failed."""
IDLE_SAVE_SECONDS = 15.0
"""How old the saved state may be while no fault changes: a kill then only repeats some judging."""
RETRY_SECONDS = 10.0
"""How often a failed disk is tried again."""
ACKNOWLEDGE_SECONDS = 1.0
"""How long acknowledged segments may wait to be deleted."""
MEMORY_BYTES = 4194304
"""Bound of the events kept in memory while the disk fails."""
READ_BACK_SECONDS = 2.0
"""How long a failing disk may take to give back what the watchdog does not have yet."""
BATCH_EVENTS = 512
BATCH_BYTES = 983040
"""Bounds of one read; the wire allows 512 events and 1 MiB."""
RECENT_EVENTS = 512

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Journal:
    """Events of this node, in order."""

    def __init__(
        self,
        disk: Disk,
        *,
        boot_id: str,
        now: Callable[[], float],
        remember: Callable[[], AgentState],
    ) -> None:
        self.epoch = new_epoch()
        self.next_seq = 1
        self.acked_seq = 0
        self.durable_seq = 0
        self.lost_events = 0
        """While in memory; the spool counts its own."""
        self.trouble = ""
        """Why the disk cannot be used; empty: it can."""
        self.on_change: Callable[[], None] = lambda: None
        """Called whenever there may be more to read, or the epoch has changed."""
        self._disk = disk
        self._boot_id = boot_id
        self._now = now
        self._remember = remember
        self._worker = Worker("disk")
        self._unsaved: list[Record] = []
        self._memory: list[Record] | None = None
        self._recent: deque[Record] = deque(maxlen=RECENT_EVENTS)
        self._marks: deque[tuple[int, float]] = deque(maxlen=1024)
        self._memory_bytes = 0
        self._wake = asyncio.Event()
        self._due: float | None = None
        self._is_dirty = False
        self._has_acknowledged = False
        self._stuck: asyncio.Future[Any] | None = None

    # -- for the pipeline

    async def open(self) -> Opened:
        """Read what an earlier run left.

        Raises:
            FolderTaken: another agent works in the same folder.
        """
        opening = self._worker.call(partial(self._disk.open, self._now()))
        if not await finished(opening, OPEN_SECONDS):
            self._abandon(opening)
            opened = Opened(state=None, trouble=f"no answer in {OPEN_SECONDS:g} s")
        else:
            opened = opening.result()
        spool = self._disk.spool
        if opened.trouble or spool is None:
            outbox = opened.state.outbox if opened.state else ()
            self._begin_in_memory(outbox, opened.trouble or "cannot be opened")
            return opened
        self.epoch = spool.epoch
        self.next_seq = spool.next_seq
        self.durable_seq = self.next_seq - 1
        self.acked_seq = spool.first_seq - 1
        if opened.state is not None and opened.state.epoch == self.epoch:
            self.acked_seq = max(self.acked_seq, opened.state.acked_seq)
        if self.durable_seq > self.acked_seq:
            self._marks.append((self.durable_seq, self._now()))
        return opened

    def write(self, changes: Iterable[Change], at: float) -> None:
        """Number events; they are made durable at once, in the background."""
        records = [
            record_of(change, seq=seq, at=at, boot_id=self._boot_id)
            for seq, change in enumerate(changes, self.next_seq)
        ]
        if not records:
            return
        self.next_seq += len(records)
        if not self._marks or at - self._marks[-1][1] >= 1.0:
            self._marks.append((records[0].seq, at))
        if self._memory is None:
            self._unsaved += records
            self._plan(0.0)
        else:
            self._memory += records
            self._bound_memory(sum(record.size for record in records))
            self.on_change()

    def touch(self) -> None:
        """Say that the state has changed though no fault did."""
        if not self._is_dirty:
            self._is_dirty = True
            self._plan(IDLE_SAVE_SECONDS)

    # -- for the stream

    @property
    def is_failing(self) -> bool:
        """Whether events are only in memory."""
        return self._memory is not None

    @property
    def first_seq(self) -> int:
        """The lowest number that can still be read."""
        if self._memory is not None:
            return self._memory[0].seq if self._memory else self.next_seq
        spool = self._disk.spool
        return max(self.acked_seq + 1, spool.first_seq) if spool else self.next_seq

    @property
    def backlog_events(self) -> int:
        """Events that are not acknowledged."""
        return self.next_seq - 1 - self.acked_seq

    @property
    def size_bytes(self) -> int:
        """Bytes that the events take, on disk or in memory."""
        if self._memory is not None:
            return sum(record.size for record in list(self._memory))
        return self._disk.spool.size_bytes if self._disk.spool else 0

    @property
    def lost_total(self) -> int:
        """Events lost since the start of this process."""
        return self.lost_events + (self._disk.spool.lost_events if self._disk.spool else 0)

    def resize(self, bytes_max: int) -> None:
        """Take over another bound; the next append obeys it."""
        self._disk.resize(bytes_max)

    def lag_seconds(self, now: float) -> float:
        """Return the age of the oldest event that is not acknowledged, to about a second."""
        waiting = [at for seq, at in list(self._marks) if seq > self.acked_seq]
        return max(now - waiting[0], 0.0) if waiting else 0.0

    async def read(self, from_seq: int) -> list[Record]:
        """Return events that may be sent, from a number on; at most one batch."""
        if self._memory is not None:
            return _batch(record for record in self._memory if record.seq >= from_seq)
        if from_seq > self.durable_seq:
            return []
        if self._recent and self._recent[0].seq <= from_seq:
            return _batch(record for record in self._recent if record.seq >= from_seq)
        spool = self._disk.spool
        if spool is None:
            return []
        read = partial(spool.read, from_seq, count_max=BATCH_EVENTS, bytes_max=BATCH_BYTES)
        records, is_done = await self._on_disk(read)
        durable = self.durable_seq
        return [record for record in records or () if record.seq <= durable] if is_done else []

    def acknowledge(self, seq: int) -> None:
        """Let go of everything up to a number: the watchdog has it on disk."""
        seq = min(seq, self.next_seq - 1)
        if seq <= self.acked_seq:
            return
        self.acked_seq = seq
        while self._marks and self._marks[0][0] <= seq:
            self._marks.popleft()
        if self._memory is not None:
            self._memory = [record for record in self._memory if record.seq > seq]
            self._memory_bytes = sum(record.size for record in self._memory)
        elif not self._has_acknowledged:
            self._has_acknowledged = True
            self._plan(ACKNOWLEDGE_SECONDS)

    async def begin_epoch(self, why: str) -> None:
        """Number everything anew: the watchdog knows this epoch better than we do."""
        await self._fail(why)
        self._due = time.monotonic()
        self._wake.set()

    # -- the writer

    async def run(self) -> None:
        """Make durable what is written, for ever."""
        while True:
            await self._wait()
            await self.save()

    async def save(self) -> None:
        """Make everything durable that was written so far, as far as the disk lets us."""
        self._due = None
        if self._memory is not None:
            await self._restart()
            return
        if self._is_dirty or self._unsaved:
            await self._commit()
        spool = self._disk.spool
        if self._has_acknowledged and self._memory is None and spool is not None:
            self._has_acknowledged = False
            await self._on_disk(partial(spool.acknowledge, self.acked_seq))

    async def _wait(self) -> None:
        while True:
            timeout = None if self._due is None else self._due - time.monotonic()
            if timeout is not None and timeout <= 0:
                return
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    def _plan(self, within_seconds: float) -> None:
        if self._memory is not None:
            within_seconds = max(within_seconds, RETRY_SECONDS)
        at = time.monotonic() + within_seconds
        self._due = at if self._due is None else min(self._due, at)
        self._wake.set()

    async def _commit(self) -> None:
        records = tuple(self._unsaved)
        self._is_dirty = False
        state = self._state(records)
        _, is_done = await self._on_disk(partial(self._disk.commit, state, records))
        if not is_done:
            return
        del self._unsaved[: len(records)]
        if records:
            self.durable_seq = records[-1].seq
            self._recent.extend(records)
            self.on_change()

    def _state(self, outbox: Sequence[Record]) -> AgentState:
        return replace(
            self._remember(),
            epoch=self.epoch,
            next_seq=self.next_seq,
            acked_seq=self.acked_seq,
            outbox=tuple(outbox),
            is_outbox_whole=self._memory is not None,
        )

    async def _on_disk(self, work: Callable[[], Result]) -> tuple[Result | None, bool]:
        """Do something in the disk's thread; False: it failed, and we are in memory now."""
        epoch = self.epoch
        call = self._worker.call(work)
        if not await finished(call, DISK_SECONDS):
            self._abandon(call)
            await self._fail(f"no answer in {DISK_SECONDS:g} s")
            return None, False
        try:
            result = call.result()
        except StoreError as e:
            await self._fail(str(e))
            return None, False
        return result, self.epoch == epoch

    def _abandon(self, call: asyncio.Future[Any]) -> None:
        self._stuck = call
        call.add_done_callback(_forget)

    @property
    def _is_stuck(self) -> bool:
        return self._stuck is not None and not self._stuck.done()

    # -- in memory

    async def _fail(self, why: str) -> None:
        """Go on in memory, with all that the watchdog does not have yet."""
        kept: Sequence[Record] = ()
        unread = self.durable_seq - self.acked_seq
        if unread > 0 and self._memory is None and not self._is_stuck:
            read = partial(self._disk.unacknowledged, self.acked_seq, MEMORY_BYTES // 2)
            call = self._worker.call(read)
            if await finished(call, READ_BACK_SECONDS):
                try:
                    kept, unread = call.result(), 0
                except StoreError as e:
                    logger.warning("events cannot be read back: why=%s", e)
            else:
                self._abandon(call)
        if self._memory is not None:
            return
        records = [record for record in kept if record.seq <= self.durable_seq]
        if unread > 0:
            self.lost_events += unread
            loss = Loss(first_seq=1, last_seq=1, damaged=unread)
            records.append(gap_record(loss, at=self._now(), boot_id=self._boot_id))
        self._begin_in_memory([*records, *self._unsaved], why)

    def _begin_in_memory(self, records: Sequence[Record], why: str) -> None:
        self.epoch = new_epoch()
        self._memory = [renumbered(record, seq) for seq, record in enumerate(records, 1)]
        self.next_seq = len(self._memory) + 1
        self.acked_seq = self.durable_seq = 0
        self.trouble = why
        self._unsaved.clear()
        self._recent.clear()
        self._marks.clear()
        if self._memory:
            self._marks.append((len(self._memory), self._now()))
        self._memory_bytes = 0
        self._bound_memory(sum(record.size for record in self._memory))
        self._has_acknowledged = False
        logger.error("events are kept in memory: epoch=%s why=%s", self.epoch, why)
        self._due = None
        self._plan(RETRY_SECONDS)
        self.on_change()

    def _bound_memory(self, added_bytes: int) -> None:
        self._memory_bytes += added_bytes
        if self._memory is None or self._memory_bytes <= MEMORY_BYTES:
            return
        before = self._memory
        self._memory = thinned(
            before, bytes_max=MEMORY_BYTES * 3 // 4, at=self._now(), boot_id=self._boot_id
        )
        self._memory_bytes = sum(record.size for record in self._memory)
        self.lost_events += events_in(before) - events_in(self._memory)

    async def _restart(self) -> None:
        """Try to write down what is in memory; from then on the disk is used again."""
        if self._is_stuck:
            self._plan(RETRY_SECONDS)
            return
        records = tuple(self._memory or ())
        state = self._state(records)
        call = self._worker.call(partial(self._disk.restart, state))
        if not await finished(call, DISK_SECONDS):
            self._abandon(call)
            self._still_failing(f"no answer in {DISK_SECONDS:g} s")
            return
        try:
            call.result()
        except (StoreError, FolderTaken) as e:
            self._still_failing(str(e))
            return
        self.durable_seq = state.next_seq - 1
        self._unsaved = [r for r in self._memory or () if r.seq > self.durable_seq]
        self._memory = None
        self._recent.extend(records)
        self.trouble = ""
        logger.info("events are on disk again: epoch=%s events=%d", self.epoch, len(records))
        self._is_dirty = True  # the next state need not hold all events once more
        self._plan(0.0)
        self.on_change()

    def _still_failing(self, why: str) -> None:
        if why != self.trouble:
            logger.warning("events are still kept in memory: why=%s", why)
            self.trouble = why
        self._plan(RETRY_SECONDS)


def _batch(records: Iterable[Record]) -> list[Record]:
    chosen: list[Record] = []
    size = 0
    for record in records:
        size += record.size
        if chosen and (len(chosen) >= BATCH_EVENTS or size > BATCH_BYTES):
            break
        chosen.append(record)
    return chosen


def _forget(call: asyncio.Future[Any]) -> None:
    """Take note of how an abandoned call ended, so that asyncio does not complain."""
    if not call.cancelled() and (error := call.exception()) is not None:
        logger.warning("abandoned disk call ended: why=%s", error)
