"""Whether large packets pass on the way to a watchdog: a trial that its kernel answers.

The trial speaks HTTP/2 (a frame of a kind that nobody knows, which must be passed over), but all
that counts is whether the other end's TCP takes it. That does not depend on who listens, on how
busy they are, or on encryption.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, UNKNOWN = 0x04, 0xFC
FRAME_BYTES = 16_000
"""Fills a packet of the largest size that is in use (9,000 bytes)."""
CONNECT_SECONDS, TAKE_SECONDS = 2.0, 3.0
"""A packet that is lost now and then is sent four times within this."""
LOOK_SECONDS = 0.05


async def large_packets_pass(host: str, port: int) -> bool | None:
    """Say whether they do; None where small ones do not pass either, which tells nothing."""
    connection = await _connect(host, port)
    if connection is None:
        return None
    with connection:
        try:
            connection.send(PREFACE + _frame(SETTINGS, b"") + _frame(UNKNOWN, bytes(FRAME_BYTES)))
            if await _is_taken(connection):
                return True
        except OSError:
            return True  # the other side has ended it, and has therefore heard of it
    # Is it the size, or has the path just been cut? To connect takes small packets both ways.
    again = await _connect(host, port)
    if again is None:
        return None
    again.close()
    return False


async def _connect(host: str, port: int) -> socket.socket | None:
    """Connect; None: nobody takes it."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS), contextlib.AsyncExitStack() as stack:
            [first, *_] = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, address = first
            connection = stack.enter_context(socket.socket(family, kind, protocol))
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
            stack.pop_all()
            return connection
    except (OSError, TimeoutError):
        return None


def _frame(kind: int, payload: bytes) -> bytes:
    """Return a frame of the connection as a whole (RFC 9113, 4.1)."""
    return struct.pack("!I", len(payload))[1:] + bytes((kind, 0)) + bytes(4) + payload


async def _is_taken(connection: socket.socket) -> bool:
    end = time.monotonic() + TAKE_SECONDS
    while time.monotonic() < end:
        if _unanswered_bytes(connection) == 0:
            return True
        await asyncio.sleep(LOOK_SECONDS)
    return False


def _unanswered_bytes(connection: socket.socket) -> int:
    """Return how much was said that the other end's kernel has not confirmed (`SIOCOUTQ`)."""
    answer = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
    return int(struct.unpack("i", answer)[0])
