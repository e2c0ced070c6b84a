"""The gRPC server: its address, its encryption and the options that make silence visible."""

from __future__ import annotations

import logging

import grpc
from grpc import aio

from chipmedic.errors import ChipmedicError
from chipmedic_watchdog.intake.heard import is_told
from chipmedic_watchdog.intake.message import MESSAGE_MAX_BYTES
from chipmedic_watchdog.intake.service import StreamService

log = logging.getLogger(__name__)

OPTIONS = (
    ("grpc.keepalive_permit_without_calls", 1),
    # The agents ping every second; the default would answer GOAWAY too_many_pings.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    # An agent has one stream, and a renewal beside it now and then.
    ("grpc.max_concurrent_streams", 8),
    # Who connects and then says nothing at all, or keeps no stream, is not kept.
    ("grpc.max_connection_idle_ms", 60_000),
    # Or a second watchdog would bind the same port and get half of the agents.
    ("grpc.so_reuseport", 0),
)

KERNEL_TELLS = (
    # Silence is seen in the kernel's table of sockets (heard.py). These pings only end connections
    # to which nothing else belongs any more.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
)
PINGS_TELL = (
    # 750, not 1000: with the answer's second and the verdict's second a silent host is judged in
    # less than 3 s (docs/decisions/0004-liveness.md).
    ("grpc.keepalive_time_ms", 750),
    ("grpc.keepalive_timeout_ms", 1000),
    # Without this one the two above never end the stream of a stopped or unplugged host.
    ("grpc.http2.ping_timeout_ms", 1000),
)


def build_server(
    service: StreamService,
    listen: str,
    credentials: grpc.ServerCredentials | None = None,
    *,
    handshake_seconds: float = 20.0,
    kernel_tells: bool | None = None,
) -> tuple[aio.Server, int]:
    """Return a server that is bound and not yet started, and its port.

    A connection has `handshake_seconds` for TLS and the first words of HTTP/2. `kernel_tells` says
    whether silence is seen elsewhere; None: it is tried.

    Raises:
        ChipmedicError: the address cannot be bound.
    """
    handshake = ("grpc.server_handshake_timeout_ms", int(handshake_seconds * 1000))
    if kernel_tells is None:
        kernel_tells = is_told()
    if not kernel_tells:
        log.warning(
            "the kernel does not list its sockets here (AF_NETLINK): pings tell of silent hosts, "
            "which cost more and end every stream in a pause of the network"
        )
    pings = KERNEL_TELLS if kernel_tells else PINGS_TELL
    server = aio.server(options=(*OPTIONS, *pings, handshake))
    server.add_generic_rpc_handlers((service.handler(),))
    try:
        if credentials is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, credentials)
    except RuntimeError as e:
        raise ChipmedicError(
            f"stream: cannot listen on {listen}: is another watchdog running? ({e})"
        ) from e
    return server, port
