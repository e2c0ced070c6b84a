"""The call in progress, in memory that the NVML child and its parent share.

The child notes each call before it makes it, so that when it hangs the parent can say in what, on
which chip. A note is one copy of a few bytes: no system call, no lock.
"""

from __future__ import annotations

import mmap

TRAIL_BYTES = 128


class TrailWriter:
    """The child's side."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, TRAIL_BYTES)

    def note(self, symbol: str, index: int | None) -> None:
        """See `Trail.note`."""
        text = symbol if index is None else f"{symbol} of GPU {index}"
        self._memory[:] = text.encode()[:TRAIL_BYTES].ljust(TRAIL_BYTES, b"\0")


class TrailReader:
    """The parent's side."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, TRAIL_BYTES, prot=mmap.PROT_READ)

    def read(self) -> str:
        """Return the call that the child is inside of, or nothing."""
        return self._memory[:].rstrip(b"\0").decode(errors="replace")

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
