"""Which connections have gone quiet, asked of the kernel with real sockets."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic_watchdog.intake import heard
from chipmedic_watchdog.intake.heard import is_told, unheard
from chipmedic_watchdog.intake.peers import Address, address_of
from waiting import until

pytestmark = pytest.mark.skipif(not is_told(), reason="the kernel does not list its sockets here")


class Server:
    """A listening socket, and both ends of each connection to it."""

    def __init__(self, stack: ExitStack, host: str, family: socket.AddressFamily) -> None:
        self._stack = stack
        is_dual = family == socket.AF_INET6
        self._listener = stack.enter_context(
            socket.create_server((host, 0), family=family, dualstack_ipv6=is_dual)
        )
        self.port = self._listener.getsockname()[1]

    def connection(self, host: str) -> tuple[socket.socket, socket.socket, Address]:
        client = self._stack.enter_context(closing(socket.create_connection((host, self.port))))
        ours, _ = self._listener.accept()
        self._stack.enter_context(closing(ours))
        name = f"ipv6:%5B{host}%5D" if ":" in host else f"ipv4:{host}"
        address = address_of(f"{name}:{client.getsockname()[1]}")
        assert address is not None
        return ours, client, address


PLACES = [("127.0.0.1", socket.AF_INET, "127.0.0.1")]
if socket.has_dualstack_ipv6():
    # A socket for all addresses has its IPv4 peers in the table of IPv6.
    PLACES += [("::", socket.AF_INET6, "::1"), ("::", socket.AF_INET6, "127.0.0.1")]


@pytest.fixture(params=PLACES, ids=str)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[Server, str]]:
    bind, family, host = request.param
    with ExitStack() as stack:
        yield Server(stack, bind, family), host


def test_who_says_nothing_is_told_and_who_speaks_is_not(server: tuple[Server, str]) -> None:
    port, host = server[0].port, server[1]
    ours, client, quiet = server[0].connection(host)
    _, speaker, speaking = server[0].connection(host)
    client.send(b"hello")

    def is_quiet() -> bool:
        speaker.send(b"ping")
        return quiet in unheard(port, 1.0)

    until(is_quiet)
    speaker.send(b"ping")
    told = unheard(port, 0.9)
    assert told[quiet].received_seconds >= 1.0
    assert speaking not in told

    ours.send(b"an answer")
    assert unheard(port, 0.0)[quiet].sent_seconds < unheard(port, 0.0)[quiet].received_seconds
    client.send(b"again")
    until(lambda: unheard(port, 0.0)[quiet].received_seconds < 1.0)


def test_other_ports_and_ended_connections_are_not_told(server: tuple[Server, str]) -> None:
    _, client, address = server[0].connection(server[1])
    assert set(unheard(server[0].port, 0.0)) == {address}
    assert unheard(1, 0.0) == {}
    client.close()
    until(lambda: unheard(server[0].port, 0.0) == {})


def test_many_connections_are_all_told() -> None:
    """More than fit into one answer of the kernel."""
    with ExitStack() as stack:
        server = Server(stack, "127.0.0.1", socket.AF_INET)
        wanted = {server.connection("127.0.0.1")[2] for _ in range(200)}
        assert set(unheard(server.port, 0.0)) == wanted


def info(size: int) -> bytes:
    return struct.pack("=HH", size, heard.INET_DIAG_INFO)


@given(
    st.binary(max_size=400)
    | st.builds(
        lambda n, rest: bytes(88) + info(n) + rest, st.integers(0, 300), st.binary(max_size=300)
    )
)
def test_no_message_of_the_kernel_leads_astray(message: bytes) -> None:
    """Where tcp_info is found, the numbers that are read of it lie within the message."""
    place = heard._place_of_info(memoryview(message))
    assert place == 0 or place + heard.LAST_DATA_RECEIVED + 4 <= len(message)
