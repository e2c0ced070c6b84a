"""Progress that jobs tell: datagrams on a local Unix socket."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What one datagram said, and who the kernel says sent it."""

    at: float
    pid: int
    uid: int
    job: str | None = None
    rank: int | None = None
    step: int | None = None
    phase: str | None = None
    checkpoint_step: int | None = None
    log: str | None = None


class ProgressListener:
    """Listens on the socket; `drain` may be called from another thread."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def start(self) -> None:
        """Bind the socket.

        Raises:
            OSError: the path cannot be bound, or another agent listens there.
        """

    def drain(self) -> list[Beat]:
        """Return the beats since the last call, oldest first."""
        return []

    def close(self) -> None:
        """Stop listening and remove the socket."""
