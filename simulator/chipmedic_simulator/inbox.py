"""Two places where notices arrive: a person's pager and the desk's webhook.

    python -m chipmedic_simulator.inbox pager FOLDER          # one notice on standard input
    python -m chipmedic_simulator.inbox desk FOLDER --port P --secret-file F

Each notice becomes a file. The desk checks the signature and the age of what it gets, as a receiver
should, and refuses the rest with 401; a notice that comes twice has the same name twice.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from chipmedic_simulator.host_root import write

BODY_BYTES_MAX = 1 << 20
AGE_SECONDS_MAX = 300.0
RESOLVED = "resolved"
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class Page:
    """A notice as a person got it."""

    at: float
    incident: str
    is_resolved: bool
    text: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notice as the desk's program got it, its signature checked."""

    at: float
    id: str
    data: dict[str, Any]


def pages(inbox: Path) -> list[Page]:
    """Return what the pager has shown, oldest first."""
    return [_page(path) for path in sorted((inbox / "pager").glob("*.txt"))]


def _page(path: Path) -> Page:
    at, incident, state = path.stem.split("_")
    return Page(float(at), incident, state == RESOLVED, path.read_text(encoding="utf-8"))


def deliveries(inbox: Path) -> list[Delivery]:
    """Return what the desk has accepted, oldest first."""
    found = [json.loads(path.read_text("utf-8")) for path in (inbox / "desk").glob("*.json")]
    return sorted((Delivery(**one) for one in found), key=lambda delivery: delivery.at)


def keep_page(inbox: Path, text: str, environment: Mapping[str, str]) -> None:
    """Keep what a person is shown; the environment says of which incident it is."""
    incident = _UNSAFE.sub("-", environment.get("CHIPMEDIC_INCIDENT", "")) or "unknown"
    state = RESOLVED if environment.get("CHIPMEDIC_IS_RESOLVED") == "1" else "open"
    write(inbox / "pager" / f"{time.time():.6f}_{incident}_{state}.txt", text)


def is_signed(headers: dict[str, str], body: bytes, secret: bytes, now: float) -> bool:
    """Say whether a request is from somebody who has the key, and new."""
    stamp = headers.get("x-chipmedic-timestamp", "")
    if not re.fullmatch(r"\d{1,12}(\.\d+)?", stamp) or abs(now - float(stamp)) > AGE_SECONDS_MAX:
        return False
    digest = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    given = headers.get("x-chipmedic-signature", "")
    return hmac.compare_digest(f"sha256={digest}".encode(), given.encode())


def desk(folder: Path, port: int, secret: bytes) -> ThreadingHTTPServer:
    """Return the desk's server, bound to loopback; port 0 takes a free one."""

    class Desk(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Take in one notice."""
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
                self.send_error(413 if length.isdecimal() else 411)
                return
            body = self.rfile.read(int(length))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if not is_signed(headers, body, secret, time.time()):
                self.send_error(401, "not signed with our key, or too old")
                return
            self._keep(headers.get("x-chipmedic-notice-id", ""), body)

        def _keep(self, notice: str, body: bytes) -> None:
            try:
                data = json.loads(body)
            except ValueError:
                self.send_error(400, "no JSON")
                return
            kept = {"at": time.time(), "id": notice, "data": data}
            path = folder / f"{_UNSAFE.sub('_', notice)[:150] or 'unnamed'}.json"
            if not path.exists():
                write(path, json.dumps(kept, ensure_ascii=False))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing: what arrived is in the folder."""

    return ThreadingHTTPServer(("127.0.0.1", port), Desk)


def main(argv: list[str] | None = None) -> int:
    """Be the pager for one notice, or the desk until it is ended."""
    parser = argparse.ArgumentParser(prog="inbox", description="Where notices arrive.")
    parser.add_argument("place", choices=("pager", "desk"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--secret-file", type=Path)
    given = parser.parse_args(argv)
    if given.place == "pager":
        keep_page(given.folder, sys.stdin.read(), os.environ)
        return 0
    if given.secret_file is None:
        parser.error("desk needs --secret-file")
    secret = given.secret_file.read_text(encoding="utf-8").strip().encode()
    with desk(given.folder / "desk", given.port, secret) as server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
