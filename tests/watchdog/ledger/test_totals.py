"""The sums of jobs that have ended: kept before details are purged, and the same afterwards."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, insert

from chipmedic_watchdog import retention
from chipmedic_watchdog.ledger.figures import LedgerFigures, LedgerReader
from chipmedic_watchdog.ledger.fleet import Fleet, fleet
from chipmedic_watchdog.ledger.loop import LedgerLoop
from chipmedic_watchdog.ledger.metrics import OTHER, VENDORS_MAX, ledger_metrics
from chipmedic_watchdog.ledger.phases import Phase
from chipmedic_watchdog.ledger.summary import report, summary
from chipmedic_watchdog.ledger.sums import Whole
from chipmedic_watchdog.ledger.text import render_text
from chipmedic_watchdog.ledger.totals import lost_so_far
from chipmedic_watchdog.retention import Retention
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from intake_rig import rows

DAY = 86_400.0
T0 = 1_790_000_000.0


def put(database: Database, table: Any, *values: dict[str, Any]) -> None:
    database.write_now(lambda c: c.execute(insert(table), list(values)))


def fail_once(
    database: Database, job: str, began: float, vendor: str = "nvidia", kind: str = "chip.lost"
) -> None:
    """A job of 1,000 s that loses 100 s to one incident, and has ended."""
    name = f"inc-{job}"
    put(database, schema.job_progress, *(
        {"job": job, "at": began + at, "step": step, "attempt": attempt, "mark": mark}
        for at, step, attempt, mark in (
            (0, 0, 0, "start"), (500, 500, 0, ""), (590, 490, 1, "start"), (600, 500, 1, ""),
            (1000, 900, 1, ""),
        )
    ))  # fmt: skip
    put(database, schema.job_nodes, {"job": job, "node": f"n-{job}", "node_at": began, "pids": [],
        "received_at": began + 1000, "chips": ["a"], "is_present": False})  # fmt: skip
    put(database, schema.chips, {"node": f"n-{job}", "uid": "a", "vendor": vendor, "model": "m",
                                 "chip_index": 0})  # fmt: skip
    put(database, schema.incidents, {
        "id": name, "state": "resolved", "severity": 3, "kind": kind, "cause": "single/1",
        "title": "t", "jobs": [job], "fault_at": began + 501, "opened_at": began + 502,
        "updated_at": began + 700, "resolved_at": began + 700,
    })  # fmt: skip


def sums(found: Fleet) -> Any:
    causes = {name: (c.interruptions, c.seconds) for name, c in found.causes.items()}
    vendors = {name: (whole.jobs, whole.seconds) for name, whole in found.vendors.items()}
    return found.whole.jobs, found.whole.seconds, causes, vendors


async def settle(database: Database, now: float) -> None:
    loop = LedgerLoop(database, now=lambda: now)
    await loop.look()
    await loop.settle()


async def test_the_sums_are_the_same_before_and_after_the_details_are_purged(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH_JOBS", 1)
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.0)
    for number, (vendor, kind) in enumerate(
        [("nvidia", "chip.lost"), ("ascend", "chip.lost"), ("nvidia", "link.down")]
    ):
        fail_once(database, f"slurm:{number}", T0 + number, vendor, kind)
    now = T0 + 2 * DAY
    before = database.read_now(lambda c: fleet(c, T0, now))
    lost = database.read_now(lambda c: lost_so_far(c, now))
    assert (before.whole.wall_seconds, before.whole.lost_seconds) == (3_000, 300)
    assert set(before.vendors) == {"nvidia", "ascend"}
    assert before.causes["chip.lost"].interruptions == 2
    assert lost == {}, "the loop has not looked yet"

    await settle(database, now)
    assert sums(database.read_now(lambda c: fleet(c, T0, now))) == sums(before)
    lost = database.read_now(lambda c: lost_so_far(c, now))
    assert sum(lost.values()) == 300

    await Retention(database, 0).purge(now, retention.purge_jobs)
    assert rows(database, schema.job_progress) == rows(database, schema.ledger) == []
    after = database.read_now(lambda c: fleet(c, T0, now))
    assert sums(after) == sums(before)
    assert after.jobs_archived == 3
    assert database.read_now(lambda c: lost_so_far(c, now)) == lost
    made = database.read_now(lambda c: report(c, T0, now))
    assert (made["jobs"], made["jobs_not_listed"], made["lost_seconds"]) == ([], 3, 300)


async def test_what_was_never_settled_is_settled_when_it_is_purged(database: Database) -> None:
    fail_once(database, "slurm:1", T0)
    await Retention(database, 0).purge(T0 + DAY, retention.purge_jobs)
    found = database.read_now(lambda c: summary(c, "slurm:1", T0 + DAY))
    assert found is not None
    assert (found["is_archived"], found["wall_seconds"], found["lost_seconds"]) == (True, 1000, 100)
    assert (found["vendor"], found["effective_ratio"]) == ("nvidia", 0.9)
    assert "keep_jobs_days" in render_text(found)
    assert database.read_now(lambda c: summary(c, "slurm:2", T0)) is None


async def test_the_vendor_and_the_cause_outlive_places_and_incidents(database: Database) -> None:
    fail_once(database, "slurm:1", T0)
    await settle(database, T0 + DAY)
    for table in (schema.job_nodes, schema.incidents):
        database.write_now(lambda c, table=table: c.execute(delete(table)))
    found = database.read_now(lambda c: fleet(c, T0, T0 + DAY))
    assert (set(found.vendors), set(found.causes)) == ({"nvidia"}, {"chip.lost"})


async def test_a_job_that_runs_again_is_counted_as_it_is(database: Database) -> None:
    fail_once(database, "slurm:1", T0)
    await settle(database, T0 + DAY)
    assert len(rows(database, schema.job_totals)) == 1
    put(database, schema.job_progress,
        {"job": "slurm:1", "at": T0 + DAY, "step": 901, "attempt": 2, "mark": "start"})  # fmt: skip
    await settle(database, T0 + DAY + 5)
    assert rows(database, schema.job_totals) == rows(database, schema.lost_totals) == []
    await settle(database, T0 + 3 * DAY)
    (total,) = rows(database, schema.job_totals)
    assert total["end_at"] == T0 + DAY


async def test_a_job_that_runs_is_not_settled(database: Database) -> None:
    fail_once(database, "slurm:1", T0)
    put(database, schema.job_nodes, {"job": "slurm:1", "node": "n2", "node_at": T0, "pids": [7],
                                     "received_at": T0 + DAY})  # fmt: skip
    await settle(database, T0 + DAY)
    assert rows(database, schema.job_totals) == []


async def test_losses_from_before_there_were_sums_go(database: Database) -> None:
    put(
        database,
        schema.ledger,
        {"job": "slurm:0", "phase": "detect", "start_at": T0, "end_at": T0 + 9},
        {"job": "slurm:0", "phase": "detect", "start_at": T0 + DAY, "end_at": T0 + DAY + 9},
    )
    await Retention(database, 0).purge(T0 + 100, retention.purge_jobs)
    assert [row["start_at"] for row in rows(database, schema.ledger)] == [T0 + DAY]


async def test_a_window_holds_what_lies_in_it(database: Database) -> None:
    fail_once(database, "slurm:1", T0)
    await settle(database, T0 + DAY)
    found = database.read_now(lambda c: fleet(c, T0 + 595, T0 + DAY))
    assert found.whole.wall_seconds == 405, "of a job that is older what lies in the span"
    assert found.causes["chip.lost"].lost_seconds == 5
    assert sums(database.read_now(lambda c: fleet(c, T0 + DAY, T0 + DAY)))[0] == 0


async def test_the_series_are_bounded_and_a_phase_without_loss_is_zero(database: Database) -> None:
    fail_once(database, "slurm:1", T0, kind="acme.flux")
    await settle(database, T0 + DAY / 2)
    reader = LedgerReader()
    figures = database.read_now(lambda c: reader.read(c, T0 + DAY / 2))
    again = database.read_now(lambda c: reader.read(c, T0 + DAY / 2 + 5))
    assert again.windows is figures.windows, "dear sums are said again for a minute"
    found = {family.name: family for family in ledger_metrics(figures)}
    lost = {tuple(s.labels.values()): s.value for s in found["chipmedic_lost_seconds"].samples}
    assert lost["detect", OTHER] == 2
    assert lost["isolate", "unexplained"] == 0
    ratios = {s.labels["window"]: s.value for s in found["chipmedic_effective_ratio"].samples}
    assert ratios == {"1d": 0.9, "30d": 0.9}
    time = found["chipmedic_job_time_seconds"].samples
    assert sum(s.value for s in time if s.labels["window"] == "1d") == 1000
    crowd = Fleet()
    for number in range(VENDORS_MAX + 5):
        crowd.vendors[f"v{number}"] = Whole(1, dict.fromkeys(Phase, 1.0))
    made = list(ledger_metrics(LedgerFigures(windows={"1d": crowd})))[1]
    assert len({s.labels["vendor"] for s in made.samples}) == VENDORS_MAX + 1
    assert sum(s.value for s in made.samples) == (VENDORS_MAX + 5) * len(Phase)
