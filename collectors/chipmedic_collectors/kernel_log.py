"""The kernel log: what the kernel and the vendors' drivers say, as it is said.

This path needs no driver and no vendor library, so it goes on when a sick chip blocks everything
else.

Lines of processes are not read. Any process with the right to write to `/dev/kmsg` (privileged
containers have it) could otherwise drain a node with one `echo`. The kernel marks them: it never
lets a process use facility 0. The simulator's file is not the kernel and writes facility 0
itself.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, cast

from chipmedic.collector import Collector
from chipmedic.errors import CollectError
from chipmedic.faults.finding import Finding
from chipmedic.faults.kernel_lines import is_candidate, read_stripped
from chipmedic.faults.prefix import Stripped
from chipmedic.host import Host
from chipmedic.model import (
    HOST,
    Action,
    Component,
    ComponentKind,
    Event,
    Gap,
    GapReason,
    Scan,
    Severity,
    collector_component,
)
from chipmedic_collectors.kmsg import KmsgFile, KmsgSource, Record, open_kmsg, parse_record

SOURCE = "kernel_log"
DEVICE = "/dev/kmsg"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
RECORDS_PER_SCAN_MAX = 5000
"""A flood is read in several scans; the descriptor stays readable, so the next one follows at
once.
"""
REOPEN_SECONDS = 5.0
"""How long a log that cannot be read is left alone."""
JOIN_SECONDS = 1.0
"""The records of one message of the NVIDIA driver follow each other faster than this."""
POLL_SECONDS = 0.5
HISTORY_SECONDS = 600.0
"""On a host that was never watched, what the log said longer ago than this is history."""
CLOCK_SET_SECONDS = 2.0
"""By how much the clock must be set to move the time of the boot."""

LOST_CODE = "kernel:log.lost"


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of the host: the name under which its records are unique, and when it began."""

    id: str
    at: float | None
    """UNIX seconds of uptime 0; it moves only when the clock is set, so that one record does not
    have two times."""

    def time_of(self, uptime_seconds: float, *, now: float) -> float:
        """Return when a record was written: never in the future, whatever the clocks say."""
        return now if self.at is None else min(self.at + uptime_seconds, now)


