"""Which jobs a fault hurts, as the correlation reads it from the store."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert

from chipmedic.faults.kinds import KINDS
from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.incidents.picture import Picture
from chipmedic_watchdog.incidents.record import LATE_JOB_SECONDS, read_picture
from chipmedic_watchdog.incidents.rules import builtin
from chipmedic_watchdog.incidents.seen_late import LATE_BY_KIND, had_ended
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database

NOW = 10_000.0
LONG_AGO = NOW - LATE_JOB_SECONDS - 1


def look(database: Database, **on_the_broken_node: Any) -> Picture:
    """Return the picture of a broken chip of n1, of a job whose second start is on n2."""
    usual = {
        "job": "slurm:7", "node_at": NOW, "received_at": NOW, "chips": ["a"], "pids": [11],
        "step_at": NOW, "attempt": 1, "is_present": True, "labels": {},
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
        # Its end is told: before the fault can have begun it was the program's own.
        ({"pids": [], "labels": {"ended_at": str(NOW - 5)}}, True),
        ({"pids": [], "labels": {"ended_at": str(NOW - 200)}}, False),
        ({"pids": [], "labels": {"ended_at": str(NOW - 200)}, "is_present": False}, False),
        ({"pids": [], "labels": {"ended_at": "soon"}}, True),
        ({"pids": [], "labels": {"ended_at": "nan"}}, True),
        ({"pids": [11], "labels": {"ended_at": str(NOW - 200)}}, True),
    ],
)
def test_a_job_is_hurt_where_it_is_and_while_it_lives(
    database: Database, report: dict[str, Any], is_hurt: bool
) -> None:
    picture = look(database, **report)
    (fault,) = picture.faults
    assert picture.jobs_of(fault) == ({"slurm:7"} if is_hurt else set())


def test_the_end_is_on_the_clock_of_its_node(database: Database) -> None:
    """A node that is three minutes ahead; job and chip ended in the same second."""
    skew = {"node": "n1", "first_seen_at": NOW, "last_seen_at": NOW, "skew_seconds": 180.0}
    database.write_now(lambda c: c.execute(insert(schema.nodes), [skew]))
    picture = look(database, pids=[], labels={"ended_at": str(NOW + 175)})
    assert [p.ended_at for p in picture.placements if p.node == "n1"] == [NOW - 5]


SEEN = [
    # kind, source, seconds from the end of the job to the fault, is the fault its cause?
    ("memory.uncorrectable", "kernel_log", 8.0, True),
    ("memory.uncorrectable", "kernel_log", 60.0, False),
    ("memory.uncorrectable", "nvidia", 60.0, True),
    ("memory.uncorrectable", "nvidia", 120.0, False),
    ("chip.lost", "ascend", 80.0, True),
    ("host.hung_task", "kernel_log", 200.0, True),
    ("host.hung_task", "kernel_log", 250.0, False),
    ("node.unreachable", "watchdog", 20.0, True),
    ("node.unreachable", "watchdog", 40.0, False),
    ("node.black_hole", "watchdog", 200.0, True),
    ("a.kind_of_a_plug_in", "its_own", 80.0, True),
    ("memory.uncorrectable", "kernel_log", -100.0, True),  # it lived when the chip broke
]


@pytest.mark.parametrize(("kind", "source", "seconds", "is_cause"), SEEN)
def test_how_late_a_fault_may_be_seen_hangs_on_its_kind_and_source(
    kind: str, source: str, seconds: float, is_cause: bool
) -> None:
    assert had_ended(NOW, kind=kind, source=source, began_at=NOW + seconds) is not is_cause


def test_every_kind_of_the_table_is_one() -> None:
    assert {kind for kind, _ in LATE_BY_KIND} <= KINDS.keys()
