"""What waits to be committed, in the order in which it came."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from chipmedic.model import Chip
from chipmedic_watchdog.intake.message import Batch, ReceivedHeartbeat, ReceivedSnapshot

Inventory = tuple[tuple[Chip, bool], ...]
"""Chips, each with whether it is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """An agent's hello, checked."""

    machine_id: str
    boot_id: str
    boot_time: float
    agent_version: str
    labels: dict[str, str]
    inventory: Inventory
    first_seq: int
    next_seq: int


@dataclass(frozen=True, slots=True)
class StateChange:
    """The node's stream began, ended or was said goodbye to."""

    state: str
    """`silent`, `stopped` or `unknown`."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Silence:
    """The verdict: a node is unreachable."""

    since: float
    reason: str


@dataclass(frozen=True, slots=True)
class Expiry:
    """A fault that the watchdog itself raised ends by its age."""

    kind: str


Body = Greeting | Batch | ReceivedHeartbeat | ReceivedSnapshot | StateChange | Silence | Expiry


@dataclass(slots=True, kw_only=True)
class Arrival:
    """One thing that a node said, or that the watchdog found out about it."""

    node: str
    epoch: str = ""
    stream: str = ""
    """Id of the stream that it came by, or that is gone; of an older one than the node's newest
    the end is no news."""
    received_at: float
    body: Body
    queued_at: float = 0.0
    """Monotonic, for the time to durability."""
    done: asyncio.Future[int] | None = field(default=None, repr=False)
    """Set to the epoch's acknowledged seq when this is durable."""

    @property
    def weight(self) -> int:
        """How many events it counts for in a group."""
        match self.body:
            case Batch(events):
                return max(1, len(events))
            case ReceivedSnapshot():
                return max(1, len(self.body.open), self._rows(self.body.beat))
            case ReceivedHeartbeat():
                return max(1, self._rows(self.body))
        return 1

    @staticmethod
    def _rows(beat: ReceivedHeartbeat) -> int:
        return (len(beat.coverage) + len(beat.jobs)) // 16
