"""Operators' tokens and roles, through ASGI over a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from chipmedic.audit_chain import Head, verify
from chipmedic_watchdog.access.authority import Authority
from chipmedic_watchdog.access.roles import Role
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.web.access import Doors
from chipmedic_watchdog.web.app import Api
from intake_rig import rows

HERE = "http://127.0.0.1:7480"
ACKNOWLEDGE = "/api/v1/incidents/inc-000001/acknowledge"
OPERATOR = "/api/v1/tokens/operator"


@pytest.fixture
def api(database: Database) -> Api:
    incident = {
        "id": "inc-000001", "state": "open", "severity": 3, "kind": "chip.lost", "cause": "x/1",
        "title": "n0: lost", "root_fault": 1, "nodes": ["n0"], "jobs": [], "fault_at": 1.0,
        "opened_at": 1.0, "updated_at": 1.0,
    }  # fmt: skip
    database.write_now(lambda c: c.execute(insert(schema.incidents), [incident]))
    return Api(database, Metrics(), Health(), doors=Doors("the-shared-secret"))


class Caller:
    """Someone at another machine, with a token or without."""

    def __init__(self, api: Api, token: str = "", peer: str = "10.0.0.9") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(api.application(), client=(peer, 1))
        self.http = httpx.AsyncClient(transport=transport, base_url=HERE, headers=headers)

    async def get(self, path: str, status: int = 200) -> Any:
        answer = await self.http.get(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, status: int = 200, **body: str) -> Any:
        answer = await self.http.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
async def admin(api: Api) -> AsyncIterator[Caller]:
    caller = Caller(api, peer="127.0.0.1")
    yield caller
    await caller.http.aclose()


async def a_token(admin: Caller, role: str, name: str = "alice", **more: str) -> str:
    made = await admin.post(OPERATOR, who="root", role=role, name=name, **more)
    return str(made["token"])


@pytest.mark.parametrize(
    ("role", "may_act", "may_admit"),
    [("view", False, False), ("operate", True, False), ("admin", True, True)],
)
async def test_each_role_may_do_its_own(api, admin, role, may_act, may_admit) -> None:
    alice = Caller(api, await a_token(admin, role))
    assert (await alice.get("/api/v1/whoami"))["role"] == role
    await alice.get("/api/v1/incidents")
    refused = await alice.post(ACKNOWLEDGE, 200 if may_act else 403)
    if not may_act:
        assert refused["detail"] == "the token of alice has the role view; this needs operate"
    await alice.get("/api/v1/tokens", 200 if may_admit else 403)
    await alice.post(OPERATOR, 200 if may_admit else 403, role="admin", name="mallory")


async def test_the_name_of_the_token_is_who_did_it(api, admin, database) -> None:
    alice = Caller(api, await a_token(admin, "operate"))
    answer = await alice.post(ACKNOWLEDGE, who="bob")
    assert answer["acknowledged_by"] == "alice"
    entry = rows(database, schema.audit)[-1]
    (token,) = rows(database, schema.tokens)
    assert (entry["who"], entry["via"]) == ("alice", f"token:{token['id']}")


async def test_without_a_name_the_caller_says_who_it_is(api, admin, database) -> None:
    shared = Caller(api, "the-shared-secret")
    await shared.post(ACKNOWLEDGE, 400)
    await shared.post(ACKNOWLEDGE, who="li")
    await admin.post(ACKNOWLEDGE, who="mei")
    entries = [(row["who"], row["via"]) for row in rows(database, schema.audit)]
    assert entries == [("li", "token_file"), ("mei", "loopback")]


async def test_only_the_hash_of_a_token_is_kept_and_the_list_shows_none(api, admin, database):
    token = await a_token(admin, "view")
    (row,) = rows(database, schema.tokens)
    secret = token.split(".")[2]
    assert secret not in str(row)
    assert secret not in str(rows(database, schema.audit))
    (shown,) = (await admin.get("/api/v1/tokens"))["items"]
    assert "secret_hash" not in shown
    assert (shown["name"], shown["role"], shown["created_by"]) == ("alice", "view", "root")


async def test_a_revoked_token_opens_nothing(api, admin) -> None:
    alice = Caller(api, await a_token(admin, "view"))
    (shown,) = (await admin.get("/api/v1/tokens"))["items"]
    await admin.post(f"/api/v1/tokens/{shown['id']}/revoke", who="root", why="left")
    assert "was revoked" in (await alice.get("/api/v1/nodes", 401))["detail"]
    await admin.post(f"/api/v1/tokens/{shown['id']}/revoke", 404, who="root", why="left")


async def test_an_expired_token_opens_nothing(api, admin) -> None:
    alice = Caller(api, await a_token(admin, "view", ttl_seconds="60"))
    await alice.get("/api/v1/nodes")
    api.clock = replace(api.clock, now=lambda: Clock().now() + 61)
    assert "has expired" in (await alice.get("/api/v1/nodes", 401))["detail"]


async def test_a_token_can_be_for_ever(api, admin) -> None:
    alice = Caller(api, await a_token(admin, "view", ttl_seconds="never"))
    api.clock = replace(api.clock, now=lambda: Clock().now() + 1e9)
    await alice.get("/api/v1/nodes")


@pytest.mark.parametrize("wrong", ["cmo", "cmo..", "cmo.{id}.0000", "cmj.{id}.{secret}", "{secret}",
                                   "cmo.{id}.{secret}0", "ünïcödé"])  # fmt: skip
async def test_what_is_no_token_opens_nothing(api, admin, wrong) -> None:
    _, identity, secret = (await a_token(admin, "admin")).split(".")
    headers = {"Authorization": f"Bearer {wrong.format(id=identity, secret=secret)}".encode()}
    stranger = Caller(api)
    answer = await stranger.http.get("/api/v1/nodes", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert secret not in answer.text


async def test_loopback_can_be_less_than_admin_or_nothing(api, admin) -> None:
    api.doors = Doors(None, Role.VIEW)
    await admin.get("/api/v1/nodes")
    refused = await admin.post(ACKNOWLEDGE, 403, who="mei")
    assert "from this machine has the role view" in refused["detail"]
    api.doors = Doors(None, None)
    assert "loopback_role is none" in (await admin.get("/api/v1/nodes", 401))["detail"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"role": "root", "name": "alice"}, "role: 'root' is not one of: view, operate, admin"),
        ({"role": "view", "name": ""}, "name: required"),
        ({"role": "view", "name": "a\nb"}, "is no name"),
        ({"role": "view", "name": "a", "ttl_seconds": "1e9"}, "ttl_seconds: '1e9' is not a number"),
        ({"role": "view", "name": "a", "ttl_seconds": "0"}, "is not 1 to"),
        ({"role": "join", "name": "a"}, "role: 'join' is not one of"),
    ],
)
async def test_a_wrong_wish_is_one_clear_line(admin, body, words) -> None:
    assert words in (await admin.post(OPERATOR, 400, who="root", **body))["detail"]


async def test_a_join_token_carries_the_fingerprint_and_is_for_one_use(
    api, admin, tmp_path: Path
) -> None:
    no_authority = await admin.post("/api/v1/tokens/join", 409, who="root")
    assert "no [join]" in no_authority["detail"]
    api.authority = Authority(tmp_path / "authority")
    admin = Caller(api, peer="127.0.0.1")
    made = await admin.post("/api/v1/tokens/join", who="root", node="n1")
    kind, _, _, fingerprint = made["token"].split(".")
    assert (kind, fingerprint) == ("cmj", api.authority.fingerprint)
    assert (made["node"], made["uses_left"]) == ("n1", 1)
    refused = await admin.post("/api/v1/tokens/join", 400, who="root", node="n1", uses="2")
    assert "one use" in refused["detail"]
    stranger = Caller(api, made["token"])
    await stranger.get("/api/v1/nodes", 401)


async def test_the_audit_can_be_read_and_held_against_its_head(api, admin) -> None:
    await a_token(admin, "view")
    await admin.post(ACKNOWLEDGE, who="mei", why="重启")
    entries = (await admin.get("/api/v1/audit"))["items"]
    head = await admin.get("/api/v1/audit/head")
    assert [entry["act"] for entry in entries] == ["create token", "acknowledge"]
    assert verify(entries, [Head(head["seq"], head["hash"])]).problems == ()
