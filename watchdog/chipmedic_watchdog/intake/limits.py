"""What one node may send, kept over its streams: to connect anew refills nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc

from chipmedic.address import is_loopback
from chipmedic_watchdog.config import StreamSettings
from chipmedic_watchdog.intake.bucket import Bucket
from chipmedic_watchdog.intake.refusals import Refused

BYTES_PER_SECOND, BYTES_BURST = 1 << 20, 128 << 20
"""A whole spool (64 MiB) and more at once; sustained a hundred times what a sick node sends."""
HELLOS_PER_SECOND, HELLOS_BURST = 0.2, 30
JOBS_PER_SECOND, JOBS_BURST = 0.5, 2048
"""Jobs that a node has not told of before."""
CHECKS_MAX = 256
"""Different checks of a node; each is a row of the store for ever."""
NODES_MAX, ADDRESSES_MAX = 50_000, 10_000
STREAMS_OF_NAME = 8
"""Of a certificate. One is enough; a broken network leaves some behind that have not ended yet."""
LINE_SECONDS = 60.0


@dataclass(slots=True)
class NodeLimits:
    """The limits of one node."""

    events: Bucket
    size_bytes: Bucket
    hellos: Bucket
    jobs: Bucket
    checks: set[str] = field(default_factory=set)

    def knows_check(self, name: str) -> bool:
        """Whether a check is known or may become so."""
        if name not in self.checks and len(self.checks) >= CHECKS_MAX:
            return False
        self.checks.add(name)
        return True


@dataclass(slots=True)
class Lines:
    """Says a trouble of an address when it begins, and then once a minute with how often."""

    _told: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)

    def take(self, address: str, reason: str) -> int | None:
        """Return how often it was held back since the last line; None: hold it back, too."""
        now = time.monotonic()
        told_at, count = self._told.pop((address, reason), (-LINE_SECONDS, 0))
        is_due = now - told_at >= LINE_SECONDS
        self._told[address, reason] = (now, 0) if is_due else (told_at, count + 1)
        while len(self._told) > ADDRESSES_MAX:
            del self._told[next(iter(self._told))]
        return count if is_due else None


@dataclass(slots=True)
class Limits:
    """Those of all nodes, and of the addresses from which they come."""

    _nodes: dict[str, NodeLimits] = field(default_factory=dict)
    _streams: Counter[str] = field(default_factory=Counter)
    _certificates: Counter[str] = field(default_factory=Counter)
    lines: Lines = field(default_factory=Lines)

    def of(self, node: str, settings: StreamSettings) -> NodeLimits:
        """Return the limits of a node; the ones that were asked for longest ago are forgotten."""
        found = self._nodes.pop(node, None)
        if found is None:
            now = time.monotonic()
            found = NodeLimits(
                events=Bucket(settings.events_per_second, settings.events_burst, now),
                size_bytes=Bucket(BYTES_PER_SECOND, BYTES_BURST, now),
                hellos=Bucket(HELLOS_PER_SECOND, HELLOS_BURST, now),
                jobs=Bucket(JOBS_PER_SECOND, JOBS_BURST, now),
            )
            while len(self._nodes) >= NODES_MAX:
                del self._nodes[next(iter(self._nodes))]
        self._nodes[node] = found
        return found

    def greet(self, node: str, settings: StreamSettings) -> NodeLimits:
        """Take one hello of a node.

        Raises:
            Refused: it opens streams too often.
        """
        limits = self.of(node, settings)
        wait_seconds = limits.hellos.take(1, time.monotonic())
        if wait_seconds:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "hello_flood",
                f"{node} opens streams too often: come back in {wait_seconds:.0f} s",
            )
        return limits

    def enter(self, peer: str, settings: StreamSettings) -> None:
        """Count a stream of an address.

        Raises:
            Refused: it has too many.
        """
        address = host_of(peer)
        if self._streams[address] >= settings.streams_per_address and not is_loopback(address):
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "too_many_streams",
                f"{address} has {self._streams[address]} streams already "
                "(stream.streams_per_address)",
            )
        self._streams[address] += 1

    def leave(self, peer: str) -> None:
        """Count that a stream has ended."""
        _less(self._streams, host_of(peer))

    @contextmanager
    def shown(self, serial: str, names: int) -> Iterator[None]:
        """Count a stream of a certificate while it lasts; empty: it has shown none.

        Raises:
            Refused: it has too many for so many names; each node needs one.
        """
        if not serial:
            yield
            return
        most = STREAMS_OF_NAME * max(names, 1)
        if self._certificates[serial] >= most:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "too_many_streams",
                f"the certificate {serial} has {most} streams already",
            )
        self._certificates[serial] += 1
        try:
            yield
        finally:
            _less(self._certificates, serial)


def _less(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]


def host_of(peer: str) -> str:
    """Return the address in gRPC's name of a peer: `ipv4:10.0.0.1:4711`, `ipv6:%5B::1%5D:4711`."""
    host = peer.partition(":")[2].rpartition(":")[0]
    return host.removeprefix("%5B").removesuffix("%5D").strip("[]")
