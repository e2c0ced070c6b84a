"""The ledger over a real store: what the loop writes, what is summed up, what is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate
from sqlalchemy import Table, insert, update

from chipmedic_watchdog.health import Health
from chipmedic_watchdog.ledger.loop import LedgerLoop
from chipmedic_watchdog.ledger.summary import report, summary
from chipmedic_watchdog.ledger.text import LANGUAGES, duration, percent, render_text, width
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.web.app import Api
from intake_rig import rows
from waiting import eventually

JOB = "slurm:77"
T0 = 1_790_000_000.0
GOLDEN = Path(__file__).parent / "golden"
TITLE = "gpu-1: uncorrectable memory error on chip 3"


def put(database: Database, table: Table, *values: dict[str, Any]) -> None:
    database.write_now(lambda c: c.execute(insert(table), list(values)))


def progress(at: float, step: int | None, attempt: int = 0, **more: Any) -> dict[str, Any]:
    return {"job": JOB, "at": T0 + at, "step": step, "attempt": attempt, "phase": "train",
            "checkpoint_seconds": 0.0, "mark": "", **more}  # fmt: skip


def node(name: str = "n1", *, job: str = JOB, received_at: float = 100.0, pids: Any = (41,)):
    return {"job": job, "node": name, "node_at": T0, "received_at": T0 + received_at,
            "pids": list(pids)}  # fmt: skip


def an_incident(id_: str = "inc-000004", opened_at: float = 101.0, **more: Any) -> dict[str, Any]:
    return {"id": id_, "state": "open", "severity": 3, "kind": "memory.uncorrectable",
            "cause": "single/1", "title": TITLE, "jobs": [JOB], "fault_at": T0 + opened_at,
            "opened_at": T0 + opened_at, "updated_at": T0 + opened_at, **more}  # fmt: skip


def a_recovery(id_: str, incident: str, state: str, updated_at: float) -> dict[str, Any]:
    return {"id": id_, "incident": incident, "adapter": "slurm", "mode": "act", "state": state,
            "created_at": T0 + 101.5, "updated_at": T0 + updated_at}  # fmt: skip


def a_step(recovery: str, number: int, kind: str, target: str, started: float | None,
           done: float | None = None) -> dict[str, Any]:  # fmt: skip
    state = "planned" if started is None else ("doing" if done is None else "done")
    return {"recovery": recovery, "number": number, "kind": kind, "target": target,
            "description": "", "timeout_seconds": 60.0, "state": state,
            "started_at": started and T0 + started, "done_at": done and T0 + done}  # fmt: skip


def stages(database: Database, **columns: Any) -> list[tuple[Any, ...]]:
    found = sorted(rows(database, schema.ledger), key=lambda r: (r["start_at"], r["id"]))
    return [
        (r["phase"], r["start_at"] - T0, r["end_at"] and r["end_at"] - T0, r["incident"])
        for r in found
        if all(r[name] == value for name, value in columns.items())
    ]


def loop_at(database: Database, seconds: list[float]) -> LedgerLoop:
    return LedgerLoop(database, now=lambda: T0 + seconds[0])


def fail_and_recover(database: Database) -> None:
    put(database, schema.job_progress, progress(0, 0, mark="start"), progress(100, 100),
        progress(112, 91, 1, mark="start"), progress(121, 100, 1),
        progress(122, 101, 1, mark="overtake"),
        progress(150, 125, 1, checkpoint_seconds=5.0))  # fmt: skip
    put(database, schema.job_nodes, node(received_at=150))
    put(database, schema.incidents, an_incident())
    put(database, schema.recoveries, a_recovery("rec-000001", "inc-000004", "done", 122))
    put(database, schema.recovery_steps,
        a_step("rec-000001", 1, "isolate", "gpu-1", 102, 103),
        a_step("rec-000001", 2, "restart", JOB, 103.5, 111))  # fmt: skip


class TestLoop:
    async def test_a_loss_is_written_as_it_grows_and_keeps_its_rows(
        self, database: Database
    ) -> None:
        now = [101.0]
        loop = loop_at(database, now)
        put(database, schema.job_progress, progress(0, 0, mark="start"), progress(100, 100))
        put(database, schema.job_nodes, node())
        await loop.look()
        assert stages(database) == []
        put(database, schema.incidents, an_incident())
        put(database, schema.recoveries, a_recovery("rec-000001", "inc-000004", "running", 102))
        put(database, schema.recovery_steps,
            a_step("rec-000001", 1, "isolate", "gpu-1", 102, 103),
            a_step("rec-000001", 2, "restart", JOB, 103.5))  # fmt: skip
        now[0] = 104.0
        await loop.look()
        assert stages(database) == [
            ("detect", 0 + 100, 101, "inc-000004"),
            ("decide", 101, 102, "inc-000004"),
            ("isolate", 102, 103.5, "inc-000004"),
            ("restart", 103.5, None, "inc-000004"),
        ]
        first = rows(database, schema.ledger)
        put(database, schema.job_progress, progress(112, 91, 1, mark="start"))
        now[0] = 113.0
        await loop.look()
        assert stages(database)[3:] == [
            ("restart", 103.5, 112, "inc-000004"),
            ("recompute", 112, None, "inc-000004"),
        ]
        second = rows(database, schema.ledger)
        assert [r["id"] for r in second[:4]] == [r["id"] for r in first]
        put(database, schema.job_progress, progress(121, 100, 1), progress(131, 110, 1))
        now[0] = 131.0
        await loop.look()
        assert stages(database)[4:] == [("recompute", 112, 121, "inc-000004")]

    async def test_a_job_that_steps_writes_nothing_and_silence_is_noticed(
        self, database: Database
    ) -> None:
        now = [110.0]
        loop = loop_at(database, now)
        put(database, schema.job_progress, progress(0, 0, mark="start"), progress(100, 100))
        put(database, schema.job_nodes, node())
        await loop.look()
        assert stages(database) == []
        now[0] = 119.0
        await loop.look()
        assert stages(database) == [("unexplained", 100, None, None)]
        late = update(schema.job_progress).where(schema.job_progress.c.at == T0 + 100)
        database.write_now(lambda c: c.execute(late.values(at=T0 + 118, step=118)))
        await loop.look()
        assert stages(database) == [], "the reports were late, the steps were not"

    async def test_it_starts_anew_where_it_was_killed(self, database: Database) -> None:
        fail_and_recover(database)
        await loop_at(database, [150.0]).look()
        written = rows(database, schema.ledger)
        assert [r["phase"] for r in written] == [
            "detect", "decide", "isolate", "restart", "recompute",
        ]  # fmt: skip
        await loop_at(database, [151.0]).look()
        assert rows(database, schema.ledger) == written

    async def test_it_runs_when_it_is_woken_and_survives_a_refusing_store(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("chipmedic_watchdog.ledger.loop.SPACING_SECONDS", 0.01)
        loop = loop_at(database, [150.0])
        database.write_now(lambda c: c.exec_driver_sql("ALTER TABLE ledger RENAME TO away"))
        task = asyncio.create_task(loop.run())
        await asyncio.sleep(0.1)
        database.write_now(lambda c: c.exec_driver_sql("ALTER TABLE away RENAME TO ledger"))
        fail_and_recover(database)
        await eventually(lambda: loop.wake() or len(stages(database)) == 5)
        assert not task.done()
        task.cancel()

    async def test_a_job_without_steps_has_no_losses(self, database: Database) -> None:
        put(database, schema.job_progress, progress(0, None, mark="start"))
        put(database, schema.job_nodes, node(received_at=900))
        put(database, schema.incidents, an_incident())
        await loop_at(database, [900.0]).look()
        assert stages(database) == []


class TestSummary:
    def test_the_parts_are_the_whole(self, database: Database) -> None:
        fail_and_recover(database)
        made = database.read_now(lambda c: summary(c, JOB, T0 + 150))
        assert made is not None
        assert sum(made["seconds"].values()) == made["wall_seconds"] == 150
        assert made["seconds"]["checkpoint"] == 5
        (loss,) = made["losses"]
        assert (loss["incident"], loss["seconds"]) == ("inc-000004", 21)
        assert [(s["phase"], s["seconds"]) for s in loss["stages"]] == [
            ("detect", 1), ("decide", 1), ("isolate", 1.5), ("restart", 8.5), ("recompute", 9),
        ]  # fmt: skip
        assert made["effective_ratio"] == (150 - 21 - 5) / 150
        assert made["incidents"] == {"inc-000004": {"kind": "memory.uncorrectable", "title": TITLE}}

    @pytest.mark.parametrize(
        ("pids", "received_at", "incident_state", "is_over"),
        [
            ((41,), 150, "resolved", False),
            ((), 150, "resolved", True),
            ((), 150, "open", False),
            ((41,), -500, "resolved", True),
        ],
    )
    def test_when_a_job_is_over(
        self, database: Database, pids: Any, received_at: float, incident_state: str, is_over: bool
    ) -> None:
        put(database, schema.job_progress, progress(0, 0, mark="start"), progress(100, 100))
        put(database, schema.job_nodes, node(received_at=received_at, pids=pids))
        resolved_at = T0 + 120 if incident_state == "resolved" else None
        put(database, schema.incidents, an_incident(state=incident_state, resolved_at=resolved_at))
        made = database.read_now(lambda c: summary(c, JOB, T0 + 150))
        assert made is not None
        assert made["is_over"] is is_over
        assert made["end_at"] == T0 + (100 if is_over else 150)

    def test_a_step_that_never_ended_ends_with_its_recovery(self, database: Database) -> None:
        put(database, schema.job_progress, progress(0, 0, mark="start"), progress(100, 100),
            progress(300, 101, 1, mark="start"), progress(400, 201, 1),
            progress(500, 202, 2, mark="start"))  # fmt: skip
        put(database, schema.incidents, an_incident())
        put(database, schema.recoveries, a_recovery("rec-000001", "inc-000004", "held", 200))
        put(database, schema.recovery_steps, a_step("rec-000001", 1, "restart", JOB, 102))
        made = database.read_now(lambda c: summary(c, JOB, T0 + 500))
        assert made is not None
        assert [s["phase"] for s in made["losses"][0]["stages"]] == ["detect", "decide", "restart"]
        assert [s["phase"] for s in made["losses"][1]["stages"]] == ["detect", "decide"], (
            "the incident is open still; what was held long ago restarts nothing now"
        )

    def test_the_report_sums_up_what_moved_lately(self, database: Database) -> None:
        fail_and_recover(database)
        put(database, schema.job_progress, {**progress(-900, 0, mark="start"), "job": "old"},
            {**progress(-800, 9), "job": "old"},
            {**progress(140, None, mark="start"), "job": "mute"})  # fmt: skip
        put(database, schema.job_nodes, node(job="mute", received_at=150))
        made = database.read_now(lambda c: report(c, T0, T0 + 150))
        assert [job["job"] for job in made["jobs"]] == [JOB, "mute"]
        assert (made["wall_seconds"], made["jobs_without_steps"]) == (150, 1)
        assert made["effective_ratio"] == 124 / 150
        assert database.read_now(lambda c: report(c, T0 + 9e9))["effective_ratio"] is None


class TestText:
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_it_reads_as_the_golden_file(self, database: Database, language: str) -> None:
        fail_and_recover(database)
        put(database, schema.job_progress, progress(3000, 2500, 1),
            progress(3600, None, 2, mark="start"), progress(3700, 2600, 2))  # fmt: skip
        over = {"state": "resolved", "resolved_at": T0 + 130}
        database.write_now(lambda c: c.execute(update(schema.incidents).values(over)))
        made = database.read_now(lambda c: summary(c, JOB, T0 + 3700))
        assert made is not None
        text = render_text(made, language)
        assert text + "\n" == (GOLDEN / f"ledger.{language}.txt").read_text(encoding="utf-8")

    def test_words_are_complete_and_columns_are_straight(self, database: Database) -> None:
        fail_and_recover(database)
        made = database.read_now(lambda c: summary(c, JOB, T0 + 150))
        assert made is not None
        for language in LANGUAGES:
            lines = render_text(made, language).split("\n\n")[1].splitlines()
            assert len({width(line) for line in lines}) == 1

    def test_a_job_without_steps_says_what_to_do(self, database: Database) -> None:
        put(database, schema.job_progress, progress(0, None, mark="start"))
        made = database.read_now(lambda c: summary(c, JOB, T0 + 5))
        assert made is not None
        assert "chipmedic.beat" in render_text(made)
        assert "chipmedic.beat" in render_text(made, "zh")

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3700, "1 h 1 min"),
         (90_000, "1 d 1 h"), (1e7, "115 d 17 h")],
    )  # fmt: skip
    def test_durations(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text

    @pytest.mark.parametrize(
        ("ratio", "text"),
        [(1.0, "100.0 %"), (0.99999, "99.99 %"), (0.5, "50.0 %"), (0.9899, "98.9 %"), (0, "0.0 %")],
    )  # fmt: skip
    def test_a_percentage_never_flatters(self, ratio: float, text: str) -> None:
        assert percent(ratio) == text


class TestApi:
    @pytest.fixture
    def client(self, database: Database) -> httpx.AsyncClient:
        fail_and_recover(database)
        put(database, schema.job_progress, {**progress(0, 4, mark="start"), "job": "local:a/b"})
        api = Api(database, Metrics(), Health())
        transport = httpx.ASGITransport(api.application())
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7480")

    async def test_a_job_and_its_text(self, client: httpx.AsyncClient) -> None:
        found = (await client.get(f"/api/v1/jobs/{JOB}/ledger")).json()
        assert found["losses"][0]["incident"] == "inc-000004"
        assert "isolate" in found["text"]
        chinese = (await client.get(f"/api/v1/jobs/{JOB}/ledger", params={"language": "zh"})).json()
        assert "隔离" in chinese["text"]
        assert (await client.get("/api/v1/jobs/local:a/b/ledger")).json()["job"] == "local:a/b"

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/api/v1/jobs/nobody/ledger", 404),
            (f"/api/v1/jobs/{JOB}/ledger?language=xx", 400),
            ("/api/v1/report?since=yesterday", 400),
            ("/api/v1/report?since=nan", 400),
            ("/api/v1/report?since=1e999", 400),
            ("/api/v1/report", 200),
        ],
    )
    async def test_refusals(self, client: httpx.AsyncClient, path: str, status: int) -> None:
        assert (await client.get(path)).status_code == status

    async def test_the_report_and_its_description(self, client: httpx.AsyncClient) -> None:
        found = (await client.get("/api/v1/report", params={"since": T0})).json()
        assert {job["job"] for job in found["jobs"]} == {JOB, "local:a/b"}
        document = (await client.get("/api/v1/openapi.json")).json()
        validate(document)
        described = document["components"]["schemas"]
        assert set(found) == set(described["Report"]["properties"])
        account = (await client.get(f"/api/v1/jobs/{JOB}/ledger")).json()
        assert set(account) == set(described["JobLedger"]["properties"])
