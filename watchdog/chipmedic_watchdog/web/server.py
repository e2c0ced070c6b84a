"""Serves the application inside the daemon's own loop."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette

from chipmedic.address import split_address
from chipmedic.errors import ChipmedicError
from chipmedic_watchdog.web.connections import Connections

BACKLOG = 128
STOP_SECONDS = 2


class _Server(uvicorn.Server):
    """Leaves the signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """One listening address."""

    def __init__(
        self,
        application: Starlette,
        listen: str,
        tls: ssl.SSLContext | None = None,
        *,
        connections: Connections | None = None,
    ) -> None:
        """Listen; with `tls` HTTPS.

        Raises:
            ChipmedicError: the address is not to be had.
        """
        connections = connections or Connections()
        self._socket = _listen(listen)
        connections.limit_silence(self._socket)
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            # The peer's address decides about access; a header must not replace it.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
            http=connections.protocol(),
        )
        config.load()
        # A context of ours instead of files: its certificate is exchanged while it listens.
        config.ssl = tls
        self._server = _Server(config)

    @property
    def address(self) -> str:
        """Where it listens, with the port that a 0 became."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def url(self) -> str:
        """The same for a browser."""
        return f"{'http' if self._server.config.ssl is None else 'https'}://{self.address}"

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
        words = f"http.listen: cannot listen on {address}: {_short(e)}"
        raise ChipmedicError(f"{words}; end what is there, or name another address") from e


def _short(error: OSError) -> str:
    """Return the system's words without what Python repeats behind them."""
    return (error.strerror or str(error)).partition(" (while attempting")[0]
