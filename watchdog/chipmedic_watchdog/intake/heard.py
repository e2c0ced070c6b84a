"""How long ago each connection brought anything, as the kernel counts it.

An agent pings once a second, so a connection that brings nothing for longer has a host or an agent
at its other end that stands still. The kernel knows the time of the last data of every socket
(`tcpi_last_data_recv`, what `ss -i` shows) and gives those of 10,000 in about 10 ms. It counts also
while the watchdog itself is busy, so a watchdog that is slow to read takes nobody for silent; and
no stream has to be broken to find out.

Formats: linux/inet_diag.h, linux/sock_diag.h, linux/netlink.h and linux/tcp.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from chipmedic_watchdog.intake.peers import Address, as_ipv6

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY, NLMSG_ERROR, NLMSG_DONE = 20, 2, 3
REQUEST_DUMP = 0x301
"""NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH."""
INET_DIAG_INFO, INET_DIAG_REQ_BYTECODE = 2, 1
ESTABLISHED = 1 << 1
SOURCE_PORT_AT_LEAST, SOURCE_PORT_AT_MOST = 2, 3
"""INET_DIAG_BC_S_GE and INET_DIAG_BC_S_LE."""
HEADER_BYTES, MESSAGE_BYTES = 16, 72
"""struct nlmsghdr, and with it before struct inet_diag_msg, after which the attributes begin."""
DESTINATION_PORT, DESTINATION = HEADER_BYTES + 6, HEADER_BYTES + 24
LAST_DATA_SENT, LAST_DATA_RECEIVED = 44, 52
"""Offsets in struct tcp_info, in milliseconds."""
BUFFER_BYTES = 1 << 18
WAIT_SECONDS = 2.0

_HEADER = struct.Struct("=IH")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=I")


class Unheard(NamedTuple):
    """A connection that has brought nothing for a while."""

    received_seconds: float
    """Since the last data from the peer."""
    sent_seconds: float
    """Since our last data to it: what the peer reads lets it put off its next ping."""


def unheard(port: int, seconds: float) -> dict[Address, Unheard]:
    """Return the connections to our port that have brought nothing for so long, by their peer.

    Raises:
        OSError: the kernel does not tell; `is_told` says so beforehand.
    """
    found: dict[Address, Unheard] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(WAIT_SECONDS)
            kernel.send(_request(family, port))
            for buffer, start, length, info in _answers(kernel):
                (milliseconds,) = _NUMBER.unpack_from(buffer, info + LAST_DATA_RECEIVED)
                if milliseconds >= seconds * 1000:
                    (sent,) = _NUMBER.unpack_from(buffer, info + LAST_DATA_SENT)
                    peer = _peer(bytes(buffer[start : start + length]), family)
                    found[peer] = Unheard(milliseconds / 1000, sent / 1000)
    return found


@cache
def is_told() -> bool:
    """Whether the kernel tells; some sandboxes forbid the question."""
    try:
        unheard(1, 0.0)
    except OSError:
        return False
    return True


def _request(family: int, port: int) -> bytes:
    """Ask for the established connections of one of our ports; the kernel chooses them."""
    # Two steps of 8 bytes: a test with the distances to go if it holds and if not, and its port.
    # Who goes on behind the end is not wanted.
    chosen = struct.pack("=BBHHH", SOURCE_PORT_AT_LEAST, 8, 20, 0, port)
    chosen += struct.pack("=BBHHH", SOURCE_PORT_AT_MOST, 8, 12, 0, port)
    body = struct.pack(
        "=BBBBI48x", family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0, ESTABLISHED
    )
    body += _ATTRIBUTE.pack(4 + len(chosen), INET_DIAG_REQ_BYTECODE) + chosen
    head = struct.pack("=IHHII", HEADER_BYTES + len(body), SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 1, 0)
    return head + body


def _answers(kernel: socket.socket) -> Iterator[tuple[bytearray, int, int, int]]:
    """Yield for each connection where its message begins, its length, and where its tcp_info is."""
    buffer = bytearray(BUFFER_BYTES)
    places: dict[int, int] = {}
    """Of tcp_info in messages of this length: in one answer they are built alike."""
    while True:
        size, start = kernel.recv_into(buffer), 0
        while start < size:
            length, kind = _HEADER.unpack_from(buffer, start)
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR or length < HEADER_BYTES:
                raise OSError("the kernel does not list its sockets")
            place = places.get(length)
            if place is None:
                place = places[length] = _place_of_info(buffer[start : start + length])
            if place:
                yield buffer, start, length, start + place
            start += (length + 3) & ~3


def _place_of_info(message: bytearray) -> int:
    """Return where tcp_info begins in a message; 0: it has none."""
    at = HEADER_BYTES + MESSAGE_BYTES
    while at + 4 <= len(message):
        size, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == INET_DIAG_INFO and size >= 4 + LAST_DATA_RECEIVED + 4:
            return at + 4 if at + size <= len(message) else 0
        at += max(4, (size + 3) & ~3)
    return 0


def _peer(message: bytes, family: int) -> Address:
    length = 4 if family == socket.AF_INET else 16
    address = message[DESTINATION : DESTINATION + length]
    return as_ipv6(address), int.from_bytes(message[DESTINATION_PORT : DESTINATION_PORT + 2])
