"""Events on disk until the watchdog has them: segments of framed records in order of numbers.

    spool/epoch                      the name of the current epoch
    spool/<epoch>/<first seq>.seg    segments; the last one is appended to, also when it is empty

What `append` returned from survives kill -9 and power loss. A torn tail is cut; damage elsewhere
costs the records that it hit and is reported by a gap event in their place. Above the byte bound
the oldest segments are thinned out: repeats and infos first, then warnings (a snapshot tells them
again), then transitions that a later one of the same fault outdates. The last word on a critical
fault always stays, even above the bound.

Every method blocks and may raise StoreError; the caller runs them in one thread.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chipmedic.errors import StoreError
from chipmedic_agent.record import (
    LADDER,
    Loss,
    Rank,
    Record,
    frame,
    gap_record,
    loss_of,
    parse,
    superseded,
    time_of,
    without,
)

SEGMENT_BYTES = 524288
LOW_WATER_RATIO = 0.9
"""An overflow thins out down to this share of the bound, so that not every append thins again."""


def new_epoch() -> str:
    """Draw the name of an epoch."""
    return secrets.token_hex(8)


@dataclass(slots=True)
class Segment:
    """One file of records."""

    path: Path
    first_seq: int
    """By its name: no record in it is lower."""
    last_seq: int
    """`first_seq - 1` while it is empty."""
    size: int = 0
    ranks: Counter[Rank] = field(default_factory=Counter)


class Spool:
    """The events of one epoch."""

    def __init__(
        self, folder: Path, epoch: str, segments: list[Segment], *, bytes_max: int, boot_id: str
    ) -> None:
        self.epoch = epoch
        self.bytes_max = bytes_max
        self.lost_events = 0
        """Since this object was made."""
        self._folder = folder
        self._segments = segments
        self._boot_id = boot_id
        self._cache: tuple[Path, int, tuple[Record, ...]] | None = None
        self._gave_up_at_bytes = 0

    # -- opening

    @classmethod
    def create(
        cls,
        root: Path,
        epoch: str,
        records: Sequence[Record] = (),
        *,
        first_seq: int = 1,
        bytes_max: int,
        boot_id: str,
    ) -> Spool:
        """Make the spool of an epoch with these records in it, then let go of the one before.

        `first_seq` is the number to begin with where there are no records.
        """
        with _store_errors(root):
            folder = root / epoch
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            segment = _new_segment(folder, records[0].seq if records else first_seq)
            spool = cls(folder, epoch, [segment], bytes_max=bytes_max, boot_id=boot_id)
            spool.append(records)
            write_whole(root / "epoch", epoch.encode())
            for old in root.iterdir():
                if old.is_dir() and old != folder:
                    shutil.rmtree(old, ignore_errors=True)
        return spool

    @classmethod
    def open(cls, root: Path, *, bytes_max: int, boot_id: str, at: float) -> Spool | None:
        """Open the spool that is there and mend it; None: there is none."""
        with _store_errors(root):
            try:
                epoch = (root / "epoch").read_text(encoding="ascii").strip()
            except (FileNotFoundError, UnicodeDecodeError):
                return None
            found = (root / epoch).glob("*.seg") if epoch else ()
            paths = sorted(path for path in found if path.stem.isdecimal())
            if not paths:
                return None
            spool = cls(root / epoch, epoch, [], bytes_max=bytes_max, boot_id=boot_id)
            for path in paths:
                spool._adopt(path, at)
        return spool

    def _adopt(self, path: Path, at: float) -> None:
        """Take in a segment that was found, mended where it is broken."""
        data = path.read_bytes()
        parsed = parse(data)
        segment = Segment(path, int(path.stem), int(path.stem) - 1)
        _count(segment, parsed.records)
        if parsed.good_bytes < len(data) and not parsed.is_damaged:
            os.truncate(path, parsed.good_bytes)
        segment.size = parsed.good_bytes
        self._report_hole_before(segment, at)
        self._segments.append(segment)
        if parsed.is_damaged:
            mended = _with_gaps(parsed.records, segment.first_seq, at, self._boot_id)
            self._rewrite(segment, mended)

    def _report_hole_before(self, segment: Segment, at: float) -> None:
        """Where the end of the segment before this one is gone, say so at its end."""
        if not self._segments:
            return
        before = self._segments[-1]
        if before.last_seq < segment.first_seq - 1:
            damaged = segment.first_seq - 1 - before.last_seq
            loss = Loss(
                first_seq=before.last_seq + 1, last_seq=segment.first_seq - 1, damaged=damaged
            )
            self._write(before, [gap_record(loss, at=at, boot_id=self._boot_id)])
            self.lost_events += damaged

    # -- what is in it

    @property
    def first_seq(self) -> int:
        """The lowest number that may still be held."""
        return self._segments[0].first_seq

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return self._segments[-1].last_seq + 1

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in list(self._segments))

    def records(self, from_seq: int = 0) -> Iterator[Record]:
        """Yield what is held, in order."""
        with _store_errors(self._folder):
            for segment in list(self._segments):
                if segment.last_seq >= from_seq:
                    yield from (r for r in self._load(segment) if r.seq >= from_seq)

    def read(self, from_seq: int, *, count_max: int, bytes_max: int) -> list[Record]:
        """Return the records from a number on, at least one where there is one."""
        chosen: list[Record] = []
        size = 0
        for record in self.records(from_seq):
            size += record.size
            if chosen and (len(chosen) >= count_max or size > bytes_max):
                break
            chosen.append(record)
        return chosen

    # -- writing

    def append(self, records: Sequence[Record]) -> None:
        """Write records and wait until they are on the disk; all of them or none."""
        if not records:
            return
        with _store_errors(self._folder):
            if self._segments[-1].size >= SEGMENT_BYTES:
                self._segments.append(_new_segment(self._folder, records[0].seq))
            self._write(self._segments[-1], records)
            if self.size_bytes > self.bytes_max:
                # On a full disk there may be no room for the thinner copy: the records are safe.
                with contextlib.suppress(OSError):
                    self._thin(records[-1], self.bytes_max * LOW_WATER_RATIO)

    def acknowledge(self, seq: int) -> None:
        """Delete the segments that hold nothing above a number."""
        with _store_errors(self._folder):
            last = self._segments[-1]
            if last.last_seq <= seq and last.size >= SEGMENT_BYTES // 8:
                self._segments.append(_new_segment(self._folder, last.last_seq + 1))
            while len(self._segments) > 1 and self._segments[0].last_seq <= seq:
                gone = self._segments.pop(0)
                gone.path.unlink(missing_ok=True)
                self._gave_up_at_bytes = 0

    def _write(self, segment: Segment, records: Sequence[Record]) -> None:
        data = b"".join(map(frame, records))
        with segment.path.open("r+b", buffering=0) as file:
            file.seek(segment.size)
            try:
                _write_all(file.fileno(), data)
                os.fdatasync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(segment.size)
                raise
        segment.size += len(data)
        _count(segment, records)

    def _load(self, segment: Segment) -> tuple[Record, ...]:
        """Return the records of a segment; the last one asked for is kept in memory."""
        if self._cache is not None and self._cache[:2] == (segment.path, segment.size):
            return self._cache[2]
        records = parse(segment.path.read_bytes()[: segment.size]).records
        self._cache = (segment.path, segment.size, records)
        return records

    # -- overflow

    def _thin(self, newest: Record, target_bytes: float) -> None:
        """Drop what matters least, oldest first, until the target is met or nothing may go."""
        at = time_of(newest)
        for step in LADDER:
            for segment in self._segments[:-1]:
                if self.size_bytes <= target_bytes:
                    return
                if any(segment.ranks[rank] for rank in step):
                    self._drop(segment, {r.seq for r in self._load(segment) if r.rank in step}, at)
        if self.size_bytes < self._gave_up_at_bytes + SEGMENT_BYTES:
            return
        outdated = set(superseded(self.records()))
        for segment in self._segments[:-1]:
            if self.size_bytes <= target_bytes:
                return
            self._drop(segment, outdated, at)
        self._gave_up_at_bytes = self.size_bytes

    def _drop(self, segment: Segment, numbers: set[int], at: float) -> None:
        records = self._load(segment)
        kept = without(records, lambda r: r.seq in numbers, at=at, boot_id=self._boot_id)
        if len(kept) < len(records):
            self._rewrite(segment, kept)
            self.lost_events += sum(1 for r in records if r.seq in numbers)

    def _rewrite(self, segment: Segment, records: Sequence[Record]) -> None:
        data = b"".join(map(frame, records))
        write_whole(segment.path, data)
        segment.size = len(data)
        segment.ranks.clear()
        _count(segment, records)
        self._cache = None


def _with_gaps(records: Sequence[Record], first_seq: int, at: float, boot_id: str) -> list[Record]:
    """Put a report before each record whose predecessors cannot be read, unless one is there."""
    told = [loss_of(record) for record in records if record.rank is Rank.GAP]
    mended: list[Record] = []
    expected = first_seq
    for record in records:
        is_told = any(loss.first_seq <= expected <= loss.last_seq for loss in told)
        if record.seq > expected and not is_told:
            loss = Loss(first_seq=expected, last_seq=record.seq - 1, damaged=record.seq - expected)
            mended.append(gap_record(loss, at=at, boot_id=boot_id))
        mended.append(record)
        expected = record.seq + 1
    return mended


def _count(segment: Segment, records: Iterable[Record]) -> None:
    for record in records:
        segment.ranks[record.rank] += 1
        segment.last_seq = max(segment.last_seq, record.seq)


def _new_segment(folder: Path, first_seq: int) -> Segment:
    path = folder / f"{first_seq:020d}.seg"
    path.touch()
    _sync_folder(folder)
    return Segment(path, first_seq, first_seq - 1)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file so that either the old or the new one is there after a crash."""
    draft = path.with_suffix(path.suffix + ".new")
    with draft.open("wb", buffering=0) as file:
        _write_all(file.fileno(), data)
        os.fsync(file.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _store_errors(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise StoreError(f"{where}: {e.strerror or e}") from e
