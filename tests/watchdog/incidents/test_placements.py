"""Which nodes a job is on, as the correlation reads it from the store."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert

from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.incidents.record import read_picture
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database

NOW = 1_000.0


def _job_node(node: str, attempt: int, *, received_at: float = NOW) -> dict[str, Any]:
    return {
        "job": "slurm:7", "node": node, "node_at": received_at, "received_at": received_at,
        "chips": [f"{node}-a"], "attempt": attempt, "is_present": received_at == NOW,
    }  # fmt: skip


def _fault(node: str, component: str, kind: str, job: str | None) -> dict[str, Any]:
    return {
        "node": node, "component": component, "kind": kind, "severity": 3, "action": "none",
        "node_since": NOW, "opened_at": NOW, "updated_at": NOW, "summary": kind, "source": "x",
        "state": "open", "job": job,
    }  # fmt: skip


def test_a_node_of_an_earlier_start_is_left(database: Database) -> None:
    def fill(connection: Any) -> None:
        connection.execute(
            insert(schema.job_nodes),
            [_job_node("n1", 0, received_at=NOW - 20), _job_node("n2", 1), _job_node("n3", 1)],
        )
        connection.execute(
            insert(schema.faults),
            [
                _fault("n1", "chip:n1-a", "memory.uncorrectable", None),
                _fault("n3", "job:slurm:7", "job.hung", "slurm:7"),
            ],
        )

    database.write_now(fill)
    picture = database.read_now(lambda c: read_picture(c, IncidentSettings(), NOW))
    assert {p.node: p.is_left for p in picture.placements} == {"n1": True, "n2": False, "n3": False}
    broken = picture.faults[0]
    assert picture.jobs_of(broken) == {"slurm:7"}, "it was hurt by the fault"
    assert picture.jobs_of(broken, still_there=True) == set(), "and is hurt no more"
