"""What the command line makes of answers: an exit code that a script can tell apart."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chipmedic.errors import ChipmedicError
from chipmedic_cli.client import Client

ANSWERS = {
    "/denied": (401, json.dumps({"title": "no token", "detail": "no token of a watchdog"})),
    "/role": (403, json.dumps({"detail": "needs the role operate"})),
    "/gone": (404, json.dumps({"detail": "no incident inc-000009"})),
    "/taken": (409, json.dumps({"detail": "it is resolved already"})),
    "/broken": (500, "<html>Internal Server Error</html>"),
    "/elsewhere": (404, "<html>404 Not Found</html>"),
    "/page": (200, "<html>It works!</html>"),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = ANSWERS[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "exit_code", "words"),
    [
        ("/denied", 3, "no token of a watchdog"),
        ("/role", 3, "needs the role operate"),
        ("/gone", 1, "no incident inc-000009"),
        ("/taken", 1, "it is resolved already"),
        ("/broken", 3, "500 Internal Server Error: is that a chipmedic watchdog?"),
        ("/elsewhere", 3, "404 Not Found: is that a chipmedic watchdog?"),
        ("/page", 3, "this is no chipmedic watchdog"),
    ],
)
def test_who_got_no_answer_is_told_apart_from_who_was_answered_no(
    url: str, path: str, exit_code: int, words: str
) -> None:
    with Client(url) as client, pytest.raises(ChipmedicError, match=words.replace("?", r"\?")) as e:
        client.get(path)
    assert getattr(e.value, "exit_code", 1) == exit_code
