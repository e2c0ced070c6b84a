"""Serves the application inside the daemon's own loop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from chipmedic.errors import ChipmedicError
from chipmedic_watchdog.config import split_address

BACKLOG = 128
STOP_SECONDS = 2


class _Server(uvicorn.Server):
    """Leaves the signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """One listening address."""

    def __init__(self, application: Starlette, listen: str) -> None:
        self._socket = _listen(listen)
        self._server = _Server(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                # The peer's address decides about access; a header must not replace it.
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )

    @property
    def address(self) -> str:
        """Where it listens, with the port that a 0 became."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Let the requests under way end, then return from `run`."""
        self._server.should_exit = True


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as e:
        raise ChipmedicError(f"http: cannot listen on {address}: {e.strerror}") from e
