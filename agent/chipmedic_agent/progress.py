"""Progress that jobs tell: datagrams on a local Unix socket (see `chipmedic.beat` for the text).

The kernel adds who sent each one (SO_PASSCRED), and who that is is looked up on arrival: the
sender may be a `chipmedic beat` that lives for milliseconds. Nothing that arrives can stop the
agent: what cannot be read is counted, and told once per sender. Reading goes on in a thread of its
own: a look at `/proc` that blocks, or a flood of datagrams, must not hold up the agent's loop.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISSOCK
from urllib.parse import unquote

from chipmedic.beat import SIZE_MAX
from chipmedic.host import Host, LinuxHost
from chipmedic_agent.processes import ProcessIdentity, identify, read_stat

logger = logging.getLogger(__name__)

QUEUE_MAX = 4096
"""Beats kept between two looks; of more the oldest are dropped and counted."""
TRUSTED_SECONDS = 1.0
"""For how long a pid is taken to be the same process without a look."""
RECEIVE_BUFFER_BYTES = 1 << 20
SENDERS_MAX = 256
CLOSE_SECONDS = 2.0
_CREDENTIALS = struct.Struct("3i")
_COUNTS = {"rank": 2**31, "step": 2**62, "checkpoint": 2**62}
"""Numbers of a beat, and what each must be below: the stream carries ranks in 32 bits."""


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
    sender: ProcessIdentity | None = None
    """Who the process is; None when it was gone before anybody looked."""


def read_beat(
    data: bytes, *, at: float, pid: int, uid: int, sender: ProcessIdentity | None = None
) -> Beat:
    """Read a datagram. Words that a later version may add are left out.

    Raises:
        ValueError: it is not text of `name=value` words, or a number is none.
    """
    if len(data) > SIZE_MAX:
        raise ValueError(f"longer than {SIZE_MAX} bytes")
    words: dict[str, str] = {}
    for word in data.decode("utf-8", errors="strict").split():
        name, sign, value = word.partition("=")
        if not sign or not name or not value:
            raise ValueError(f"{word[:40]!r} is not name=value")
        words[name] = unquote(value)
        if not words[name].isprintable():
            raise ValueError(f"{name} holds control characters")
    counts = {name: _count(name, words[name]) for name in _COUNTS if name in words}
    if not counts and "phase" not in words and "log" not in words:
        raise ValueError("neither step, phase, checkpoint nor log")
    return Beat(
        at=at,
        pid=pid,
        uid=uid,
        job=words.get("job"),
        rank=counts.get("rank"),
        step=counts.get("step"),
        phase=words.get("phase", "").lower() or None,
        checkpoint_step=counts.get("checkpoint"),
        log=words.get("log"),
        sender=sender,
    )


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < _COUNTS[name]):
        raise ValueError(f"{name}={text[:40]!r} is not a whole number")
    return int(text)


class ProgressListener:
    """Listens on the socket; `drain` may be called from any thread."""

    def __init__(self, path: str, host: Host | None = None) -> None:
        self._path = Path(path)
        self._host = LinuxHost() if host is None else host
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._beats: deque[Beat] = deque(maxlen=QUEUE_MAX)
        self._senders: dict[int, tuple[ProcessIdentity | None, float]] = {}
        """Who each pid is, and when that was last compared with `/proc`."""
        self._warned: set[int] = set()
        self.received_total = 0
        self.malformed_total = 0
        self.dropped_total = 0

    async def start(self) -> None:
        """Bind the socket; every user of the host may send to it.

        Raises:
            OSError: the path cannot be bound, or another agent listens there.
        """
        self._socket = _bind(self._path)
        self._thread = threading.Thread(
            target=self._listen, args=(self._socket,), name="progress", daemon=True
        )
        self._thread.start()
        logger.info("progress: listening path=%s", self._path)

    def drain(self) -> list[Beat]:
        """Return the beats since the last call, oldest first."""
        beats: list[Beat] = []
        with contextlib.suppress(IndexError):
            while True:
                beats.append(self._beats.popleft())
        return beats

    def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._socket is None or self._thread is None:
            return
        self._path.unlink(missing_ok=True)
        listener, self._socket = self._socket, None
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closes it
        self._thread.join(timeout=CLOSE_SECONDS)

    def _listen(self, listener: socket.socket) -> None:
        """Take in datagrams until the socket is shut down."""
        with listener:
            while self._socket is not None:
                data, ancillary, _, _ = listener.recvmsg(
                    SIZE_MAX + 1, socket.CMSG_SPACE(_CREDENTIALS.size)
                )
                pid, uid = _credentials(ancillary)
                if self._socket is not None:
                    self._take(data, pid, uid, self._host.now())

    def _take(self, data: bytes, pid: int, uid: int, at: float) -> None:
        try:
            beat = read_beat(data, at=at, pid=pid, uid=uid, sender=self._identify(pid, at))
        except ValueError as e:
            self.malformed_total += 1
            if pid not in self._warned and len(self._warned) < SENDERS_MAX:
                self._warned.add(pid)
                logger.warning("progress: unreadable datagram pid=%d uid=%d why=%s", pid, uid, e)
        else:
            if len(self._beats) == QUEUE_MAX:
                self.dropped_total += 1
            self._beats.append(beat)
        self.received_total += 1  # last: who sees the count finds what was counted

    def _identify(self, pid: int, at: float) -> ProcessIdentity | None:
        """Look up a sender; one that beats each step is read in full once, then only compared."""
        if pid <= 0:
            return None
        known, checked_at = self._senders.get(pid, (None, at - 2 * TRUSTED_SECONDS))
        if abs(at - checked_at) < TRUSTED_SECONDS:
            return known
        stat = read_stat(self._host, pid)
        is_same = known is not None and stat is not None and stat.started == known.started
        if known is None or not is_same or not known.is_whole:
            known = identify(self._host, pid)
        if len(self._senders) >= SENDERS_MAX:
            self._senders.clear()
        self._senders[pid] = (known, at)
        return known


def _bind(path: Path) -> socket.socket:
    """Return a bound socket that every user may send to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        listener.bind(str(path))
        path.chmod(0o666)
    except OSError:
        listener.close()
        raise
    return listener


def _credentials(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Return pid and uid of a sender as the kernel vouches for them; (0, -1) if it does not."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid, uid, _ = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])
            return pid, uid
    return 0, -1


def _remove_stale(path: Path) -> None:
    """Remove the socket of an agent that was killed.

    Raises:
        OSError: somebody listens there, or it is no socket.
    """
    try:
        if not S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError("is there and is no socket; set another progress_socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError("another agent listens there; stop it or set another progress_socket")
