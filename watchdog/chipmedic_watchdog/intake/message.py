"""Bytes from an agent → what they say; whatever cannot be read is said, and costs only itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from chipmedic.model import Chip, Cleared, Coverage, Fault, JobStatus, Raised, Updated
from chipmedic_proto import codec
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.intake import wire

BATCH_MAX_EVENTS = 512
BATCH_MAX_BYTES = 1 << 20
MESSAGE_MAX_BYTES = 4 << 20
INTEGER_MAX = (1 << 63) - 1
"""The largest integer that the store holds."""
DETAIL_MAX = 4096
CHECKS_MAX, JOBS_MAX, CHIPS_MAX, FAULTS_MAX = 256, 1024, 1024, 4096
"""Of one message; what is beyond is not read, and absence proves nothing then."""

_EVENTS_FIELD, _EVENT_FIELD, _SEQ_FIELD = 2, 1, 1
Item = TypeVar("Item")
Message = TypeVar("Message")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEvent:
    """One numbered event; `fault` is None where there is none or it cannot be read."""

    seq: int
    at: float
    transition: str
    """`raised`, `updated`, `cleared`, `gap` or `unreadable`."""
    boot_id: str = ""
    fault: Fault | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedHeartbeat:
    """A heartbeat, or the part of a snapshot that says the same."""

    at: float
    coverage: tuple[Coverage, ...]
    jobs: tuple[JobStatus, ...]
    is_whole: bool
    """False: something in it could not be read, so what is absent proves nothing."""
    backlog_events: int = 0
    is_spool_failing: bool = False
    job_names: frozenset[str] | None = None
    """All jobs of the node, where that is news; the others there have gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSnapshot:
    """All open faults of a node."""

    at: float
    as_of_seq: int
    open: tuple[Fault, ...]
    inventory: tuple[tuple[Chip, bool], ...]
    beat: ReceivedHeartbeat
    is_whole: bool
    """False: a fault in it could not be read, so absence proves nothing."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message of which nothing can be used, and why."""

    problem: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of one message, ascending; `lost` counts those without even a number."""

    events: tuple[ReceivedEvent, ...]
    lost: int = 0
    size_bytes: int = 0
    problems: tuple[str, ...] = field(default=())


def parse(data: bytes) -> pb.AgentMessage | Batch | Unreadable:
    """Read a message; a damaged batch comes back as the events that can be told apart."""
    try:
        return pb.AgentMessage.FromString(data)
    except DecodeError as e:
        problem = f"not a message: {e}"
    batches = wire.parts(data, _EVENTS_FIELD)
    pieces = [piece for batch in batches for piece in wire.parts(batch, _EVENT_FIELD)]
    if not pieces:
        return Unreadable(problem)
    return _batch((_event_of_piece(piece) for piece in pieces), len(data))


def batch(message: pb.EventBatch, size_bytes: int) -> Batch:
    """Read a batch that the library could decode."""
    return _batch(map(_event, message.events), size_bytes)


def _batch(events: Iterable[ReceivedEvent], size_bytes: int) -> Batch:
    found = list(events)
    numbered = [event for event in found if 1 <= event.seq <= INTEGER_MAX]
    return Batch(
        # The contract says ascending; a sender that breaks it must still not be read out of order.
        tuple(sorted(numbered, key=lambda event: event.seq)),
        lost=len(found) - len(numbered),
        size_bytes=size_bytes,
        problems=tuple(event.detail for event in found if event.transition == "unreadable")[:4],
    )


def _event_of_piece(piece: bytes) -> ReceivedEvent:
    try:
        return _event(pb.Event.FromString(piece))
    except DecodeError as e:
        seq = wire.first_integer(piece, _SEQ_FIELD) or 0
        return ReceivedEvent(
            seq=seq, at=0.0, transition="unreadable", detail=f"not an event: {e}"[:DETAIL_MAX]
        )


def _event(message: pb.Event) -> ReceivedEvent:
    boot_id = message.boot_id[:64].replace("\0", "\ufffd")
    detail = message.detail[:DETAIL_MAX].replace("\0", "\ufffd")
    fault: Fault | None = None
    try:
        change = codec.change_from_message(message)
    except ValueError as e:
        at = message.at if 0 <= message.at < math.inf else 0.0
        return ReceivedEvent(
            seq=message.seq, at=at, transition="unreadable", boot_id=boot_id, detail=str(e)
        )
    match change:
        case Raised(fault):
            transition = "raised"
        case Updated(fault):
            transition = "updated"
        case Cleared(fault, _, detail):
            transition = "cleared"
        case None:
            transition = "gap"
            if message.transition != pb.TRANSITION_GAP:
                transition = "unreadable"
                detail = f"transition {message.transition} is not known here: {detail}"
    return ReceivedEvent(
        seq=message.seq,
        at=message.at,
        transition=transition,
        boot_id=boot_id,
        fault=None if fault is None else _own_source(fault),
        detail=detail,
    )


def _own_source(fault: Fault) -> Fault:
    """Keep an agent from speaking as the watchdog, whose faults no snapshot may touch."""
    if fault.source != "watchdog":
        return fault
    return replace(fault, source="agent")


def heartbeat(message: pb.Heartbeat) -> ReceivedHeartbeat:
    """Read a heartbeat.

    Raises:
        ValueError: its time is none.
    """
    return _beat(
        message,
        backlog_events=min(message.backlog_events, INTEGER_MAX),
        is_spool_failing=message.is_spool_failing,
    )


def _beat(message: Any, **rest: Any) -> ReceivedHeartbeat:
    if not math.isfinite(message.at) or message.at < 0:
        raise ValueError(f"at: {message.at} is no time")
    coverage, is_whole_coverage = _readable(
        message.coverage, codec.coverage_from_message, CHECKS_MAX
    )
    jobs, is_whole_jobs = _readable(message.jobs, codec.job_from_message, JOBS_MAX)
    return ReceivedHeartbeat(
        at=message.at,
        coverage=coverage,
        jobs=jobs,
        is_whole=is_whole_coverage and is_whole_jobs,
        job_names=frozenset(job.job for job in jobs) if is_whole_jobs else None,
        **rest,
    )


def snapshot(message: pb.Snapshot) -> ReceivedSnapshot:
    """Read a snapshot.

    Raises:
        ValueError: its time is none.
    """
    faults, is_whole = _readable(message.open, codec.fault_from_message, FAULTS_MAX)
    inventory, _ = _readable(message.inventory, _chip, CHIPS_MAX)
    return ReceivedSnapshot(
        at=message.at,
        as_of_seq=min(message.as_of_seq, INTEGER_MAX),
        open=tuple(map(_own_source, faults)),
        inventory=inventory,
        beat=_beat(message),
        is_whole=is_whole,
    )


def inventory(message: pb.Hello) -> tuple[tuple[Chip, bool], ...]:
    """Read the chips of a hello: (chip, is it missing)."""
    return _readable(message.inventory, _chip, CHIPS_MAX)[0]


def _chip(message: pb.Chip) -> tuple[Chip, bool]:
    return codec.chip_from_message(message), message.is_missing


def _readable(
    messages: Sequence[Message], read: Callable[[Message], Item], most: int
) -> tuple[tuple[Item, ...], bool]:
    """Return what can be read of the first `most`, and whether that is all of it."""
    found: list[Item] = []
    is_whole = len(messages) <= most
    for message in messages[:most]:
        try:
            found.append(read(message))
        except ValueError:
            is_whole = False
    return tuple(found), is_whole
