"""An all-reduce over a Unix socket: rank 0 collects one number of each rank and returns the sum.

As with the real libraries, nobody leaves before everybody has come, and a rank that is silent
stalls all without an error. A rank that dies closes its connection, which the others see at once.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_NUMBER = struct.Struct("!d")
_RANK = struct.Struct("!I")
CONNECT_SECONDS = 20.0


class PeerLost(RuntimeError):
    """A rank went away while the others waited for it."""


class Barrier:
    """One rank's end of the ring."""

    def __init__(self, path: Path, *, rank: int, ranks: int) -> None:
        self._peers: dict[int, socket.socket] = {}
        self._root: socket.socket | None = None
        if rank == 0:
            self._peers = _accept_all(path, ranks)
        else:
            self._root = _connect(path, rank)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the ring; the others notice."""
        for peer in (*self._peers.values(), *filter(None, [self._root])):
            peer.close()

    def reduce(self, value: float) -> float:
        """Return the sum over all ranks; blocks until the last one has come.

        Raises:
            PeerLost: a rank went away.
        """
        if self._root is not None:
            _send(self._root, value)
            return _receive(self._root)
        total = value + sum(_receive(peer) for peer in self._peers.values())
        for peer in self._peers.values():
            _send(peer, total)
        return total


def _accept_all(path: Path, ranks: int) -> dict[int, socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        fresh = path.with_suffix(".new")
        listener.bind(str(fresh))
        listener.listen(ranks)
        listener.settimeout(CONNECT_SECONDS)
        fresh.rename(path)  # it appears when it can be connected to, never before
        peers: dict[int, socket.socket] = {}
        while len(peers) < ranks - 1:
            try:
                peer, _ = listener.accept()
            except TimeoutError as e:
                for peer in peers.values():
                    peer.close()
                raise PeerLost(f"only {len(peers) + 1} of {ranks} ranks came") from e
            peer.settimeout(None)
            peers[_RANK.unpack(_receive_exactly(peer, _RANK.size))[0]] = peer
        return peers


def _connect(path: Path, rank: int) -> socket.socket:
    for _ in _until(CONNECT_SECONDS):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(OSError):
            connection.connect(str(path))
            connection.sendall(_RANK.pack(rank))
            return connection
        connection.close()
    raise PeerLost(f"rank 0 did not answer in {CONNECT_SECONDS:g} s")


def _until(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.05)


def _send(peer: socket.socket, value: float) -> None:
    try:
        peer.sendall(_NUMBER.pack(value))
    except OSError as e:
        raise PeerLost(str(e)) from e


def _receive(peer: socket.socket) -> float:
    return float(_NUMBER.unpack(_receive_exactly(peer, _NUMBER.size))[0])


def _receive_exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        try:
            part = peer.recv(size - len(data))
        except OSError as e:
            raise PeerLost(str(e)) from e
        if not part:
            raise PeerLost("a rank closed its connection")
        data += part
    return data
