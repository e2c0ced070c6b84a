"""The interface of a detector: a pure state machine from scans to changes of faults.

A detector knows no I/O, no clock, no log and no hidden state, so a recorded night replays. Its
state is a frozen dataclass (of plain values, tuples and dicts), saved by the agent, so a restart
neither forgets nor repeats.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from chipmedic.model import Change, Scan

State = TypeVar("State")


class Detector(Protocol[State]):
    """Scans in, changes out."""

    @property
    def name(self) -> str:
        """The key under which the state is saved."""
        ...

    def start(self) -> State:
        """Return the state before the first scan."""
        ...

    def step(self, state: State, scan: Scan) -> tuple[State, list[Change]]:
        """Return the next state and what changed. A component without a reading keeps its state."""
        ...
