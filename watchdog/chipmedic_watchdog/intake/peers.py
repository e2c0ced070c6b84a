"""Which side ended a connection, as the kernel remembers it for a while.

gRPC ends a stream in the same way whether the agent's process died, whose kernel then closes the
socket, or its host no longer answers the pings, so that we closed. Only the second is a silent
host. Where we closed first, our socket stays in FIN_WAIT until the peer closes too (Linux:
`tcp_fin_timeout`, 60 s), and in TIME_WAIT then; where the peer closed first, it is gone at once.
Format of the tables: proc_net_tcp in the kernel's documentation.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
CLOSED_BY_US = frozenset({"04", "05", "06", "0B"})
"""FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSING."""

Address = tuple[bytes, int]
"""Of a peer, as IPv6, and its port."""


def unanswered(peers: Collection[str], port: int, tables: Collection[Path] = TABLES) -> set[str]:
    """Return those of the peers at our port that we let go, because they did not answer.

    They are named as gRPC does it.
    """
    wanted = {address: peer for peer in peers if (address := address_of(peer)) is not None}
    return {wanted[found] for found in _closed_by_us(port, tables) if found in wanted}


def address_of(peer: str) -> Address | None:
    """Read `ipv4:10.0.0.1:4711` or `ipv6:%5B::1%5D:4711`; None: it is neither."""
    _, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    try:
        return as_ipv6(ipaddress.ip_address(host.strip("[]").partition("%")[0]).packed), int(port)
    except ValueError:
        return None


def as_ipv6(address: bytes) -> bytes:
    """A socket that listens on all addresses has its IPv4 peers in the table of IPv6."""
    return b"\0" * 10 + b"\xff\xff" + address if len(address) == 4 else address


def _closed_by_us(own_port: int, tables: Collection[Path]) -> Iterator[Address]:
    for table in tables:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue  # no such family here
        for line in lines:
            cells = line.split()
            if len(cells) < 4 or cells[3] not in CLOSED_BY_US:
                continue
            if int(cells[1].rpartition(":")[2], 16) == own_port:
                host, _, port = cells[2].partition(":")
                yield as_ipv6(_of_kernel(host)), int(port, 16)


def _of_kernel(text: str) -> bytes:
    """Read the kernel's words of 32 bits, each in the order of this machine."""
    words = (text[start : start + 8] for start in range(0, len(text), 8))
    return b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
