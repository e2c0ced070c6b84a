"""The agent's folder: state and spool opened together, written together, begun anew together.

Every method blocks, possibly for ever on a sick disk; `Journal` runs them in a thread that it can
abandon.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chipmedic.errors import ChipmedicError, StoreError
from chipmedic_agent.record import Loss, Record, gap_record, renumbered, thinned, time_of
from chipmedic_agent.spool import Spool, new_epoch
from chipmedic_agent.state import AgentState, StateFile

logger = logging.getLogger(__name__)


class FolderTaken(ChipmedicError):
    """Another agent works in this folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What was found in the folder."""

    state: AgentState | None
    replay: tuple[Record, ...] = ()
    """Events of the spool that are not in the state; only a lost state file leaves any."""
    trouble: str = ""
    """Why nothing can be written; empty: it can."""


class Disk:
    """State and spool of one agent."""

    def __init__(
        self, folder: Path, *, starts: Mapping[str, Any], bytes_max: int, boot_id: str
    ) -> None:
        self.spool: Spool | None = None
        self._folder = folder
        self._file = StateFile(folder)
        self._starts = starts
        self._bytes_max = bytes_max
        self._boot_id = boot_id
        self._lock: int | None = None
        self._is_unread = True

    def resize(self, bytes_max: int) -> None:
        """Take over another bound."""
        self._bytes_max = bytes_max
        if self.spool is not None:
            self.spool.bytes_max = bytes_max

    @property
    def _root(self) -> Path:
        return self._folder / "spool"

    def open(self, at: float) -> Opened:
        """Read what an earlier run left, and mend what its end broke.

        Raises:
            FolderTaken: another agent is at work here.
        """
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._take()
        try:
            state = self._file.load(self._starts)
        except StoreError as e:
            return Opened(state=None, trouble=str(e))
        self._is_unread = False
        try:
            self.spool, replay = self._open_spool(state, at)
        except StoreError as e:
            return Opened(state=state, trouble=str(e))
        return Opened(state=state, replay=tuple(replay))

    def commit(self, state: AgentState, records: Sequence[Record]) -> None:
        """Make a step durable: first the state with its outbox, then the spool.

        Raises:
            StoreError: the step may be on the disk or not; `restart` brings both together.
        """
        if self.spool is None:
            raise StoreError(f"{self._root}: not open")
        self._file.save(state)
        self.spool.append(records)

    def restart(self, state: AgentState) -> None:
        """Begin with a new epoch; the state's outbox is all that it holds.

        Raises:
            StoreError: the folder still cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._is_unread and self._file.path.exists():
                self._file.path.replace(self._file.path.with_suffix(".unread"))
        except OSError as e:
            raise StoreError(f"{self._folder}: {e.strerror or e}") from e
        self._is_unread = False
        self._take()
        self._file.save(state)
        self.spool = self._create(state.epoch, state.outbox, state.next_seq)

    def unacknowledged(self, acked_seq: int, bytes_max: int) -> list[Record]:
        """Return what the spool still holds for the watchdog, thinned out to about the bound.

        Raises:
            StoreError: it cannot be read.
        """
        kept: list[Record] = []
        size = 0
        for record in self.spool.records(acked_seq + 1) if self.spool else ():
            kept.append(record)
            size += record.size
            if size > bytes_max:
                kept = thinned(
                    kept, bytes_max=bytes_max // 2, at=time_of(record), boot_id=self._boot_id
                )
                size = sum(one.size for one in kept)
        return kept

    def _take(self) -> None:
        """Lock the folder; where nothing can be written there is nothing to be guarded."""
        if self._lock is not None:
            return
        try:
            descriptor = os.open(
                self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(descriptor)
            raise FolderTaken(
                f"state_directory: {self._folder} is in use by another agent; stop it, or set "
                "another state_directory"
            ) from e
        self._lock = descriptor

    def _create(self, epoch: str, records: Sequence[Record], next_seq: int) -> Spool:
        return Spool.create(
            self._root,
            epoch,
            records,
            first_seq=next_seq,
            bytes_max=self._bytes_max,
            boot_id=self._boot_id,
        )

    def _open_spool(self, state: AgentState | None, at: float) -> tuple[Spool, list[Record]]:
        """Open the spool and bring it together with the state; return what must be replayed."""
        spool = Spool.open(self._root, bytes_max=self._bytes_max, boot_id=self._boot_id, at=at)
        if state is None:
            spool = spool or self._create(new_epoch(), (), 1)
            return spool, list(spool.records())
        if spool is not None and spool.epoch == state.epoch:
            spool.append(self._missing(state, spool.next_seq, at))
            return spool, list(spool.records(state.next_seq))
        if state.is_outbox_whole:
            return self._create(state.epoch, state.outbox, state.next_seq), []
        logger.error("spool lost: folder=%s epoch=%s; a new epoch begins", self._root, state.epoch)
        lost = state.next_seq - 1 - state.acked_seq - len(state.outbox)
        records = [renumbered(record, 2 + i) for i, record in enumerate(state.outbox)]
        loss = Loss(first_seq=1, last_seq=1, damaged=max(lost, 0))
        records.insert(0, gap_record(loss, at=at, boot_id=self._boot_id))
        return self._create(new_epoch(), records, 1), []

    def _missing(self, state: AgentState, next_seq: int, at: float) -> list[Record]:
        """Return what the state knows of and the spool lacks; what is lost of it as a report."""
        missing = [record for record in state.outbox if record.seq >= next_seq]
        until = missing[0].seq if missing else state.next_seq
        if next_seq < until:
            loss = Loss(first_seq=next_seq, last_seq=until - 1, damaged=until - next_seq)
            missing.insert(0, gap_record(loss, at=at, boot_id=self._boot_id))
        return missing
