"""One gRPC stream over HTTP/2 by hand: what an agent's connection says, at a tenth of gRPC's cost.

A fleet of 10,000 agents on the machine of its watchdog must cost little, and gRPC's own client has
threads and timers for each channel. This speaks just what a chipmedic agent's connection does
(RFC 9113 and gRPC over HTTP/2): a preface, one POST that never ends, messages in DATA frames, flow
control, and pings both ways.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
INITIAL_WINDOW = 0x4
FRAME_MAX = 16_384
WINDOW = 65_535
"""What RFC 9113 starts with, for the connection and for a stream."""
REFILL = 16_384
"""Bytes read before the other side gets them back."""
STREAM = 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame: 24 bits of length, type, flags, stream, payload."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


PING_SIZE = 17
ASK = frame(PING, 0, 0, b"chipmedi")
PONG = frame(PING, ACK, 0, bytes(8))[:9]


def request(path: str, authority: str) -> bytes:
    """Return what opens a call: RFC 7541 without compression; 0x83 is POST and 0x86 is http."""

    def named(index: int, value: str) -> bytes:
        return _integer(index, 4) + _text(value)

    block = b"\x83\x86" + named(4, path) + named(1, authority)
    block += named(31, "application/grpc")
    block += b"\x00" + _text("te") + _text("trailers")
    return PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, STREAM, block)


def _integer(value: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    assert value - most < 128
    return bytes([most, value - most])


def _text(value: str) -> bytes:
    data = value.encode()
    return _integer(len(data), 7) + data


class Stream(asyncio.Protocol):
    """A connection with its one call."""

    def __init__(
        self, path: str, authority: str, told: Callable[[bytes], None], lost: Callable[[], None]
    ) -> None:
        self._opening = request(path, authority)
        self._told, self._lost = told, lost
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._message = bytearray()
        self._waiting: deque[bytes] = deque()
        self._connection_window = self._stream_window = WINDOW
        self._initial_window = WINDOW
        self._unreturned = 0
        self._pinged_at = self._heard_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the call at once."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._opening)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell it once."""
        self._transport = None
        self._lost()

    def close(self) -> None:
        """End the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_open(self) -> bool:
        """Whether something can be sent."""
        return self._transport is not None

    @property
    def is_full(self) -> bool:
        """Whether the other side takes nothing more for now."""
        return bool(self._waiting)

    def send(self, message: bytes) -> None:
        """Send a message, or keep it until the other side has room."""
        data = b"\x00" + struct.pack(">I", len(message)) + message
        for start in range(0, len(data), FRAME_MAX):
            self._waiting.append(data[start : start + FRAME_MAX])
        self._flush()

    def ping(self, pause_seconds: float, answer_seconds: float) -> None:
        """Ask whether the other side is there, as gRPC does: only if it said nothing for so long.

        The connection ends if nothing comes in time.
        """
        if self._transport is None:
            return
        now = time.monotonic()
        if self._pinged_at and now - self._pinged_at > answer_seconds:
            self.close()
        elif not self._pinged_at and now - self._heard_at >= pause_seconds:
            self._pinged_at = now
            self._transport.write(ASK)

    def _flush(self) -> None:
        while self._waiting and self._transport is not None:
            size = len(self._waiting[0])
            if min(self._connection_window, self._stream_window) < size:
                return
            self._connection_window -= size
            self._stream_window -= size
            self._transport.write(frame(DATA, 0, STREAM, self._waiting.popleft()))

    def data_received(self, data: bytes) -> None:
        """Take whole frames from what came; a ping alone is most of it, and goes the short way."""
        received = self._received
        self._heard_at, self._pinged_at = time.monotonic(), 0.0
        if len(data) == PING_SIZE and not received and data[3] == PING and self._transport:
            if not data[4] & ACK:
                self._transport.write(PONG + data[9:])
            return
        received += data
        start = 0
        while len(received) - start >= 9:
            size = int.from_bytes(received[start : start + 3])
            if len(received) - start < 9 + size:
                break
            payload = bytes(received[start + 9 : start + 9 + size])
            self._take(received[start + 3], received[start + 4], received[start + 8], payload)
            start += 9 + size
        del received[:start]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        if kind == PING:
            if not flags & ACK:
                transport.write(frame(PING, ACK, 0, payload))
        elif kind == DATA:
            self._take_data(payload)
        elif kind == WINDOW_UPDATE:
            more = int.from_bytes(payload) & 0x7FFF_FFFF
            if stream == 0:
                self._connection_window += more
            else:
                self._stream_window += more
            self._flush()
        elif kind == SETTINGS and not flags & ACK:
            for identity, value in struct.iter_unpack(">HI", payload):
                if identity == INITIAL_WINDOW:
                    self._stream_window += value - self._initial_window
                    self._initial_window = value
            transport.write(frame(SETTINGS, ACK, 0))
        elif kind in (GOAWAY, RST_STREAM):
            self.close()
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.close()

    def _take_data(self, payload: bytes) -> None:
        self._unreturned += len(payload)
        if self._unreturned >= REFILL and self._transport is not None:
            more = struct.pack(">I", self._unreturned)
            self._transport.write(
                frame(WINDOW_UPDATE, 0, 0, more) + frame(WINDOW_UPDATE, 0, STREAM, more)
            )
            self._unreturned = 0
        message = self._message
        message += payload
        while len(message) >= 5:
            size = int.from_bytes(message[1:5])
            if len(message) < 5 + size:
                return
            self._told(bytes(message[5 : 5 + size]))
            del message[: 5 + size]
