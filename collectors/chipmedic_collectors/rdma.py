"""InfiniBand and RoCE ports, from /sys/class/infiniband: state, rate, downs and errors.

The state is the truth; the counters lie in two ways. They saturate and never wrap (`link_downed`
255, `symbol_error` 65535), and reading some of them on a port that may not (a virtual function, a
restricted firmware) makes the driver flood the kernel log: a file that once answered EINVAL is
never read again.
"""

from __future__ import annotations

import errno
import re
from typing import ClassVar, Self

from chipmedic.collector import Collector
from chipmedic.host import Host
from chipmedic.metric import Metric
from chipmedic.model import Component, ComponentKind, Gap, GapReason, Reading, Scan
from chipmedic_collectors.host import Found, reason_of

PORTS = "/sys/class/infiniband/*/ports/*"
COUNTERS_SECONDS = 15.0
ACTIVE = 4
"""Port state `4: ACTIVE`."""
ERRORS = {
    "symbol_error": 65535,
    "link_error_recovery": 255,
    "port_rcv_errors": 65535,
    "local_link_integrity_errors": 15,
    "excessive_buffer_overrun_errors": 15,
}
"""Counters of what cost a retry or worse, and where each stops. Newer firmware widens some."""
COUNTER_DIGITS_MAX = 20
"""Of 64 bits."""
_RATE = re.compile(r"(\d{1,6}(?:\.\d+)?) Gb/sec")
_REFUSALS = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES})


class RdmaPorts(Collector):
    """Reads the ports of RDMA devices."""

    vendor: ClassVar[str] = "host"
    period_seconds: ClassVar[float] = 5.0
    deadline_seconds: ClassVar[float] = 10.0

    def __init__(self, host: Host) -> None:
        self._host = host
        self._refused: dict[str, str] = {}
        self._first_seen: dict[str, float] = {}
        """What each counter of errors is counted from: one that appears late must be no burst."""
        self._summed: set[str] = set()
        self._counted_at: float | None = None

    @classmethod
    def discover(cls, host: Host) -> Self | None:
        """See `Collector.discover`."""
        return cls(host) if host.glob(PORTS) else None

    def scan(self) -> Scan:
        """See `Collector.scan`; counters are read every `COUNTERS_SECONDS`, states each time."""
        now = self._host.now()
        is_due = self._counted_at is None or not 0 <= now - self._counted_at < COUNTERS_SECONDS
        if is_due:
            self._counted_at = now
        found = Found()
        for folder in self._host.glob(PORTS):
            device, port = folder.split("/")[-3], folder.split("/")[-1]
            component = Component(ComponentKind.NIC, f"{device}/{port}")
            if not self._add_state(found, component, folder, device):
                continue
            if is_due:
                _add(found, self._count(component, folder))
        return Scan(source="rdma", at=now, readings=tuple(found.readings), gaps=tuple(found.gaps))

    def _add_state(self, found: Found, component: Component, folder: str, device: str) -> bool:
        """Read state and rate of a port; False: its state is not known."""
        try:
            state = self._host.read(f"{folder}/state")
        except OSError as e:
            found.gaps.append(Gap(component, None, reason_of(e), f"state: {e.strerror}"))
            return False
        number = state.partition(":")[0].strip()
        if not number.isdecimal():
            found.gaps.append(Gap(component, None, GapReason.MALFORMED, f"state: {state.strip()}"))
            return False
        is_up = int(number) == ACTIVE and self._has_carrier(folder, device)
        found.readings.append(Reading(component, Metric.LINK_UP, float(is_up)))
        if is_up:
            self._add_rate(found, component, folder)
        return True

    def _has_carrier(self, folder: str, device: str) -> bool:
        """Say whether the network interfaces of a RoCE port have carrier; InfiniBand needs none.

        Several ports of one device have an interface each, told apart by `dev_port` (from 0).
        """
        if self._text(f"{folder}/link_layer") != "Ethernet":
            return True
        port = folder.split("/")[-1]
        for path in self._host.glob(f"/sys/class/infiniband/{device}/device/net/*/carrier"):
            dev_port = self._text(path.removesuffix("carrier") + "dev_port")
            is_mine = not dev_port.isdecimal() or int(dev_port) == int(port) - 1
            if is_mine and self._text(path) == "0":
                return False
        return True

    def _text(self, path: str) -> str:
        """Return the text of a small file, empty where it cannot be read."""
        try:
            return self._host.read(path).strip()
        except OSError:
            return ""

    def _add_rate(self, found: Found, component: Component, folder: str) -> None:
        match = _RATE.match(self._text(f"{folder}/rate"))
        if match is None:
            gap = Gap(component, Metric.LINK_RATE, GapReason.MALFORMED, "rate is not told")
            found.gaps.append(gap)
        else:
            rate = float(match[1]) * 1e9
            found.readings.append(Reading(component, Metric.LINK_RATE, rate))

    def _count(self, component: Component, folder: str) -> list[Reading | Gap]:
        """Read the counters of a port.

        The errors are told as one sum; when one of them could not be read this time, there is none,
        because a sum of fewer would look like a reset and the next one like a burst. One that was
        never there is left out until it appears (a driver that is loaded again shows its files one
        after the other) and is counted from then on.
        """
        answers: list[Reading | Gap] = []
        downed = self._counter(component, Metric.LINK_DOWNED, f"{folder}/counters/link_downed")
        answers.append(
            downed if isinstance(downed, Gap) else Reading(component, Metric.LINK_DOWNED, downed)
        )
        total, is_whole, is_any_read = 0.0, True, False
        is_summed = component.name in self._summed
        for name, stops_at in ERRORS.items():
            path = f"{folder}/counters/{name}"
            count = self._counter(component, Metric.LINK_ERRORS, path)
            if isinstance(count, Gap):
                answers.append(count)
                was_never_there = (
                    count.reason is GapReason.UNSUPPORTED and path not in self._first_seen
                )
                is_whole = is_whole and (path in self._refused or was_never_there)
                continue
            first = self._first_seen.setdefault(path, count if is_summed else 0.0)
            if count < first:  # counted anew since
                first = self._first_seen[path] = 0.0
            total, is_any_read = total + count - first, True
            if count == stops_at:
                why = f"{name} has stopped at {stops_at}: it counts no further"
                answers.append(Gap(component, Metric.LINK_ERRORS, GapReason.MALFORMED, why))
        if is_whole and is_any_read:
            self._summed.add(component.name)
            answers.append(Reading(component, Metric.LINK_ERRORS, total))
        return answers

    def _counter(self, component: Component, metric: Metric, path: str) -> float | Gap:
        """Read one counter; one that was refused stays unread."""
        if path in self._refused:
            return Gap(component, metric, GapReason.UNSUPPORTED, self._refused[path])
        name = path.rsplit("/", 1)[-1]
        try:
            text = self._host.read(path).strip()
        except OSError as e:
            if e.errno in _REFUSALS:  # a file that is missing costs nothing to ask for again
                self._refused[path] = f"{name}: {e.strerror}, not asked again"
            return Gap(component, metric, reason_of(e), f"{name}: {e.strerror}")
        if not (text.isascii() and text.isdecimal() and len(text) <= COUNTER_DIGITS_MAX):
            return Gap(component, metric, GapReason.MALFORMED, f"{name}: {text[:40]}")
        return float(text)


def _add(found: Found, answers: list[Reading | Gap]) -> None:
    for answer in answers:
        if isinstance(answer, Gap):
            found.gaps.append(answer)
        else:
            found.readings.append(answer)
