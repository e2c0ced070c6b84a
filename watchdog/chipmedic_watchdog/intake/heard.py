"""How long ago each connection brought anything, as the kernel counts it.

An agent pings once a second, so a connection that brings nothing for longer has a host or an agent
at its other end that stands still. The kernel knows the time of the last data of every socket
(`tcpi_last_data_recv`, what `ss -i` shows) and gives those of 10,000 in about 10 ms. It counts also
while the watchdog itself is busy, so a watchdog that is slow to read takes nobody for silent; and
no stream has to be broken to find out.

Formats: linux/inet_diag.h, linux/sock_diag.h, linux/netlink.h and linux/tcp.h.
"""

from __future__ import annotations

import ctypes
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
ESTABLISHED, LISTEN = 1 << 1, 1 << 10
SOURCE_PORT_AT_LEAST, SOURCE_PORT_AT_MOST = 2, 3
"""INET_DIAG_BC_S_GE and INET_DIAG_BC_S_LE."""
HEADER_BYTES, MESSAGE_BYTES = 16, 72
"""struct nlmsghdr, and with it before struct inet_diag_msg, after which the attributes begin."""
DESTINATION_PORT, DESTINATION = HEADER_BYTES + 6, HEADER_BYTES + 24
LAST_DATA_SENT, LAST_DATA_RECEIVED = 44, 52
"""Offsets in struct tcp_info, in milliseconds."""
BUFFER_BYTES = 1 << 18

_LIBC = ctypes.PyDLL(None, use_errno=True)
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
    for family in _families(port):
        for buffer, start, info in _late(_request(family, port, ESTABLISHED), int(seconds * 1000)):
            received = _NUMBER.unpack_from(buffer, info + LAST_DATA_RECEIVED)[0]
            sent = _NUMBER.unpack_from(buffer, info + LAST_DATA_SENT)[0]
            found[_peer(buffer, start, family)] = Unheard(received / 1000, sent / 1000)
    return found


def _families(port: int) -> list[int]:
    """Return of which families the sockets are that listen at our port.

    Each list of connections costs a walk through a table of the kernel of some milliseconds.
    """
    families = (socket.AF_INET, socket.AF_INET6)
    return [f for f in families if any(_late(_request(f, port, LISTEN), 0))]


@cache
def is_told() -> bool:
    """Whether the kernel tells; some sandboxes forbid the question."""
    try:
        unheard(1, 0.0)
    except OSError:
        return False
    return True


def _request(family: int, port: int, states: int) -> bytes:
    """Ask for the sockets of one of our ports in some states; the kernel chooses them."""
    # Two steps of 8 bytes: a test with the distances to go if it holds and if not, and its port.
    # Who goes on behind the end is not wanted.
    chosen = struct.pack("=BBHHH", SOURCE_PORT_AT_LEAST, 8, 20, 0, port)
    chosen += struct.pack("=BBHHH", SOURCE_PORT_AT_MOST, 8, 12, 0, port)
    body = struct.pack(
        "=BBBBI48x", family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0, states
    )
    body += _ATTRIBUTE.pack(4 + len(chosen), INET_DIAG_REQ_BYTECODE) + chosen
    head = struct.pack("=IHHII", HEADER_BYTES + len(body), SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 1, 0)
    return head + body


def _late(request: bytes, milliseconds: int) -> Iterator[tuple[bytearray, int, int]]:
    """Yield where message and tcp_info of each socket begin that has been quiet for so long."""
    buffer = bytearray(BUFFER_BYTES)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(request)
        while True:
            size, start = _receive(kernel, buffer), 0
            while start < size:
                length, kind = _HEADER.unpack_from(buffer, start)
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR or not HEADER_BYTES <= length <= size - start:
                    raise OSError("the kernel does not list its sockets")
                stride = (length + 3) & ~3
                info = _place_of_info(memoryview(buffer)[start : start + length])
                count = _alike(buffer, start, size, stride) if info else 0
                if count:
                    yield from _late_of(buffer, start, stride, count, info, milliseconds)
                start += max(1, count) * stride


def _alike(buffer: bytearray, start: int, size: int, stride: int) -> int:
    """Return how many messages from here on have the length and the kind of the first.

    Ten thousand sockets of one port are built alike, and to look at each in turn costs Python ten
    times what the kernel needs to list them.
    """
    count = (size - start) // stride
    words = memoryview(buffer)[start : start + count * stride].cast("I")
    for place in (0, 1):  # length; kind and flags
        column = words[place :: stride // 4].tolist()
        if column.count(column[0]) != count:
            return 1
    return count


def _late_of(
    buffer: bytearray, start: int, stride: int, count: int, info: int, milliseconds: int
) -> Iterator[tuple[bytearray, int, int]]:
    words = memoryview(buffer)[start : start + count * stride].cast("I")
    times = words[(info + LAST_DATA_RECEIVED) // 4 :: stride // 4].tolist()
    if max(times) < milliseconds:
        return
    for number, time in enumerate(times):
        if time >= milliseconds:
            message = start + number * stride
            yield buffer, message, message + info


def _receive(kernel: socket.socket, buffer: bytearray) -> int:
    """Receive without letting other threads run, as `socket.recv` would.

    The kernel answers at once, in a hundred parts; to get the interpreter back a hundred times from
    a busy thread would hold the main loop up for half a second.
    """
    into = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    size: int = _LIBC.recv(kernel.fileno(), into, len(buffer), socket.MSG_DONTWAIT)
    if size <= 0:
        raise OSError(ctypes.get_errno(), "the kernel does not list its sockets")
    return size


def _place_of_info(message: memoryview) -> int:
    """Return where tcp_info begins in a message; 0: it has none."""
    at = HEADER_BYTES + MESSAGE_BYTES
    while at + 4 <= len(message):
        size, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == INET_DIAG_INFO and size >= 4 + LAST_DATA_RECEIVED + 4:
            return at + 4 if at + size <= len(message) else 0
        at += max(4, (size + 3) & ~3)
    return 0


def _peer(buffer: bytearray, start: int, family: int) -> Address:
    port = start + DESTINATION_PORT
    address = start + DESTINATION
    length = 4 if family == socket.AF_INET else 16
    return (
        as_ipv6(bytes(buffer[address : address + length])),
        int.from_bytes(buffer[port : port + 2]),
    )
