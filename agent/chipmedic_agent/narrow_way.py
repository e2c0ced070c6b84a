"""A way to a watchdog in small packets, for a path on which large ones vanish.

TCP delivers in order: behind one large packet that never arrives wait the heartbeats and the pings,
too. How much a packet holds is agreed on when a connection is made, and gRPC gives no hand on that;
so its stream goes over a socket of this process to a connection that is made here.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from types import TracebackType

SEGMENT_BYTES = 1000
"""With its headers less than the 1280 bytes that every path of IPv6 must carry; the watchdog is
told the same size for its answers when the connection is made."""
CHUNK_BYTES = 65536


class NarrowWay:
    """Carries what comes to `target` to a watchdog and back, while its context lasts."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        # In no folder, which may be missing or full; another user gains nothing by it.
        self._name = f"chipmedic-agent-{secrets.token_hex(8)}"
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def target(self) -> str:
        """What gRPC connects to."""
        return f"unix-abstract:{self._name}"

    async def __aenter__(self) -> NarrowWay:
        self._server = await asyncio.start_unix_server(self._accept, f"\0{self._name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._server is not None:
            await _hand_over(self._server)
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted socket is closed at the loop's next turn

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry_both(reader, writer), name="narrow way")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Whatever ends the task: a cancelled one may not have begun, or be connecting still.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _carry_both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry until one side ends; what gRPC sees of any trouble is a connection that ends."""
        try:
            there, back = await _connect(self._host, self._port)
        except OSError:
            return
        ways = [
            asyncio.create_task(_carry(reader, back)),
            asyncio.create_task(_carry(there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            back.transport.abort()  # first: what follows may be cancelled itself
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _hand_over(server: asyncio.Server) -> None:
    """Accept no more, and take over what was accepted.

    Python 3.11 loses a connection that its server has accepted and not handed over when that is
    closed: it stays open until the next collection of garbage.
    """
    for listener in server.sockets:
        server.get_loop().remove_reader(listener)
    for _ in range(2):  # in the one it gets its transport, in the other it comes to `_accept`
        await asyncio.sleep(0)


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect in small packets to the first address that answers.

    Raises:
        OSError: none does.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    trouble = OSError(f"{host}: no address")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
            await loop.sock_connect(connection, address)
            return await asyncio.open_connection(sock=connection)
        except OSError as e:
            connection.close()
            trouble = e
        except BaseException:
            connection.close()
            raise
    raise trouble


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction to its end."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
