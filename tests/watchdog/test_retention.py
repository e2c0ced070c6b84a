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
    await Retention(database, keep_days=90).purge(before=21.0)
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


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_the_jobs_of_a_node_are_found_without_reading_those_of_all(database: Database) -> None:
    """Ten thousand nodes ask for theirs with each snapshot."""
    query = (
        "EXPLAIN QUERY PLAN UPDATE job_nodes SET is_present = 0 "
        "WHERE node = 'n1' AND is_present IS 1 AND job NOT IN ('slurm:1')"
    )
    plan = database.read_now(lambda c: [str(row) for row in c.exec_driver_sql(query)])
    assert not any("SCAN" in step for step in plan), plan
