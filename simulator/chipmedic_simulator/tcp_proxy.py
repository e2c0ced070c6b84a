"""A bad network between two programs: a TCP proxy that freezes, cuts, delays and garbles.

TCP hides the loss of single packets behind a delay, so loss is simulated as one. What is frozen
stays connected and silent, as a host does whose cable was pulled: nothing is read, nothing is
closed, and whoever connects is let in and hears nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass, field

CHUNK_BYTES = 65_536
LOOK_SECONDS = 0.02


@dataclass(slots=True)
class TcpProxy:
    """Carries connections to one target; its fields may be changed at any time."""

    target: str
    """host:port."""
    random: random.Random
    is_frozen: bool = False
    delay_seconds: float = 0.0
    """Each delayed piece waits so long; the pieces behind it wait with it, as in TCP."""
    delayed_ratio: float = 1.0
    garbled_ratio: float = 0.0
    """Share of the pieces in which one byte is changed."""
    port: int = 0
    carried_bytes: int = 0
    _is_over: bool = False
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Where to connect instead of the target."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> TcpProxy:
        """Listen on loopback."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Cut everything and listen no more."""
        if self._server is not None:
            self._server.close()
        self._is_over = True
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> int:
        """Reset every connection; returns how many there were. New ones are carried again."""
        count = len(self._open) // 2
        for writer in list(self._open):
            _reset(writer)
        self._open.clear()
        return count

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._open.add(writer)
        await self._thawed()
        if self._is_over:
            _reset(writer)
            return
        host, _, port = self.target.rpartition(":")
        try:
            other_reader, other_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            _reset(writer)
            self._open.discard(writer)
            return
        if self._is_over:
            _reset(writer)
            _reset(other_writer)
            return
        self._open.add(other_writer)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, other_writer))
                group.create_task(self._carry(other_reader, writer))
        finally:
            self._open -= {writer, other_writer}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction to its end, which ends the other one too."""
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._thawed()
                if self.delay_seconds and self.random.random() < self.delayed_ratio:
                    await asyncio.sleep(self.delay_seconds)
                    await self._thawed()
                writer.write(self._garbled(data))
                await writer.drain()
                self.carried_bytes += len(data)
        await self._thawed()
        _reset(writer)

    async def _thawed(self) -> None:
        while self.is_frozen and not self._is_over:
            await asyncio.sleep(LOOK_SECONDS)

    def _garbled(self, data: bytes) -> bytes:
        if self.random.random() >= self.garbled_ratio:
            return data
        changed = bytearray(data)
        changed[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        return bytes(changed)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once with RST, as a firewall does that forgot the connection."""
    found = writer.get_extra_info("socket")
    if found is not None:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
