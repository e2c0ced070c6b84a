"""Where notices arrive: the pager's files and the desk that checks signatures."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic_simulator.inbox import deliveries, desk, is_signed, keep_page, pages

SECRET = b"a key"
BODY = json.dumps({"incident": "inc-000004"}).encode()


def signed(body: bytes, *, at: float | None = None, secret: bytes = SECRET) -> dict[str, str]:
    stamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {
        "X-Chipmedic-Timestamp": stamp,
        "X-Chipmedic-Signature": f"sha256={digest}",
        "X-Chipmedic-Notice-Id": "inc-000004/opened-1/desk",
    }


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with desk(tmp_path / "desk", 0, SECRET) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/notices"
        server.shutdown()
        thread.join()


def post(address: str, body: bytes, headers: dict[str, str]) -> int:
    request = urllib.request.Request(address, body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as e:
        with e:
            return e.code


def test_a_signed_notice_is_kept_once(address: str, tmp_path: Path) -> None:
    for _ in range(2):  # at least once is what the watchdog promises
        assert post(address, BODY, signed(BODY)) == 204
    (one,) = deliveries(tmp_path)
    assert (one.id, one.data) == ("inc-000004/opened-1/desk", {"incident": "inc-000004"})
    assert abs(one.at - time.time()) < 5


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (BODY, dict, 401),
        (BODY, lambda: signed(BODY, secret=b"another key"), 401),
        (BODY + b" ", lambda: signed(BODY), 401),
        (BODY, lambda: signed(BODY, at=time.time() - 3600), 401),
        (b"no JSON", lambda: signed(b"no JSON"), 400),
    ],
)
def test_what_is_not_ours_is_refused(
    address: str, tmp_path: Path, body: bytes, headers: Callable[[], dict[str, str]], status: int
) -> None:
    assert post(address, body, headers()) == status
    assert deliveries(tmp_path) == []


def test_a_name_leads_nowhere_else(address: str, tmp_path: Path) -> None:
    headers = signed(BODY) | {"X-Chipmedic-Notice-Id": "../../etc/../evil"}
    assert post(address, BODY, headers) == 204
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["desk"]


@given(
    st.dictionaries(
        st.sampled_from(["x-chipmedic-timestamp", "x-chipmedic-signature"]), st.text(), max_size=2
    ),
    st.binary(max_size=50),
)
def test_no_header_and_no_body_passes_unsigned(headers: dict[str, str], body: bytes) -> None:
    assert not is_signed(headers, body, SECRET, time.time())


def test_pages_are_kept_in_order(tmp_path: Path) -> None:
    for text, is_resolved in (("first\n", "0"), ("second\n", "1")):
        about = {"CHIPMEDIC_INCIDENT": "inc-000001", "CHIPMEDIC_IS_RESOLVED": is_resolved}
        keep_page(tmp_path, text, about)
    found = [(page.text, page.incident, page.is_resolved) for page in pages(tmp_path)]
    assert found == [("first\n", "inc-000001", False), ("second\n", "inc-000001", True)]


def test_the_pager_is_a_program(tmp_path: Path) -> None:
    argv = [sys.executable, "-P", "-m", "chipmedic_simulator.inbox", "pager", str(tmp_path)]
    subprocess.run(argv, input="内存不可纠正错误\n".encode(), check=True, timeout=20)
    assert [page.text for page in pages(tmp_path)] == ["内存不可纠正错误\n"]
