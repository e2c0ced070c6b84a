"""The host itself: memory, pressure, OOM kills, memory errors (EDAC), local file systems.

Sources: /proc/meminfo, /proc/pressure/memory (kernel 4.20), /proc/vmstat (`oom_kill`, kernel 4.13),
/sys/devices/system/edac/mc, /proc/self/mountinfo. Space is asked with statvfs in a thread of its
own per look: on local file systems alone, because a dead network mount never answers.
"""

from __future__ import annotations

import os
import queue
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Self

from chipmedic.collector import Collector
from chipmedic.host import Host
from chipmedic.metric import Metric
from chipmedic.model import HOST, Component, ComponentKind, Gap, GapReason, Reading, Scan

LOCAL_TYPES = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "reiserfs", "xfs", "zfs"}
)
"""File systems on drives of this host; others are memory, pseudo, removable or of the network."""
DISK_SECONDS = 30.0
"""How often space and mounts are looked at."""
STATVFS_SECONDS = 3.0
KIB = 1024.0
_MEMORY = {"MemTotal": Metric.HOST_MEMORY_TOTAL, "MemAvailable": Metric.HOST_MEMORY_AVAILABLE}
_EDAC = {"ce_count": Metric.HOST_EDAC_CORRECTED, "ue_count": Metric.HOST_EDAC_UNCORRECTED}
_NO_VALUE = {
    FileNotFoundError: GapReason.UNSUPPORTED,
    NotADirectoryError: GapReason.UNSUPPORTED,
    PermissionError: GapReason.DENIED,
}
Reader = Callable[[str], Iterator[Reading]]
_KIBIBYTES = re.compile(r"\s*(\d{1,20})(?:\s|$)")
_ESCAPE = re.compile(r"\\([0-7]{3})")


def reason_of(error: OSError) -> GapReason:
    """Return why a file of the kernel could not be read; a missing one is not offered here."""
    return _NO_VALUE.get(type(error), GapReason.FAILED)


