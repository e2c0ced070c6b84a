"""Who closed a connection, asked of the kernel with real sockets."""

from __future__ import annotations

import socket
import struct
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic_watchdog.intake.peers import TABLES, unanswered
from waiting import until

pytestmark = pytest.mark.skipif(not TABLES[0].exists(), reason="no /proc/net/tcp")


def pair(host: str) -> tuple[socket.socket, socket.socket, str, int]:
    """A server's side, a client's side, what gRPC calls the client, and the server's port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        client = socket.create_connection(server.getsockname()[:2])
        ours, address = server.accept()
    name = f"ipv6:%5B{host}%5D" if ":" in host else f"ipv4:{host}"
    return ours, client, f"{name}:{address[1]}", ours.getsockname()[1]


HOSTS = [host for host in ("127.0.0.1", "::1") if host == "127.0.0.1" or TABLES[1].exists()]


@pytest.mark.parametrize("host", HOSTS)
def test_a_peer_that_we_let_go(host: str) -> None:
    try:
        ours, client, peer, port = pair(host)
    except OSError:
        pytest.skip(f"{host} is not to be had here")
    assert unanswered([peer], port) == set(), "it is connected"
    ours.close()
    until(lambda: unanswered([peer, "ipv4:192.0.2.1:9"], port) == {peer})
    client.close()


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_peer_that_closed(is_reset: bool) -> None:
    ours, client, peer, port = pair("127.0.0.1")
    if is_reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    time.sleep(0.05)
    assert unanswered([peer], port) == set()
    ours.close()
    time.sleep(0.05)
    assert unanswered([peer], port) == set()


def test_a_peer_of_ipv4_on_a_socket_for_all(tmp_path: Path) -> None:
    line = "  0: 0000000000000000FFFF0000{}:1CE8 0000000000000000FFFF0000{}:A1B2 05 0 0 0"
    mine = f"{int.from_bytes(bytes([10, 1, 2, 3]), sys.byteorder):08X}"
    (tmp_path / "tcp6").write_text("head\n" + line.format(mine, mine) + "\n")
    peer = f"ipv4:10.1.2.3:{0xA1B2}"
    assert unanswered([peer, "unix:"], 7400, [tmp_path / "tcp6", tmp_path / "none"]) == {peer}


@given(st.text(max_size=40))
def test_no_name_of_a_peer_is_trouble(peer: str) -> None:
    assert unanswered([peer], 7400, []) == set()
    assert unanswered([peer], 7400) <= {peer}
