"""The local HTTP server for /metrics, /healthz and /fit.

It runs in threads of its own: a stuck main loop is exactly what /healthz must still be able to say.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from chipmedic.address import split_address

IDLE_SECONDS = 600.0
"""How long the server sleeps where nobody asks; `close` wakes it. By default it would wake the
processor twice a second."""
REQUEST_SECONDS = 5.0
"""How long a client may take to ask, so that idle ones do not gather."""

logger = logging.getLogger(__name__)

Health = Callable[[], tuple[int, dict[str, Any]]]
Fitness = Callable[[], tuple[int, str]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 16


class Pages:
    """Serves what two functions return."""

    def __init__(
        self, address: str, *, metrics: Callable[[], bytes], health: Health, fitness: Fitness
    ) -> None:
        """Bind the address.

        Raises:
            OSError: it is taken, or not of this host.
        """
        host, port = split_address(address)
        self._server = _server_class(host)((host, port), _handler(metrics, health, fitness))
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(IDLE_SECONDS,),
            name="pages",
            daemon=True,
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop serving."""
        # A listening socket that is shut down takes nobody any more and wakes who waits for it.
        self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._server.server_close()


def _server_class(host: str) -> type[_Server]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return type("Server", (_Server,), {"address_family": family})


def _handler(
    metrics: Callable[[], bytes], health: Health, fitness: Fitness
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET and HEAD."""

        timeout = REQUEST_SECONDS
        server_version = "chipmedic-agent"
        sys_version = ""

        def do_GET(self) -> None:
            """Answer with one of the pages."""
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, metrics())
            elif path == "/healthz":
                status, report = health()
                text = json.dumps(report, indent=1) + "\n"
                self._answer(status, "application/json", text.encode())
            elif path == "/fit":
                status, words = fitness()
                self._answer(status, "text/plain; charset=utf-8", f"{words}\n".encode())
            else:
                text = "chipmedic-agent: /metrics /healthz /fit\n"
                self._answer(200 if path == "/" else 404, "text/plain", text.encode())

        do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep requests out of the log; they are not changes of state."""

    return Handler
