"""What the command line makes of answers: an exit code that a script can tell apart."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer

import pytest

from chipmedic.errors import ChipmedicError
from chipmedic_cli.client import Client, UsageWrong, named

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


@pytest.mark.parametrize("text", ["", "  ", "../../x", "a/b", "inc?all=1", "inc#1", "a\x00"])
def test_what_is_no_id_is_not_asked_for(text: str) -> None:
    with pytest.raises(UsageWrong, match="is no incident") as caught:
        named("incident", text)
    assert caught.value.exit_code == 2


def test_a_name_is_sent_as_it_is() -> None:
    assert named("node", "gpu-017") == "gpu-017"
    assert named("job", "slurm:1 %") == "slurm%3A1%20%25"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\xff\xfe", "it is no text in UTF-8"),
        (b"two words\n", "this is no token"),
        ("ключ".encode(), "this is no token"),
        (b"a\nb", "this is no token"),
    ],
)
def test_a_file_that_holds_no_token_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, words: str
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("CHIPMEDIC_TOKEN_FILE", str(path))
    with pytest.raises(UsageWrong) as caught:
        Client("http://127.0.0.1:1")
    assert str(caught.value).startswith(f"CHIPMEDIC_TOKEN_FILE: {path}: ")
    assert words in str(caught.value)
    assert "two" not in str(caught.value)


def test_a_token_of_the_environment_is_held_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIPMEDIC_TOKEN", "secret words")
    with pytest.raises(UsageWrong, match="CHIPMEDIC_TOKEN: this is no token") as caught:
        Client("http://127.0.0.1:1")
    assert "secret" not in str(caught.value)


def test_an_authority_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_text("see the wiki")
    monkeypatch.setenv("CHIPMEDIC_CA", f"{tmp_path}/ca.pem")
    with pytest.raises(UsageWrong, match=r"--ca .*ca\.pem: holds no certificate"):
        Client("https://127.0.0.1:1")


def test_the_port_of_the_agents_is_said_to_speak_no_http() -> None:
    settings_frame = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(settings_frame)
            self.request.recv(4096)

    with TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with Client(address) as client, pytest.raises(ChipmedicError, match="speaks no HTTP there"):
            client.get("/api/v1/nodes")
