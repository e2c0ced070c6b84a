"""Which jobs a fault hurts, as the correlation reads it from the store."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert

from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.incidents.picture import Picture
from chipmedic_watchdog.incidents.record import LATE_JOB_SECONDS, read_picture
from chipmedic_watchdog.incidents.rules import builtin
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database

NOW = 10_000.0
LONG_AGO = NOW - LATE_JOB_SECONDS - 1


def look(database: Database, **on_the_broken_node: Any) -> Picture:
    """Return the picture of a broken chip of n1, of a job whose second start is on n2."""
    usual = {
        "job": "slurm:7", "node_at": NOW, "received_at": NOW, "chips": ["a"], "pids": [11],
        "step_at": NOW, "attempt": 1, "is_present": True,
    }  # fmt: skip
    fault = {
        "node": "n1", "component": "chip:a", "kind": "memory.uncorrectable", "severity": 3,
        "action": "reset_chip", "node_since": NOW, "opened_at": NOW, "updated_at": NOW,
        "summary": "broken", "source": "nvidia", "state": "open",
    }  # fmt: skip

    def fill(connection: Any) -> None:
        rows = [usual | {"node": "n1"} | on_the_broken_node, usual | {"node": "n2"}]
        connection.execute(insert(schema.job_nodes), rows)
        connection.execute(insert(schema.faults), [fault])

    database.write_now(fill)
    return database.read_now(lambda c: read_picture(c, IncidentSettings(), builtin(), NOW))


@pytest.mark.parametrize(
    ("report", "is_hurt"),
    [
        ({}, True),
        ({"chips": []}, True),  # it names no chips: it may hold any
        ({"chips": ["b"]}, False),
        # The rank has died of the fault, and its node tells so or is silent.
        ({"pids": [], "step_at": NOW - 5}, True),
        ({"pids": [], "is_present": False, "received_at": NOW - 5, "step_at": NOW - 5}, True),
        # It goes on elsewhere; here is only what the node remembers, or what cannot die.
        ({"pids": [], "attempt": 0, "step_at": NOW - 5}, False),
        ({"pids": [11], "attempt": 0}, False),
        # A launcher that does not count its starts.
        ({"pids": [], "step_at": LONG_AGO}, False),
        ({"pids": [], "step_at": None}, True),
    ],
)
def test_a_job_is_hurt_where_it_is(
    database: Database, report: dict[str, Any], is_hurt: bool
) -> None:
    picture = look(database, **report)
    (fault,) = picture.faults
    assert picture.jobs_of(fault) == ({"slurm:7"} if is_hurt else set())
