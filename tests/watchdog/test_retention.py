"""Old events and progress go, everything else stays."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert

from chipmedic_watchdog import retention
from chipmedic_watchdog.retention import Retention
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from intake_rig import rows


def fill(connection: Any) -> None:
    event = {"epoch": "e", "boot_id": "", "node_at": 0.0, "transition": "raised", "component": "",
             "kind": "", "severity": 0, "body": {}}  # fmt: skip
    events = [
        {**event, "node": f"n{n % 3}", "seq": n, "received_at": float(n)} for n in range(1, 31)
    ]
    connection.execute(insert(schema.events), events)
    progress = [
        {"job": job, "at": float(n), "step": n}
        for job, last in (("slurm:1", 31), ("slurm:2", 21))
        for n in range(1, last)
    ]
    connection.execute(insert(schema.job_progress), progress)
    places = [
        {"job": f"slurm:{n}", "node": f"n{n % 3}", "node_at": 0.0, "received_at": float(n),
         "is_present": n > 28}
        for n in range(1, 31)
    ]  # fmt: skip
    connection.execute(insert(schema.job_nodes), places)
    epoch = {"node": "n1", "epoch": "e", "acked_seq": 30, "created_at": 1.0}
    connection.execute(insert(schema.epochs), [epoch])


async def test_what_is_older_goes_in_batches(database: Database, monkeypatch) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 7)
    monkeypatch.setattr(retention, "BATCH_JOBS", 1)
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.0)
    database.write_now(fill)
    retention_ = Retention(database, keep_days=90)
    await retention_.purge(before=21.0)
    await retention_.purge(21.0, retention.purge_jobs)
    assert sorted(e["seq"] for e in rows(database, schema.events)) == list(range(21, 31))
    kept = [(p["job"], p["step"]) for p in rows(database, schema.job_progress)]
    assert kept == [("slurm:1", n) for n in range(1, 31)], "whole jobs go, once they have ended"
    places = {p["received_at"] for p in rows(database, schema.job_nodes)}
    assert places == {float(n) for n in range(21, 31)}, "where ended jobs ran is forgotten too"
    assert rows(database, schema.epochs)[0]["acked_seq"] == 30, "no event comes twice for it"


async def test_zero_keeps_everything(database: Database) -> None:
    database.write_now(fill)
    await Retention(database, keep_days=0).run()
    assert len(rows(database, schema.events)) == 30


INCIDENTS = {  # name -> (state, end, state of its fault, state of its recovery, isolated)
    "inc-1": ("resolved", 10.0, "cleared", "done", False),
    "inc-2": ("resolved", 10.0, "unknown", "done", False),
    "inc-3": ("resolved", 10.0, "cleared", "held", False),
    "inc-4": ("resolved", 10.0, "cleared", "done", True),
    "inc-5": ("resolved", 90.0, "cleared", "done", False),
    "inc-6": ("open", None, "cleared", "not_taken", False),
    "inc-7": ("resolved", 11.0, "cleared", "not_taken", False),
}


def fill_incidents(connection: Any) -> None:
    for number, (name, (state, end, fault, recovery, is_out)) in enumerate(INCIDENTS.items(), 1):
        connection.execute(insert(schema.incidents).values(
            id=name, state=state, severity=3, kind="chip.lost", cause="single/1", title="t",
            fault_at=1.0, opened_at=1.0, updated_at=1.0, resolved_at=end,
        ))  # fmt: skip
        put_old_fault(connection, f"n{number}", fault, incident=name)
        connection.execute(insert(schema.recoveries).values(
            id=f"rec-{number}", incident=name, adapter="slurm", mode="act", state=recovery,
            created_at=1.0, updated_at=1.0,
        ))  # fmt: skip
        connection.execute(insert(schema.recovery_steps).values(
            recovery=f"rec-{number}", number=1, kind="isolate", target="n", description="d",
            timeout_seconds=1.0, state="done",
        ))  # fmt: skip
        connection.execute(insert(schema.isolations).values(
            node=f"n{number}", adapter="slurm", incident=name, reason="r", isolated_at=1.0,
            returned_at=None if is_out else 5.0,
        ))  # fmt: skip
        connection.execute(insert(schema.notices).values(
            id=f"{name}/1", incident=name, occasion="opened", channel="c", created_at=1.0,
            state="delivered", next_attempt_at=1.0, severity=3, title="t", body="b", data={},
        ))  # fmt: skip
        connection.execute(insert(schema.notice_marks).values(
            incident=name, revision=1, severity=3, marked_at=1.0
        ))  # fmt: skip
        connection.execute(insert(schema.audit).values(
            at=1.0, who="ada", act="acknowledge", target=name
        ))  # fmt: skip
    put_old_fault(connection, "n8", "cleared")
    put_old_fault(connection, "n9", "open")


def put_old_fault(connection: Any, node: str, state: str, **values: Any) -> None:
    connection.execute(insert(schema.faults).values(
        node=node, component="chip:a", kind="chip.lost", severity=3, action="none",
        node_since=1.0, opened_at=1.0, updated_at=1.0, summary="s", source="x", state=state,
        cleared_at=9.0 if state == "cleared" else None, **values,
    ))  # fmt: skip


async def test_old_incidents_go_with_all_that_is_theirs(database: Database, monkeypatch) -> None:
    """And stay where anything about them is not over; the audit stays anyway."""
    monkeypatch.setattr(retention, "BATCH_INCIDENTS", 1)
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.0)
    database.write_now(fill_incidents)
    await Retention(database, 0, 10).purge(50.0, retention.purge_incidents)
    kept = {"inc-2", "inc-3", "inc-4", "inc-5", "inc-6"}
    assert {row["id"] for row in rows(database, schema.incidents)} == kept
    for table in (
        schema.recoveries, schema.isolations, schema.notices, schema.notice_marks,
    ):  # fmt: skip
        assert {row["incident"] for row in rows(database, table)} == kept, table.name
    assert {row["recovery"] for row in rows(database, schema.recovery_steps)} == {
        f"rec-{number}" for number in range(2, 7)
    }
    nodes = {row["node"] for row in rows(database, schema.faults)}
    assert nodes == {"n2", "n3", "n4", "n5", "n6", "n9"}, "faults in no incident go by their end"
    assert len(rows(database, schema.audit)) == len(INCIDENTS)


async def test_old_digests_and_silences_go(database: Database) -> None:
    def fill(connection: Any) -> None:
        for number, at in enumerate((1.0, 90.0)):
            connection.execute(insert(schema.notices).values(
                id=f"digest/{number}", incident="", occasion="digest", channel="c", created_at=at,
                state="delivered", next_attempt_at=at, severity=3, title="t", body="b", data={},
            ))  # fmt: skip
            connection.execute(insert(schema.silences).values(
                id=f"sil-{number}", kind="silence", matchers=[], starts_at=0.0, ends_at=at,
                why="w", created_at=0.0, created_by="ada",
            ))  # fmt: skip

    database.write_now(fill)
    await Retention(database, 0, 10).purge(50.0, retention.purge_incidents)
    assert [row["id"] for row in rows(database, schema.notices)] == ["digest/1"]
    assert [row["id"] for row in rows(database, schema.silences)] == ["sil-1"]


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_the_jobs_of_a_node_are_found_without_reading_those_of_all(database: Database) -> None:
    """Ten thousand nodes ask for theirs with each snapshot."""
    query = (
        "EXPLAIN QUERY PLAN UPDATE job_nodes SET is_present = 0 "
        "WHERE node = 'n1' AND is_present IS 1 AND job NOT IN ('slurm:1')"
    )
    plan = database.read_now(lambda c: [str(row) for row in c.exec_driver_sql(query)])
    assert not any("SCAN" in step for step in plan), plan
