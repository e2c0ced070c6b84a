"""The door for joins, through ASGI: what is no request costs nothing and is one clear line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chipmedic_agent.enrol import make_request
from chipmedic_watchdog.access import join_app, tokens
from chipmedic_watchdog.access.authority import Authority
from chipmedic_watchdog.access.join_app import JoinApp
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from intake_rig import rows


@pytest.fixture
def app(database: Database, tmp_path: Path) -> JoinApp:
    return JoinApp(database, Authority(tmp_path / "authority"), Metrics(), 3600.0)


@pytest.fixture
async def client(app: JoinApp) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app.application(), client=("10.0.0.9", 1))
    async with httpx.AsyncClient(transport=transport, base_url="https://w:7444") as client:
        yield client


def token(database: Database, **wish: Any) -> str:
    granted = tokens.Granted(role="join", name="", uses=wish.pop("uses", 1), **wish)
    made = database.write_now(lambda c: tokens.create(c, granted, who="root", now=1.0))
    return str(made["token"])


async def test_a_good_request_gets_a_certificate_and_takes_one_use(client, database) -> None:
    _, csr = make_request("n1")
    wish = {"token": token(database), "node": "n1", "csr": csr}
    answer = await client.post("/join", json=wish)
    assert answer.status_code == 200
    assert answer.json()["authority"] == (await client.get("/ca.pem")).text
    (row,) = rows(database, schema.certificates)
    assert row["node"] == "n1"
    again = await client.post("/join", json={**wish, "node": "n2"})
    assert (again.status_code, "used up" in again.json()["detail"]) == (403, True)


async def test_a_bad_request_takes_no_use_of_the_token(client, database) -> None:
    text = token(database)
    answer = await client.post("/join", json={"token": text, "node": "n1", "csr": "nonsense"})
    assert (answer.status_code, "csr" in answer.json()["detail"]) == (403, True)
    (row,) = rows(database, schema.tokens)
    assert row["uses_left"] == 1
    assert rows(database, schema.certificates) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[" * 20_000, "not JSON"),
        (b"[]", "not an object of"),
        (b'{"token": "t", "node": "n"}', "not an object of"),
        (b'{"token": "t", "node": "n", "csr": 7}', "is no text"),
        (b'{"token": "t\\u0000", "node": "n", "csr": "c"}', "is no text"),
        (b'{"token": "t", "node": "", "csr": "c"}', "is no node name"),
        (b'{"token": "t", "node": "a\\nb", "csr": "c"}', "is no node name"),
        (b"x" * 40_000, "over 32768 bytes"),
    ],
)
async def test_what_is_no_request_is_one_line(client, body: bytes, words: str) -> None:
    answer = await client.post("/join", content=body)
    assert answer.status_code == 400
    assert words in answer.json()["detail"]


async def test_whoever_guesses_is_slowed_down_and_others_are_not(
    app, client, database, caplog
) -> None:
    _, csr = make_request("n1")
    guess = {"token": "cmj.00000000.guess.x", "node": "n1", "csr": csr}
    codes = [
        (await client.post("/join", json=guess)).status_code
        for _ in range(int(join_app.REFUSALS_BURST) + 10)
    ]
    assert codes[0] == 403
    assert codes[-1] == 429
    assert caplog.text.count("node not joined") <= join_app.REFUSALS_BURST + 1
    transport = httpx.ASGITransport(app.application(), client=("10.0.0.8", 1))
    async with httpx.AsyncClient(transport=transport, base_url="https://w:7444") as other:
        wish = {"token": token(database), "node": "n1", "csr": csr}
        assert (await other.post("/join", json=wish)).status_code == 200
