"""Connections to an HTTP port: how many there may be, and how long one may keep us waiting.

Without this one address that opens connections and says nothing, drips its request, or never reads
the answer keeps everybody else out; uvicorn itself waits for such a client for ever.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from chipmedic.address import is_loopback

CONNECTIONS_MAX = 512
OF_ONE_ADDRESS = 64
KEPT_FOR_LOOPBACK = 32
"""The people on this host get in whatever others do."""
MARGIN_SECONDS = 10.0
"""The system ends a connection later than we do, who count it: it sees what fits its buffers."""
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nretry-after: 5\r\n"
    b"connection: close\r\ncontent-length: 21\r\n\r\ntoo many connections\n"
)


@dataclass(slots=True)
class Connections:
    """Those of one port."""

    maximum: int = CONNECTIONS_MAX
    of_one_address: int = OF_ONE_ADDRESS
    kept_for_loopback: int = KEPT_FOR_LOOPBACK
    request_seconds: float = 15.0
    """From the connection, or the first byte of a later request, to the request's last byte."""
    answer_seconds: float = 30.0
    """How long a client may read nothing while more of its answer waits."""
    on_refused: Callable[[str], None] = lambda _: None
    """Called with `too_many`, `slow_request` or `slow_reader`."""
    _of: Counter[str] = field(default_factory=Counter)

    def enter(self, address: str) -> bool:
        """Count a connection in; False: there are too many."""
        is_local = is_loopback(address)
        most = self.maximum if is_local else self.maximum - self.kept_for_loopback
        is_over = not is_local and self._of[address] >= self.of_one_address
        if self._of.total() >= most or is_over:
            self.on_refused("too_many")
            return False
        self._of[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count it out."""
        self._of[address] -= 1
        if self._of[address] <= 0:
            del self._of[address]

    def limit_silence(self, listener: socket.socket) -> None:
        """End connections whose other end takes nothing of what was sent (Linux)."""
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if option is not None:
            seconds = self.answer_seconds + MARGIN_SECONDS
            listener.setsockopt(socket.IPPROTO_TCP, option, int(seconds * 1000))

    def protocol(self) -> type[asyncio.Protocol]:
        """Return uvicorn's protocol, held to these limits."""
        connections = self

        class Guarded(_Guarded):
            limits = connections

        return Guarded


class _Guarded(H11Protocol):
    """One connection; its timers are set anew with each request and each full buffer."""

    limits: Connections
    _address: str | None = None
    _timers: dict[str, asyncio.TimerHandle]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._timers = {}
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self.limits.enter(address):
            super().connection_made(transport)
            transport.write(BUSY)
            transport.close()
            return
        self._address = address
        super().connection_made(transport)
        self._await("slow_request", self.limits.request_seconds)

    def data_received(self, data: bytes) -> None:
        if self._address is None:
            return
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._await("slow_request", self.limits.request_seconds)
        else:
            self._forget("slow_request")

    def on_response_complete(self) -> None:
        # What the client sends next is a new request, which uvicorn's own keep-alive waits for.
        self._forget("slow_request")
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await("slow_reader", self.limits.answer_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget("slow_reader")

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in self._timers.values():
            timer.cancel()
        if self._address is not None:
            self.limits.leave(self._address)
            self._address = None
        super().connection_lost(exc)

    def _await(self, what: str, seconds: float) -> None:
        if what not in self._timers:
            self._timers[what] = self.loop.call_later(seconds, self._give_up, what)

    def _forget(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()

    def _give_up(self, what: str) -> None:
        self.limits.on_refused(what)
        self.transport.abort()
