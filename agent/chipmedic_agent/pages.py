"""The local HTTP server for /metrics, /healthz and /fit.

It runs in threads of its own: a stuck main loop is exactly what /healthz must still be able to say.
It speaks the little of HTTP/1.0 that a scraper, a probe and curl need, and sleeps until somebody
connects; the standard library's server wakes twice a second and brings the mail parser with it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from chipmedic_agent.config import split_address
from chipmedic_agent.exposition import CONTENT_TYPE

REQUEST_SECONDS = 5.0
"""How long a client may take to ask, and to take the answer, so that idle ones do not gather."""
REQUEST_BYTES_MAX = 16384
CLIENTS_MAX = 64
"""So many are answered at once; the next one is turned away."""
BACKLOG = 16
PAUSE_SECONDS = 5.0
TEXT = "text/plain; charset=utf-8"

logger = logging.getLogger(__name__)

Health = Callable[[], tuple[int, dict[str, Any]]]
Fitness = Callable[[], tuple[int, str]]
Page = tuple[int, str, bytes]
"""Status, content type, body."""


class Pages:
    """Serves what three functions return."""

    def __init__(
        self, address: str, *, metrics: Callable[[], bytes], health: Health, fitness: Fitness
    ) -> None:
        """Bind the address.

        Raises:
            OSError: it is taken, or not of this host.
        """
        self._metrics, self._health, self._fitness = metrics, health, fitness
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._free = threading.Semaphore(CLIENTS_MAX)
        self._is_closing = False
        self._thread = threading.Thread(target=self._serve, name="pages", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Stop serving; who is being answered gets the answer."""
        self._is_closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join(REQUEST_SECONDS)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError as e:
                if self._is_closing:
                    return
                logger.warning("pages: no connection can be taken: %s", e.strerror)
                time.sleep(PAUSE_SECONDS)  # no descriptor is free, most likely
                continue
            if not self._free.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(target=self._answer, args=(client,), name="page", daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        """Answer one request; a client that is gone or slow is left."""
        try:
            with client, contextlib.suppress(OSError):
                request = _read_request(client)
                if request:
                    method, path = request
                    client.settimeout(REQUEST_SECONDS)
                    client.sendall(_response(method, self._page(method, path)))
        finally:
            self._free.release()

    def _page(self, method: str, path: str) -> Page:
        if method not in ("GET", "HEAD"):
            return 405, TEXT, b"GET or HEAD\n"
        match path:
            case "/metrics":
                return 200, CONTENT_TYPE, self._metrics()
            case "/healthz":
                status, report = self._health()
                return status, "application/json", f"{json.dumps(report, indent=1)}\n".encode()
            case "/fit":
                status, words = self._fitness()
                return status, TEXT, f"{words}\n".encode()
        text = "chipmedic-agent: /metrics /healthz /fit\n"
        return (200 if path == "/" else 404), TEXT, text.encode()


def _read_request(client: socket.socket) -> tuple[str, str] | None:
    """Return method and path without its query; None: it was no request in time.

    Raises:
        OSError: the client is gone.
    """
    until = time.monotonic() + REQUEST_SECONDS
    text = b""
    while b"\r\n\r\n" not in text:
        client.settimeout(max(until - time.monotonic(), 0.01))
        piece = client.recv(REQUEST_BYTES_MAX)
        text += piece
        if not piece or len(text) > REQUEST_BYTES_MAX or time.monotonic() >= until:
            return None
    words = text.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        return None
    return words[0], words[1].partition("?")[0]


def _response(method: str, page: Page) -> bytes:
    status, kind, body = page
    head = (
        f"HTTP/1.0 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + (b"" if method == "HEAD" else body)
