"""The interface that a vendor implements, and through which the agent reads everything.

A third party publishes its class as an entry point of the group `chipmedic.collectors`; the name
of the entry point is the collector's source name. Failure, slowness, timing and metrics of a scan
belong to the agent's scanner, never to the author of a collector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from chipmedic.host import Host
from chipmedic.model import Scan


@dataclass(frozen=True, slots=True)
class CallTiming:
    """What one call of a library has cost so far."""

    calls: int
    total_microseconds: int
    slowest_microseconds: int


class Collector(ABC):
    """Asks one source (a vendor's library or tool, the kernel log, sysfs) and returns scans."""

    vendor: ClassVar[str]
    """The vendor of the chips that it reports, or `host`."""
    period_seconds: ClassVar[float] = 5.0
    """How often `scan` is called unless the configuration says otherwise. Slower calls inside one
    collector are spaced by the collector itself with `host.now()`."""
    deadline_seconds: ClassVar[float] = 10.0
    """When a scan that has not returned is given up and reported as `collector.blocked`. It is not
    started a second time while the first is stuck."""

    @classmethod
    @abstractmethod
    def discover(cls, host: Host) -> Self | None:
        """Return a collector if this source is here, else None. Quick; changes nothing.

        Hardware that is here with a broken driver or tool is *here*: return a collector whose scans
        say so. None means that no chip of this vendor is in the machine.
        """

    @abstractmethod
    def scan(self) -> Scan:
        """Return what can be seen now; blocks. What cannot be read is a `Gap`.

        Raises:
            CollectError: nothing at all is known this time.
        """

    def wake_fd(self) -> int | None:
        """Return a descriptor that turns readable when there is something to scan at once, or None.

        The scanner waits on it beside the period, so a pushed source (kernel log, event set) is
        seen without delay. Asked again after every scan.
        """
        return None

    def resume(self, cursor: str) -> None:
        """Go on from the cursor of an earlier run; called once, before the first scan."""
        del cursor

    def cursor(self) -> str | None:
        """Return how far this source has been read, to be saved with the faults that came of it."""
        return None

    def timings(self) -> Mapping[str, CallTiming]:
        """Return what each call of a library has cost, by name, for `chipmedic doctor --timing`.

        Tools and files that go through `Host` are measured there.

        Raises:
            CollectError: the library does not answer.
        """
        return {}

    def close(self) -> None:  # noqa: B027 - most collectors hold nothing open
        """Let go of what `discover` or `scan` opened; never blocks."""