@dataclass(slots=True)
class Found:
    """What one scan collects."""

    readings: list[Reading] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted local file system."""

    point: str
    device: str
    is_read_only: bool

    @property
    def component(self) -> Component:
        """The component that its readings name."""
        return Component(ComponentKind.DISK, self.point)


def read_memory(text: str) -> Iterator[Reading]:
    """Read /proc/meminfo; its numbers are KiB, whatever it calls them."""
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        metric, count = _MEMORY.get(name), _KIBIBYTES.match(rest)
        if metric is not None and count is not None:
            yield Reading(HOST, metric, int(count[1]) * KIB)


def read_pressure(text: str) -> Iterator[Reading]:
    """Read /proc/pressure/memory: the share of the last 10 s in which some task waited."""
    match = re.search(r"^some avg10=(\d{1,3}(?:\.\d+)?)(?!\S)", text, re.MULTILINE)
    if match is not None and float(match[1]) <= 100:
        yield Reading(HOST, Metric.HOST_LOAD_RATIO, float(match[1]) / 100)


def read_oom_kills(text: str) -> Iterator[Reading]:
    """Read /proc/vmstat: processes killed for want of memory since boot, in any cgroup."""
    match = re.search(r"^oom_kill (\d{1,20})$", text, re.MULTILINE)
    if match is not None:
        yield Reading(HOST, Metric.HOST_OOM_KILLS, float(match[1]))


def read_mounts(text: str) -> list[Mount]:
    """Read /proc/self/mountinfo: local file systems, each device once, at its first mount.

    A bind mount of the same device may be read-only by intention; the first mount is the real one.
    """
    mounts: dict[str, Mount] = {}
    for line in text.splitlines():
        head, separator, tail = line.partition(" - ")
        fields, kind = head.split(" "), tail.split(" ")
        if not separator or len(fields) < 6 or len(kind) < 3 or kind[0] not in LOCAL_TYPES:
            continue
        options = {*fields[5].split(","), *kind[2].split(",")}
        mounts.setdefault(fields[2], Mount(_unescaped(fields[4]), kind[1], "ro" in options))
    return list(mounts.values())


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


class HostHealth(Collector):
    """Reads the health of the host."""

    vendor: ClassVar[str] = "host"
    period_seconds: ClassVar[float] = 15.0
    deadline_seconds: ClassVar[float] = 10.0

    def __init__(self, host: Host) -> None:
        self._host = host
        self._was_writable: set[str] = set()
        self._disks = Found()
        self._disks_at: float | None = None
        self._stuck: dict[str, threading.Thread] = {}

    @classmethod
    def discover(cls, host: Host) -> Self | None:
        """See `Collector.discover`: every host is one."""
        return cls(host)

    def scan(self) -> Scan:
        """See `Collector.scan`."""
        now = self._host.now()
        found = Found()
        for path, read, metric in (
            ("/proc/meminfo", read_memory, Metric.HOST_MEMORY_AVAILABLE),
            ("/proc/pressure/memory", read_pressure, Metric.HOST_LOAD_RATIO),
            ("/proc/vmstat", read_oom_kills, Metric.HOST_OOM_KILLS),
        ):
            self._add(found, path, read, metric)
        self._add_edac(found)
        if self._disks_at is None or not 0 <= now - self._disks_at < DISK_SECONDS:
            self._disks, self._disks_at = self._look_at_disks(), now
        return Scan(
            source="host",
            at=now,
            readings=(*found.readings, *self._disks.readings),
            gaps=(*found.gaps, *self._disks.gaps),
        )

    def _add(self, found: Found, path: str, read: Reader, metric: Metric) -> None:
        """Read one file; one that tells nothing is a gap."""
        try:
            readings = list(read(self._host.read(path)))
        except OSError as e:
            found.gaps.append(Gap(HOST, metric, reason_of(e), f"{path}: {e.strerror}"))
            return
        found.readings += readings
        if not readings:
            found.gaps.append(Gap(HOST, metric, GapReason.UNSUPPORTED, f"{path} does not tell"))

    def _add_edac(self, found: Found) -> None:
        """Add up the memory controllers; one that cannot be read makes the sum unknown."""
        for name, metric in _EDAC.items():
            paths = self._host.glob(f"/sys/devices/system/edac/mc/mc*/{name}")
            if not paths:
                why = "no memory controller reports errors"
                found.gaps.append(Gap(HOST, metric, GapReason.UNSUPPORTED, why))
                continue
            try:
                total = sum(int(self._host.read(path)) for path in paths)
            except OSError as e:
                found.gaps.append(Gap(HOST, metric, reason_of(e), f"{e.filename}: {e.strerror}"))
            except ValueError as e:
                found.gaps.append(Gap(HOST, metric, GapReason.MALFORMED, str(e)))
            else:
                found.readings.append(Reading(HOST, metric, total))

    def _look_at_disks(self) -> Found:
        found = Found()
        try:
            mounts = read_mounts(self._host.read("/proc/self/mountinfo"))
        except OSError as e:
            component = Component(ComponentKind.DISK, "/")
            found.gaps.append(Gap(component, None, reason_of(e), f"mountinfo: {e.strerror}"))
            return found
        for mount in mounts:
            self._add_mount(found, mount)
        return found

    def _add_mount(self, found: Found, mount: Mount) -> None:
        """Read one file system; one that was never writable is read-only by intention."""
        if not mount.is_read_only:
            self._was_writable.add(mount.point)
        if mount.point in self._was_writable:
            value = float(mount.is_read_only)
            found.readings.append(Reading(mount.component, Metric.DISK_READ_ONLY, value))
        answer = self._statvfs(mount.point)
        if isinstance(answer, Gap):
            found.gaps.append(answer)
            return
        total, free = answer
        if total > 0:
            found.readings.append(Reading(mount.component, Metric.DISK_TOTAL, total))
            found.readings.append(Reading(mount.component, Metric.DISK_FREE, free))

    def _statvfs(self, point: str) -> tuple[float, float] | Gap:
        """Return size and space for users of a file system, or why not.

        A drive that has died can block even a local file system: then its thread is left behind
        and no second one is started for it.
        """
        component = Component(ComponentKind.DISK, point)
        stuck = self._stuck.get(point)
        if stuck is not None and stuck.is_alive():
            return Gap(component, None, GapReason.TIMED_OUT, "an earlier statvfs still hangs")
        answers: queue.SimpleQueue[os.statvfs_result | OSError] = queue.SimpleQueue()
        thread = threading.Thread(
            target=_ask, args=(self._host.path(point), answers), name="statvfs", daemon=True
        )
        thread.start()
        try:
            answer = answers.get(timeout=STATVFS_SECONDS)
        except queue.Empty:
            self._stuck[point] = thread
            why = f"no answer in {STATVFS_SECONDS:g} s"
            return Gap(component, None, GapReason.TIMED_OUT, why)
        if isinstance(answer, OSError):
            return Gap(component, None, reason_of(answer), f"statvfs: {answer.strerror}")
        unit = float(answer.f_frsize)
        return answer.f_blocks * unit, answer.f_bavail * unit


def _ask(path: str, answers: queue.SimpleQueue[os.statvfs_result | OSError]) -> None:
    try:
        answers.put(os.statvfs(path))
    except OSError as e:
        answers.put(e)