class KernelLog(Collector):
    """Reads `/dev/kmsg`."""

    vendor = "host"
    period_seconds = 5.0
    """The device wakes its reader at each record; between them only its death is looked for."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._source: KmsgSource | None = None
        self._failed_at: float | None = None
        self._boot = read_boot(host)
        self._clock_ahead = host.now() - time.monotonic()
        self._history_until: float | None = host.now() - HISTORY_SECONDS
        """None: this host was watched before, so everything that was not read yet is news."""
        self._sequence: int | None = None
        """Of the last record that was read, or that an earlier run of the agent had read."""
        self._drained_at: float | None = None
        """When the log was last read to its end: what comes after it was written since."""
        self._malformed = 0
        self._named_gpu: tuple[str, float] | None = None

    @classmethod
    def discover(cls, host: Host) -> Self | None:
        """See `Collector.discover`: None where there is no kernel log (a container without it).

        A log that may not be read is here: its scans say so.
        """
        try:
            mode = Path(host.path(DEVICE)).stat().st_mode
        except OSError:
            return None
        return cls(host) if stat.S_ISCHR(mode) else cast(Self, KernelLogFile(host))

    def scan(self) -> Scan:
        """See `Collector.scan`.

        Raises:
            CollectError: the log cannot be opened or read; tried again after `REOPEN_SECONDS`.
        """
        now = self._host.now()
        self._follow_clock(now)
        source = self._open()
        if isinstance(source, KmsgFile):
            self._look_for_reboot(source)
        events: list[Event] = []
        gaps: list[Gap] = []
        try:
            for count, raw in enumerate(source.records(), 1):
                self._take(raw, now, events, gaps)
                if count >= RECORDS_PER_SCAN_MAX:
                    break
            else:
                self._drained_at = now
        except OSError as e:
            self._give_up()
            if not events:
                raise CollectError(f"{DEVICE}: cannot be read: {e.strerror}") from e
            gaps.append(_gap(GapReason.FAILED, f"cannot be read: {e.strerror}"))
        refused = source.malformed + self._malformed
        if refused:
            gaps.append(_gap(GapReason.MALFORMED, f"{refused} records could not be read"))
            source.malformed = self._malformed = 0
        return Scan(source=SOURCE, at=now, events=tuple(events), gaps=tuple(gaps))

    def wake_fd(self) -> int | None:
        """See `Collector.wake_fd`: the device tells of each new record."""
        source = self._source
        return source.descriptor if source is not None and source.is_pollable else None

    def resume(self, cursor: str) -> None:
        """See `Collector.resume`; a cursor of another boot says nothing about this one."""
        self._history_until = None
        boot, _, sequence = cursor.rpartition("/")
        if boot == self._boot.id and sequence.isascii() and sequence.isdigit():
            self._sequence = int(sequence)

    def cursor(self) -> str | None:
        """See `Collector.cursor`: `<boot id>/<sequence>`."""
        return None if self._sequence is None else f"{self._boot.id}/{self._sequence}"

    def close(self) -> None:
        """See `Collector.close`."""
        if self._source is not None:
            os.close(self._source.descriptor)
            self._source = None

    def _open(self) -> KmsgSource:
        if self._source is not None:
            return self._source
        now = self._host.now()
        if self._failed_at is not None and 0 <= now - self._failed_at < REOPEN_SECONDS:
            raise CollectError(f"{DEVICE}: cannot be read; tried again every {REOPEN_SECONDS:g} s")
        try:
            self._source = open_kmsg(self._host.path(DEVICE))
        except OSError as e:
            self._failed_at = now
            remedy = " (needs CAP_SYSLOG)" if isinstance(e, PermissionError) else ""
            raise CollectError(f"{DEVICE}: cannot be opened: {e.strerror}{remedy}") from e
        return self._source

    def _follow_clock(self, now: float) -> None:
        """Take the time of the boot anew when the clock was set: hosts start with a wrong one.

        Else what the kernel says would look hours old for as long as we run, and old faults of a
        program are no news.
        """
        ahead = now - time.monotonic()
        if abs(ahead - self._clock_ahead) >= CLOCK_SET_SECONDS:
            if self._history_until is not None:
                # Or after a step back of hours all that is written now would be history for hours.
                self._history_until += ahead - self._clock_ahead
            self._clock_ahead = ahead
            self._drained_at = None
            self._boot = replace(self._boot, at=read_boot(self._host).at)

    def _look_for_reboot(self, source: KmsgFile) -> None:
        """Begin anew when the simulated host was rebooted; the real one takes us down with it."""
        boot = read_boot(self._host)
        if boot.id != self._boot.id or source.has_shrunk():
            source.rewind()
            self._boot, self._sequence = boot, None

    def _give_up(self) -> None:
        self.close()
        self._failed_at = self._host.now()

    def _take(self, raw: bytes, now: float, events: list[Event], gaps: list[Gap]) -> None:
        """Read one record: note a hole before it, and what it says."""
        try:
            record = parse_record(raw)
        except ValueError:
            self._malformed += 1
            return
        if self._sequence is not None:
            if record.sequence <= self._sequence:
                return
            if record.sequence > self._sequence + 1:
                self._note_lost(record, now, events, gaps)
        self._sequence = record.sequence
        if record.facility == 0:
            event = self._event(record, now)
            if event is not None:
                events.append(event)

    def _note_lost(self, record: Record, now: float, events: list[Event], gaps: list[Gap]) -> None:
        first = (self._sequence or 0) + 1
        words = f"{record.sequence - first} records lost before they could be read"
        gaps.append(_gap(GapReason.FAILED, words))
        events.append(
            Event(
                component=collector_component(SOURCE),
                code=LOST_CODE,
                message=f"kernel log: {words} (sequence {first} to {record.sequence - 1})",
                at=self._time_of(record, now),
                id=f"{self._boot.id}/{first}-{record.sequence - 1}",
                kind="collector.failed",
                severity=Severity.WARNING,
                action=Action.NONE,
            )
        )

    def _event(self, record: Record, now: float) -> Event | None:
        """Return what a record of the kernel states, or None."""
        self._named_gpu = _named_gpu(record) or self._named_gpu
        if not is_candidate(record.text):
            return None
        stripped = Stripped(text=record.text, uptime_seconds=record.uptime_seconds)
        finding = read_stripped(stripped)
        if finding is None:
            return None
        finding = self._joined(finding, record)
        at = self._time_of(record, now)
        component = component_of(finding)
        return Event(
            component=component,
            code=finding.code,
            message=finding.message,
            at=at,
            id=f"{self._boot.id}/{record.sequence}",
            kind=finding.kind,
            severity=Severity.INFO if self._is_history(at) else finding.severity,
            action=finding.action,
            device=finding.device if component == HOST else None,
        )

    def _time_of(self, record: Record, now: float) -> float:
        """Return when a record was written.

        The clock that the kernel stamps its log with is not corrected by NTP: after months it is
        minutes off. A record that was not there at the last look is younger than that look.
        """
        at = self._boot.time_of(record.uptime_seconds, now=now)
        return at if self._drained_at is None else max(at, min(self._drained_at, now))

    def _is_history(self, at: float) -> bool:
        """Tell whether a line is older than our first look at this host.

        A chip that had an Xid twenty days ago and computes is not sick: to raise it anew would take
        healthy nodes out when chipmedic is rolled out. One that is still sick says so when it is
        polled (present, wanted recovery, pending or failed remapping).
        """
        return self._history_until is not None and at < self._history_until

    def _joined(self, finding: Finding, record: Record) -> Finding:
        """Add the address that stands in another record, or in the record's own dictionary.

        The NVIDIA driver writes `The NVIDIA GPU <address>`, `(PCI ID: ...) installed in this
        system has` and `fallen off the bus and is not responding to commands.` as three records.
        """
        if finding.pci is not None:
            return finding
        if finding.code == "kernel:nvidia.fallen_off_bus" and self._named_gpu is not None:
            pci, named_at = self._named_gpu
            if 0 <= record.uptime_seconds - named_at <= JOIN_SECONDS:
                whole = finding.message.replace("NVRM: ", f"NVRM: The NVIDIA GPU {pci} has ", 1)
                return replace(finding, pci=pci, message=whole)
        return replace(finding, pci=record.pci) if record.pci else finding


class KernelLogFile(KernelLog):
    """A kernel log that cannot wake its reader: a file of the simulator, looked at more often."""

    period_seconds = POLL_SECONDS


def read_boot(host: Host) -> Boot:
    """Return the present boot of a host; a host without `/proc` has one boot of no known time."""
    try:
        boot_id = host.read(BOOT_ID).strip()
    except OSError:
        boot_id = ""
    began = None
    try:
        for line in host.read("/proc/stat").splitlines():
            if line.startswith("btime "):
                began = float(line.split()[1])
    except (OSError, ValueError, IndexError):
        began = None
    return Boot(id=boot_id or "unknown", at=began)


def component_of(finding: Finding) -> Component:
    """Return the part that a finding names; a PCI address is resolved by the agent."""
    device = finding.device
    if device is not None and finding.kind.startswith("nic."):
        return Component(ComponentKind.NIC, device)
    if device is not None and finding.code.startswith(("kernel:disk.", "kernel:fs.")):
        return Component(ComponentKind.DISK, device)
    if finding.pci is not None:
        pci = finding.pci if "." in finding.pci else f"{finding.pci}.0"
        return Component(ComponentKind.PCI, pci)
    return HOST


def _named_gpu(record: Record) -> tuple[str, float] | None:
    """Return the address of the first of three records, and when it was written."""
    start = "NVRM: The NVIDIA GPU "
    if not record.text.startswith(start):
        return None
    name = record.text[len(start) :].split(" ", 1)[0].strip().lower()
    return (name, record.uptime_seconds) if name.count(":") == 2 else None


def _gap(reason: GapReason, detail: str) -> Gap:
    return Gap(collector_component(SOURCE), None, reason, detail)
