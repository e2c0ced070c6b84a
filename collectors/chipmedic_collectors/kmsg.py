r"""Records of `/dev/kmsg`, from the device or from a file or FIFO that stands for it.

A record is `priority,sequence,microseconds,flags;text`, then lines that begin with a blank and hold
`KEY=value` of the device; other characters are escaped as `\x0a`. One read of the device gives
one record. See Documentation/ABI/testing/dev-kmsg of the Linux kernel.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

READ_BYTES = 8192
"""The longest record; a smaller buffer makes the kernel answer EINVAL and skip the record."""
BACKLOG_BYTES_MAX = 1 << 20
"""What is kept of a file's unfinished record; more than that is no record."""
ERRORS_IN_A_ROW_MAX = 16
FACILITY_SHIFT = 3

_ESCAPED = re.compile(r"\\x([0-9a-fA-F]{2})")
_HEADER = re.compile(r"(\d{1,9}),(\d{1,20}),(\d{1,20}),([^,;]*)(?:,[^;]*)?;")
_PCI_DEVICE = re.compile(r"^ DEVICE=\+pci:(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the kernel log."""

    facility: int
    """0: the kernel itself. A process that writes to `/dev/kmsg` gets another one from the
    kernel.
    """
    level: int
    sequence: int
    uptime_seconds: float
    text: str
    pci: str | None = None
    """The device's address, where the record names one in its dictionary."""


def parse_record(raw: bytes) -> Record:
    """Read one record.

    Raises:
        ValueError: it is none.
    """
    whole = raw.decode("utf-8", errors="replace")
    header = _HEADER.match(whole)
    if header is None:
        raise ValueError(f"no kernel log record: {whole[:80]!r}")
    text, _, rest = whole[header.end() :].partition("\n")
    device = _PCI_DEVICE.search(rest)
    priority = int(header[1])
    return Record(
        facility=priority >> FACILITY_SHIFT,
        level=priority & 7,
        sequence=int(header[2]),
        uptime_seconds=int(header[3]) / 1e6,
        text=_ESCAPED.sub(_unescape, text),
        pci=device[1].lower() if device else None,
    )


def _unescape(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character.isprintable() else " "


class KmsgDevice:
    """The real `/dev/kmsg`: one record per read, readable without waiting, pollable."""

    is_pollable = True

    def __init__(self, descriptor: int, read: Callable[[int, int], bytes] = os.read) -> None:
        self.descriptor = descriptor
        self._read = read
        self.malformed = 0
        """Reads that the kernel refused (EINVAL), since the start."""

    def records(self) -> Iterator[bytes]:
        """Yield raw records until there are no more.

        Records that were overwritten before they were read (EPIPE) show as a hole in the sequence
        numbers.

        Raises:
            OSError: the device cannot be read any more.
        """
        errors = 0
        while True:
            try:
                raw = self._read(self.descriptor, READ_BYTES)
            except BlockingIOError:
                return
            except OSError as e:
                errors += 1
                if e.errno not in (errno.EPIPE, errno.EINVAL, errno.EINTR):
                    raise
                if errors > ERRORS_IN_A_ROW_MAX:
                    raise
                self.malformed += e.errno == errno.EINVAL
                continue
            if not raw:
                return
            errors = 0
            yield raw


class KmsgFile:
    """A file in the form of `/dev/kmsg` that grows (the simulator's), or a FIFO."""

    is_pollable = False

    def __init__(self, descriptor: int, *, is_regular: bool) -> None:
        self.descriptor = descriptor
        self.malformed = 0
        self._is_regular = is_regular
        self._offset = 0
        self._rest = b""
        self._ready: deque[bytes] = deque()

    def records(self) -> Iterator[bytes]:
        """Yield the raw records that are complete."""
        while self._ready or self._fill():
            yield self._ready.popleft()

    def _fill(self) -> bool:
        """Read on until a record is complete; False: there is none yet."""
        while not self._ready:
            try:
                block = os.read(self.descriptor, READ_BYTES)
            except BlockingIOError:
                return False
            if not block:
                return False
            self._offset += len(block)
            self._rest += block
            self._split()
        return True

    def _split(self) -> None:
        """Take the complete lines off what was read; a line that begins with a blank goes on."""
        lines = self._rest.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > BACKLOG_BYTES_MAX:
            self.malformed += 1
            self._rest = b""
        for line in lines:
            if line.startswith(b" ") and self._ready:
                self._ready[-1] += b"\n" + line
            elif line and not line.startswith(b" "):
                self._ready.append(line)

    def has_shrunk(self) -> bool:
        """Tell whether the file was emptied."""
        return self._is_regular and os.fstat(self.descriptor).st_size < self._offset

    def rewind(self) -> None:
        """Go back to the oldest record."""
        if self._is_regular:
            os.lseek(self.descriptor, 0, os.SEEK_SET)
        self._offset, self._rest = 0, b""
        self._ready.clear()


KmsgSource = KmsgDevice | KmsgFile


def open_kmsg(path: str) -> KmsgSource:
    """Open the device, or what stands for it, at its oldest record; never waits.

    Raises:
        OSError: as `open` does.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISCHR(mode):
        return KmsgDevice(descriptor)
    return KmsgFile(descriptor, is_regular=stat.S_ISREG(mode))
