"""The HTTP interface over a real store, through ASGI."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from sqlalchemy import insert, select

from chipmedic_watchdog.health import Health
from chipmedic_watchdog.lead import lease
from chipmedic_watchdog.lead.lease import Member
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.web.access import Doors
from chipmedic_watchdog.web.app import Api

HERE = "http://127.0.0.1:7480"


def fill(database: Database) -> None:
    def work(c: Any) -> None:
        c.execute(
            insert(schema.nodes),
            [
                {"node": f"n{n}", "first_seen_at": 1.0, "last_seen_at": 2.0, "state": state}
                for n, state in enumerate(("connected", "connected", "silent", "stopped"))
            ],
        )
        c.execute(
            insert(schema.faults),
            [
                {
                    "node": f"n{n % 4}", "component": f"chip:GPU-{n}", "kind": kind,
                    "severity": severity, "action": "none", "node_since": 1.0, "opened_at": 1.0,
                    "updated_at": 1.0, "summary": "<b>bold</b>", "source": "nvidia",
                    "state": state, "incident": "inc-000001" if n == 0 else None,
                }
                for n, (kind, severity, state) in enumerate(
                    [("memory.uncorrectable", 3, "open"), ("pcie.errors", 2, "open"),
                     ("chip.reset", 1, "open"), ("chip.lost", 3, "cleared")] * 2
                )
            ],
        )  # fmt: skip
        c.execute(
            insert(schema.incidents),
            [
                {
                    "id": f"inc-{n:06d}", "state": state, "severity": 3,
                    "kind": "memory.uncorrectable", "cause": "single/1",
                    "title": "n0: <script>alert(1)</script>", "root_fault": 1, "nodes": ["n0"],
                    "jobs": ["slurm:7"], "fault_at": 1.0, "opened_at": 1.0, "updated_at": 1.0,
                }
                for n, state in ((1, "open"), (2, "resolved"))
            ],
        )  # fmt: skip
        c.execute(
            insert(schema.job_nodes),
            [
                {"job": job, "node": node, "node_at": 1.0, "received_at": 1.0, "chips": ["a", "b"],
                 "step": step, "attempt": attempt, "is_present": present, "pids": pids}
                for job, node, step, attempt, present, pids in (
                    ("slurm:7", "n0", 100, 1, True, [11]), ("slurm:7", "n1", 90, 1, True, [12]),
                    ("slurm:7", "n2", 500, 0, False, []), ("slurm:7", "n3", 80, 1, True, []),
                    ("slurm:7", "n4", 95, 0, True, []), ("local:a/b", "n3", None, 0, False, []),
                )
            ],
        )  # fmt: skip

    database.write_now(work)


@pytest.fixture
def api(database: Database) -> Api:
    fill(database)
    return Api(database, Metrics(), Health(), doors=Doors("a-secret-word"))


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(api.application())
    async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
        yield client


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_openapi_page_is_valid_and_names_every_route(client, api) -> None:
    document = await get(client, "/api/v1/openapi.json")
    validate(document)
    routes = {
        (route.path.replace(":path}", "}"), method.lower())
        for route in api.application().routes
        for method in route.methods - {"HEAD"}
    }
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert described == routes
    for item in document["paths"].values():
        for operation in item.values():
            assert len(operation["summary"]) > 10


class TestReading:
    async def test_filters(self, client) -> None:
        assert len((await get(client, "/api/v1/nodes", state="connected"))["items"]) == 2
        open_ = await get(client, "/api/v1/faults", state="open", node="n0")
        assert {f["severity"] for f in open_["items"]} == {"critical"}
        warnings = await get(client, "/api/v1/faults", severity="warning")
        assert {f["kind"] for f in warnings["items"]} == {"pcie.errors"}
        active = await get(client, "/api/v1/incidents", state="active")
        assert [i["id"] for i in active["items"]] == ["inc-000001"]
        assert len((await get(client, "/api/v1/incidents"))["items"]) == 2

    @pytest.mark.parametrize("table", ["nodes", "faults"])
    async def test_pages_hold_every_row_once(self, client, table) -> None:
        whole = (await get(client, f"/api/v1/{table}"))["items"]
        found, after = [], {}
        while True:
            page = await get(client, f"/api/v1/{table}", limit=3, **after)
            found += page["items"]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert found == whole
        assert len(whole) > 3

    async def test_one_node(self, client) -> None:
        node = await get(client, "/api/v1/nodes/n0")
        assert node["state"] == "connected"
        assert [job["job"] for job in node["jobs"]] == ["slurm:7"]
        assert {f["state"] for f in node["faults"]} == {"open"}

    async def test_one_incident(self, client) -> None:
        incident = await get(client, "/api/v1/incidents/inc-000001")
        assert [f["component"] for f in incident["faults"]] == ["chip:GPU-0"]
        assert incident["recoveries"] == []
        assert incident["severity"] == "critical"

    async def test_jobs_are_the_sum_of_their_nodes(self, client) -> None:
        jobs = {j["job"]: j for j in (await get(client, "/api/v1/jobs"))["items"]}
        assert jobs["slurm:7"]["step"] == 100, "the older attempt does not count"
        assert jobs["slurm:7"]["nodes"] == ["n0", "n1"], "where its processes live"
        assert jobs["slurm:7"]["chips"] == 4
        assert jobs["local:a/b"]["state"] == "ended"
        running = (await get(client, "/api/v1/jobs", state="running"))["items"]
        assert [job["job"] for job in running] == ["slurm:7"]
        assert (await get(client, "/api/v1/jobs/slurm:7"))["incidents"] == ["inc-000001"]
        assert (await get(client, "/api/v1/jobs/local:a/b"))["step"] is None

    @pytest.mark.parametrize("path", ["notices", "recoveries", "ledger"])
    async def test_empty_tables(self, client, path) -> None:
        assert await get(client, f"/api/v1/{path}") == {"items": [], "next": None}

    async def test_the_page_escapes_what_it_shows(self, client) -> None:
        page = (await client.get("/")).text
        assert "&lt;script&gt;" in page
        assert "<script>" not in page
        assert "inc-000001" in page
        assert "n2" in page


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "status", "words"),
        [
            ("/api/v1/nowhere", 404, "Not Found"),
            ("/api/v1/nodes/n99", 404, "n99"),
            ("/api/v1/incidents/inc-9", 404, "inc-9"),
            ("/api/v1/jobs/slurm:99", 404, "slurm:99"),
            ("/api/v1/nodes?stat=x", 400, "unknown parameter; there are: after, limit, state"),
            ("/api/v1/nodes?state=fine", 400, "not one of: connected"),
            ("/api/v1/nodes?limit=0", 400, "1 to 1000"),
            ("/api/v1/nodes?limit=9999999999999", 400, "1 to 1000"),
            ("/api/v1/nodes?limit=²", 400, "1 to 1000"),
            ("/api/v1/faults?after=x", 400, "after"),
            ("/api/v1/nodes?after=%00", 400, "after"),
        ],
    )
    async def test_each_is_a_problem_document(self, client, path, status, words) -> None:
        answer = await client.get(path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        assert words in problem["detail"]

    async def test_a_wrong_method(self, client) -> None:
        answer = await client.delete("/api/v1/nodes")
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "not JSON"),
            (b"[]", "not a JSON object"),
            (b"[" * 30_000, "not JSON"),
            (b"{}", "who: required"),
            (b'{"who": "  ", "why": "x"}', "who: required"),
            (b'{"who": 7, "why": "x"}', "who: not a text"),
            (b'{"who": "me", "why": "x", "force": "1"}', "force: unknown key"),
        ],
    )
    async def test_bad_bodies(self, client, body, words) -> None:
        answer = await client.post(
            "/api/v1/incidents/inc-000001/resolve",
            content=body,
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 400
        assert words in answer.json()["detail"]

    async def test_a_body_without_end(self, client) -> None:
        answer = await client.post(
            "/api/v1/incidents/inc-000001/resolve",
            content=b"x" * 70_000,
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == 413


class TestActs:
    async def test_acknowledge(self, client, database) -> None:
        answer = await client.post(
            "/api/v1/incidents/inc-000001/acknowledge", json={"who": "li", "why": "on it"}
        )
        assert answer.status_code == 200
        assert answer.json()["state"] == "acknowledged"
        assert answer.json()["acknowledged_by"] == "li"
        (audit,) = database.read_now(lambda c: c.execute(select(schema.audit)).mappings().all())
        assert (audit["who"], audit["act"], audit["target"]) == ("li", "acknowledge", "inc-000001")
        assert audit["detail"] == {"why": "on it"}

    async def test_the_red_switch_and_the_breaker(self, client) -> None:
        body = {"who": "mei", "why": "a wrong rule"}
        assert (await client.post("/api/v1/safety/release", json=body)).status_code == 409
        answer = await client.post("/api/v1/safety/hold", json=body)
        assert (answer.status_code, answer.json()["state"]) == (200, "on")
        safety = (await client.get("/api/v1/safety")).json()
        assert (safety["hold"]["who"], safety["hold"]["why"]) == ("mei", "a wrong rule")
        assert (safety["breaker"]["state"], safety["isolations"]) == ("closed", [])
        assert (await client.post("/api/v1/safety/release", json=body)).json()["state"] == "off"
        answer = await client.post("/api/v1/safety/reset-breaker", json=body)
        assert (answer.status_code, answer.json()["detail"]) == (
            409,
            "the breaker is closed, not open",
        )

    async def test_resolve_needs_a_reason_and_wakes_the_others(self, client, api) -> None:
        rung: list[int] = []
        api.on_act = lambda: rung.append(1)
        path = "/api/v1/incidents/inc-000001/resolve"
        assert (await client.post(path, json={"who": "li"})).status_code == 400
        answer = await client.post(path, json={"who": "li", "why": "chip replaced"})
        assert answer.json()["state"] == "resolved"
        assert answer.json()["revision"] == 2
        assert rung == [1]
        again = await client.post(path, json={"who": "li", "why": "chip replaced"})
        assert again.status_code == 409

    async def test_unknown_things(self, client) -> None:
        for path in ("incidents/inc-9/acknowledge", "recoveries/rec-9/approve"):
            answer = await client.post(f"/api/v1/{path}", json={"who": "li"})
            assert answer.status_code == 404
        for path in ("give-back", "collect"):
            body = {"who": "li", "why": "x"} if path == "give-back" else {"who": "li"}
            answer = await client.post(f"/api/v1/nodes/n1/{path}", json=body)
            assert answer.status_code == 409


class TestAccess:
    async def ask(self, api: Api, peer: str, base_url: str = HERE, **headers: str) -> int:
        transport = httpx.ASGITransport(api.application(), client=(peer, 1234))
        async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
            return (await client.get("/api/v1/nodes", headers=headers)).status_code

    async def test_another_machine_needs_the_token(self, api) -> None:
        assert await self.ask(api, "10.0.0.9") == 401
        assert await self.ask(api, "10.0.0.9", Authorization="Bearer wrong") == 401
        assert await self.ask(api, "10.0.0.9", Authorization="Basic a-secret-word") == 401
        assert await self.ask(api, "10.0.0.9", Authorization="Bearer a-secret-word") == 200

    async def test_a_proxy_is_another_machine(self, api) -> None:
        assert await self.ask(api, "127.0.0.1", **{"X-Forwarded-For": "10.0.0.9"}) == 401

    async def test_a_rebound_name_is_refused(self, api) -> None:
        assert await self.ask(api, "127.0.0.1", "http://evil.example:7480") == 403
        assert await self.ask(api, "127.0.0.1", "http://localhost:7480") == 200
        assert await self.ask(api, "::1", "http://[::1]:7480") == 200

    async def test_without_a_configured_token_none_is_right(self, api) -> None:
        api.doors = Doors(None)
        assert await self.ask(api, "10.0.0.9", Authorization="Bearer ") == 401

    async def test_a_foreign_page_cannot_post(self, client) -> None:
        answer = await client.post(
            "/api/v1/incidents/inc-000001/acknowledge",
            content=b'{"who": "evil"}',
            headers={"content-type": "text/plain"},
        )
        assert answer.status_code == 415

    async def test_probes_need_nothing(self, api) -> None:
        transport = httpx.ASGITransport(api.application(), client=("10.0.0.9", 1))
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/metrics")).status_code == 200


async def test_health_says_what_is_wrong(client, api) -> None:
    assert (await get(client, "/healthz"))["status"] == "ok"
    api.health.begin("store", "store: disk full")
    answer = await client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["problems"] == {"store": "store: disk full"}


async def test_prometheus_accepts_the_metrics(client) -> None:
    page = (await client.get("/metrics")).text
    assert 'chipmedic_faults_open{kind="memory.uncorrectable",severity="critical"} 2.0' in page
    assert 'chipmedic_incidents{state="open"} 1.0' in page
    assert 'chipmedic_nodes{state="unknown"} 0.0' in page
    try:
        check = subprocess.run(
            ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, timeout=30
        )
    except FileNotFoundError:
        pytest.skip("promtool is not installed here")
    assert (check.returncode, check.stdout + check.stderr) == (0, "")


async def test_the_watchdogs_are_listed_with_who_leads(client, database: Database) -> None:
    me = Member(id="w1", name="head:7443", http="http://127.0.0.1:7480", version="1")
    database.write_now(lambda c: lease.beat(c, me, None))
    (found,) = (await get(client, "/api/v1/watchdogs", limit=100))["items"]
    assert (found["name"], found["is_leader"], found["is_alive"]) == ("head:7443", True, True)
    assert (await get(client, "/api/v1/watchdogs", after="head:7443"))["items"] == []
