"""The connection to one watchdog: liveness, encryption, limits."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio

from chipmedic.address import split_address
from chipmedic_agent.config import TlsSettings
from chipmedic_agent.credentials import Credentials

PING_MILLISECONDS = 1000
"""The watchdog takes an agent for silent from which nothing comes for a little more than two."""
ANSWER_MILLISECONDS = 3000
"""Longer than most pauses of a network: to make ten thousand streams anew is worse than to wait."""

OPTIONS: tuple[tuple[str, int], ...] = (
    # A stopped peer, a pulled cable and a lost host close no socket: only pings tell. The first two
    # options alone do not end a silent stream (still open after 24 s); with the third it ends
    # within about the sum of the first and the third (measured with SIGSTOP, grpcio 1.85).
    ("grpc.keepalive_time_ms", PING_MILLISECONDS),
    ("grpc.keepalive_timeout_ms", ANSWER_MILLISECONDS),
    ("grpc.http2.ping_timeout_ms", ANSWER_MILLISECONDS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Each attempt is a channel of its own, so gRPC's own backoff (up to two minutes, shared between
    # channels to one address) must not be waited for: the uplink has its own.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 4 * 1048576),
)


def open_channel(
    target: str, tls: TlsSettings, joined: Credentials | None = None, *, through: str = ""
) -> grpc.aio.Channel:
    """Make a channel; nothing is connected yet.

    Files of the settings count before the certificate that was joined for. `through` is what to
    connect to instead, when that leads to the target; who answers must be the target all the same.

    Raises:
        OSError: a file of the TLS settings cannot be read.
    """
    options: tuple[tuple[str, int | str], ...] = OPTIONS
    address = through or target
    if through:
        options = (*OPTIONS, *_in_the_name_of(target))
    if tls.ca_file is None and joined is not None:
        shown = grpc.ssl_channel_credentials(
            joined.authority.encode(), joined.key.encode(), joined.certificate.encode()
        )
        return grpc.aio.secure_channel(address, shown, options=options)
    if tls.ca_file is None:
        return grpc.aio.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=Path(tls.ca_file).read_bytes(),
        private_key=_bytes_of(tls.key_file),
        certificate_chain=_bytes_of(tls.certificate_file),
    )
    return grpc.aio.secure_channel(address, credentials, options=options)


def _in_the_name_of(target: str) -> tuple[tuple[str, str], ...]:
    return (
        ("grpc.default_authority", target),
        ("grpc.ssl_target_name_override", split_address(target)[0]),
    )


def _bytes_of(path: str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
