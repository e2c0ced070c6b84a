"""One event as the spool keeps it: numbered, framed, checked, and ranked for the day of overflow.

A frame is a mark, the length of the payload, a CRC-32 over the rest, seq, rank, key, payload;
integers are little-endian. The payload is the encoded `chipmedic.v1.Event` exactly as it goes on
the wire.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial

from chipmedic.model import Change, Cleared, Raised, Severity, Updated
from chipmedic_proto.codec import change_to_message
from chipmedic_proto.v1 import chipmedic_pb2 as pb

MARK = b"\xc5CM\x01"
_HEAD = struct.Struct("<4sII")
_BODY = struct.Struct("<QBQ")
FRAME_BYTES = _HEAD.size + _BODY.size
PAYLOAD_MAX = 1048576
"""No event is larger: the codec bounds every text."""


class Rank(IntEnum):
    """What an overflow may do with an event; the lowest goes first."""

    REPEAT = 0
    INFO = 1
    WARNING = 2
    """Raised, not critical: the next snapshot tells it again while it lasts."""
    CRITICAL = 3
    """Goes only when a later transition of the same fault is held."""
    CLEARED = 4
    """As CRITICAL."""
    GAP = 5
    """The report of a loss; merged with others, never dropped."""


@dataclass(frozen=True, slots=True)
class Record:
    """One numbered event."""

    seq: int
    rank: Rank
    key: int
    """Hash of (component, kind): equal for the transitions of one fault."""
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return FRAME_BYTES + len(self.payload)


def record_of(change: Change, *, seq: int, at: float, boot_id: str) -> Record:
    """Encode one transition of a fault."""
    message = change_to_message(change, seq=seq, at=at, boot_id=boot_id)
    fault = change.fault
    name = f"{fault.component}\n{fault.kind}".encode()
    key = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
    return Record(seq, _rank(change), key, message.SerializeToString())


def _rank(change: Change) -> Rank:
    match change:
        case Updated():
            return Rank.REPEAT
        case Cleared(fault):
            return Rank.INFO if fault.severity is Severity.INFO else Rank.CLEARED
        case Raised(fault):
            ranks = {Severity.INFO: Rank.INFO, Severity.WARNING: Rank.WARNING}
            return ranks.get(fault.severity, Rank.CRITICAL)


def time_of(record: Record) -> float:
    """Return when the event happened."""
    return pb.Event.FromString(record.payload).at


def renumbered(record: Record, seq: int) -> Record:
    """Return the same event under another number, for another epoch."""
    message = pb.Event.FromString(record.payload)
    message.seq = seq
    if record.rank is Rank.GAP:  # its range is of numbers that mean nothing in another epoch
        message.detail = str(replace(Loss.parse(message.detail), first_seq=seq, last_seq=seq))
    return Record(seq, record.rank, record.key, message.SerializeToString())


# -- frames


def frame(record: Record) -> bytes:
    """Return a record as it lies in a segment."""
    body = _BODY.pack(record.seq, record.rank, record.key) + record.payload
    return _HEAD.pack(MARK, len(record.payload), zlib.crc32(body)) + body


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a segment holds."""

    records: tuple[Record, ...]
    good_bytes: int
    """Where the last whole record ends; what follows is torn."""
    is_damaged: bool
    """Whether something between whole records could not be read."""


def parse(data: bytes) -> Parsed:
    """Read a segment; damage costs only what it hit."""
    records: list[Record] = []
    at = good = 0
    is_damaged = False
    while (at := data.find(MARK, at)) >= 0:
        record = _record_at(data, at)
        if record is None or (records and record.seq <= records[-1].seq):
            at += 1
            continue
        is_damaged = is_damaged or at != good
        records.append(record)
        at = good = at + record.size
    return Parsed(tuple(records), good, is_damaged)


def _record_at(data: bytes, at: int) -> Record | None:
    if at + FRAME_BYTES > len(data):
        return None
    _, length, checksum = _HEAD.unpack_from(data, at)
    start, end = at + _HEAD.size, at + FRAME_BYTES + length
    if length > PAYLOAD_MAX or end > len(data) or zlib.crc32(data[start:end]) != checksum:
        return None
    seq, rank, key = _BODY.unpack_from(data, start)
    if rank > Rank.GAP:
        return None
    return Record(seq, Rank(rank), key, data[start + _BODY.size : end])


