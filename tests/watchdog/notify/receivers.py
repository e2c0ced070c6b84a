"""Real receivers on loopback: an HTTP server that answers from a list, and a mail server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

Answer = tuple[int, dict[str, str]]


@dataclass
class Request:
    headers: dict[str, str]
    body: bytes
    method: str = "POST"
    path: str = ""


@dataclass
class HttpReceiver:
    """Answers each request with the next of `answers`, then with 200; keeps every request."""

    answers: list[Answer] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """What the answers say, one after the other; then `ok`, or `not now` where it refuses."""
    before_answer: Callable[[], object] = lambda: None
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> HttpReceiver:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = Request(dict(self.headers), body, self.command, self.path)
                receiver.requests.append(request)
                receiver.before_answer()
                status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                usual = b"not now" if status >= 400 else b"ok"
                self.wfile.write(receiver.bodies.pop(0) if receiver.bodies else usual)

            do_GET = do_POST  # noqa: N815 - the name that http.server looks for

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/chipmedic"


class Mailbox:
    """A mail server that keeps what it gets, or refuses it."""

    def __init__(self, refusal: str = "") -> None:
        self.mails: list[Message] = []
        self._refusal = refusal
        self.port = unused_port()  # its controller cannot say which one it got for 0
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        del server, session
        if self._refusal:
            return self._refusal
        self.mails.append(message_from_bytes(envelope.content))
        return "250 accepted"

    def __enter__(self) -> Mailbox:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


def unused_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
