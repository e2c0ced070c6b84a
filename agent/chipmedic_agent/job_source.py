"""The jobs of this node as one more source for the scanner."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Self

from chipmedic.collector import Collector
from chipmedic.host import Host
from chipmedic.model import ChipProcess, Scan
from chipmedic_agent.jobs import JobTracker

JOBS = "jobs"


class JobSource(Collector):
    """Hands the processes that collectors saw to the tracker, and its scan to the scanner."""

    vendor = "host"
    period_seconds = 2.0
    deadline_seconds = 10.0

    def __init__(
        self,
        tracker: JobTracker,
        processes: Callable[[float], Iterable[ChipProcess]],
        now: Callable[[], float],
    ) -> None:
        self._tracker = tracker
        self._processes = processes
        self._now = now

    @classmethod
    def discover(cls, host: Host) -> Self | None:
        """See `Collector.discover`; the daemon makes this one itself."""
        del host
        return None

    def scan(self) -> Scan:
        """See `Collector.scan`."""
        now = self._now()
        self._tracker.observe(self._processes(now), now)
        return self._tracker.scan(now)