# -- losses


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """How many events were lost among the numbers `first_seq` to `last_seq`, and why."""

    first_seq: int
    last_seq: int
    repeats: int = 0
    infos: int = 0
    warnings: int = 0
    superseded: int = 0
    """Transitions of faults whose later transition is held."""
    damaged: int = 0
    """Not readable any more; of what sort they were is not known."""

    @property
    def count(self) -> int:
        """All of them."""
        return self.repeats + self.infos + self.warnings + self.superseded + self.damaged

    def __str__(self) -> str:
        parts = (
            f"{name}={getattr(self, name)}"
            for name in ("repeats", "infos", "warnings", "superseded", "damaged")
            if getattr(self, name)
        )
        return f"lost={self.count} seq={self.first_seq}-{self.last_seq} " + " ".join(parts)

    @classmethod
    def parse(cls, text: str) -> Loss:
        """Read what `str()` wrote.

        Raises:
            ValueError: it is something else.
        """
        words = dict(word.partition("=")[::2] for word in text.split())
        first, _, last = words.pop("seq", "").partition("-")
        words.pop("lost", None)
        known = {"repeats", "infos", "warnings", "superseded", "damaged"}
        if not words.keys() <= known:
            raise ValueError(f"{text!r} is no report of a loss")
        counts = {name: int(value) for name, value in words.items()}
        return cls(first_seq=int(first), last_seq=int(last), **counts)

    def __add__(self, other: Loss) -> Loss:
        return Loss(
            first_seq=min(self.first_seq, other.first_seq),
            last_seq=max(self.last_seq, other.last_seq),
            repeats=self.repeats + other.repeats,
            infos=self.infos + other.infos,
            warnings=self.warnings + other.warnings,
            superseded=self.superseded + other.superseded,
            damaged=self.damaged + other.damaged,
        )


def gap_record(loss: Loss, *, at: float, boot_id: str) -> Record:
    """Return the event that reports a loss; its number is the last one that was lost."""
    message = pb.Event(
        seq=loss.last_seq,
        at=at,
        transition=pb.TRANSITION_GAP,
        detail=str(loss),
        boot_id=boot_id,
    )
    return Record(loss.last_seq, Rank.GAP, 0, message.SerializeToString())


def loss_of(record: Record) -> Loss:
    """Return a record as a loss of one; a gap as the loss that it reported."""
    one = {
        Rank.REPEAT: "repeats",
        Rank.INFO: "infos",
        Rank.WARNING: "warnings",
        Rank.CRITICAL: "superseded",
        Rank.CLEARED: "superseded",
    }
    if record.rank is Rank.GAP:
        return Loss.parse(pb.Event.FromString(record.payload).detail)
    return Loss(first_seq=record.seq, last_seq=record.seq, **{one[record.rank]: 1})


def without(
    records: Iterable[Record], is_dropped: Callable[[Record], bool], *, at: float, boot_id: str
) -> list[Record]:
    """Drop records and put one report of all losses where the last of them was."""
    kept: list[Record] = []
    loss: Loss | None = None
    for record in records:
        if record.rank is Rank.GAP or is_dropped(record):
            one = loss_of(record)
            loss = one if loss is None else loss + one
        else:
            kept.append(record)
    if loss is not None:
        kept.append(gap_record(loss, at=at, boot_id=boot_id))
        kept.sort(key=lambda record: record.seq)
    return kept


def events_in(records: Iterable[Record]) -> int:
    """Count the records that are no reports of a loss."""
    return sum(1 for record in records if record.rank is not Rank.GAP)


LADDER = (frozenset({Rank.REPEAT, Rank.INFO}), frozenset({Rank.WARNING}))
"""What an overflow drops, one step after the other; its last step drops what is superseded."""


def thinned(records: list[Record], *, bytes_max: int, at: float, boot_id: str) -> list[Record]:
    """Drop what matters least until the rest fits; the last word on a critical fault stays."""
    for step in LADDER:
        if _size(records) <= bytes_max:
            return records
        records = without(records, partial(_is_one_of, step), at=at, boot_id=boot_id)
    if _size(records) <= bytes_max:
        return records
    outdated = set(superseded(records))
    return without(records, lambda r: r.seq in outdated, at=at, boot_id=boot_id)


def _size(records: Iterable[Record]) -> int:
    return sum(record.size for record in records)


def _is_one_of(ranks: frozenset[Rank], record: Record) -> bool:
    return record.rank in ranks


def superseded(records: Iterable[Record]) -> Iterator[int]:
    """Yield the numbers of transitions that a later one of the same fault outdates."""
    last: dict[int, int] = {}
    for record in records:
        if record.rank in (Rank.GAP, Rank.REPEAT):
            continue
        if record.key in last:
            yield last[record.key]
        last[record.key] = record.seq
