"""What a case says of where a job is: the policy restarts a job that is back on a broken node."""

from __future__ import annotations

from typing import Any

import pytest

from chipmedic_watchdog.recover import cases
from chipmedic_watchdog.store.database import Database
from watchdog.recover.story import NOW, put_fault, put_incident, put_placement


@pytest.mark.parametrize(
    ("report", "is_present"),
    [
        ({"pids": [11]}, True),
        ({"pids": []}, False),  # the node remembers a job whose processes have ended
        ({"pids": [11], "is_present": False}, False),
        ({"pids": [11], "attempt": 1}, False),  # left over from an earlier start
        ({"pids": [11], "attempt": 3}, True),
    ],
)
def test_a_job_is_where_its_newest_processes_live(
    database: Database, report: dict[str, Any], is_present: bool
) -> None:
    put_incident(database)
    put_fault(database)
    put_placement(database, node="n1", **report)
    put_placement(database, node="n2", pids=[12], attempt=report.get("attempt", 0) and 2)
    (case,) = database.read_now(cases.load)
    assert [(p.node, p.is_present) for p in case.placements] == [("n1", is_present)]
    assert case.placed_jobs == {"slurm:7"}
    assert case.placements[0].received_at == NOW
