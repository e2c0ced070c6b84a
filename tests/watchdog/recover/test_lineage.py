"""A job that has another name after each restart is followed: it must move, and not for ever."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from chipmedic.recoverer import ENDED, GOES_ON_AS, Step, StepKind
from chipmedic_watchdog.recover import book
from chipmedic_watchdog.recover.settings import Mode
from chipmedic_watchdog.recover.verify import jobs_still
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.recover.story import NOW, change, put


def put_restart(database: Database, target: str, after: str, at: float, *more: str) -> str:
    """Write a recovery that has restarted a job, and return its id."""

    def write(connection: Connection) -> str:
        recovery = book.create(
            connection, incident="inc-000001", adapter="kubernetes", mode=Mode.ACT, state="done",
            reason="", evidence={}, now=at,
        )  # fmt: skip
        steps = [
            Step(kind=StepKind.RESTART, target=name, description="", timeout_seconds=1)
            for name in (target, *more)
        ]
        book.add_steps(connection, recovery, steps)
        return recovery

    recovery = database.write_now(write)
    table = schema.recovery_steps
    undo = {GOES_ON_AS: after} if after else {}
    times = {"started_at": at, "done_at": at + 1}
    change(database, table, table.c.recovery == recovery, state="done", undo=undo, **times)
    return recovery


def count(database: Database, job: str, since: float = 0.0) -> int:
    return database.read_now(lambda c: book.restarts_since(c, job, since))


def test_restarts_are_counted_over_all_names_of_a_job(database: Database) -> None:
    put_restart(database, "kubernetes:a", "kubernetes:b,kubernetes:b2", NOW)
    put_restart(database, "kubernetes:b2", "kubernetes:c,kubernetes:c2", NOW + 10)
    assert count(database, "kubernetes:c") == 2
    assert count(database, "kubernetes:b") == 1
    assert count(database, "kubernetes:a") == 1
    assert count(database, "kubernetes:other") == 0
    assert count(database, "kubernetes:c", since=NOW + 5) == 1


def test_two_ranks_that_were_restarted_together_count_once(database: Database) -> None:
    put_restart(database, "kubernetes:a", "kubernetes:b", NOW, "kubernetes:a2")
    assert count(database, "kubernetes:b") == 1


def test_a_job_that_keeps_its_name_is_counted_as_ever(database: Database) -> None:
    put_restart(database, "slurm:7", "", NOW)
    put_restart(database, "slurm:7", "", NOW + 1)
    assert count(database, "slurm:7") == 2


@pytest.mark.parametrize(
    ("name", "at", "still"),
    [
        ("kubernetes:new", NOW + 5, False),
        ("kubernetes:new2", NOW + 5, False),
        ("kubernetes:old", NOW + 5, True),
        ("kubernetes:other", NOW + 5, True),
    ],
)
def test_a_job_moves_again_under_its_new_name(
    database: Database, name: str, at: float, still: bool
) -> None:
    recovery = put_restart(database, "kubernetes:old", "kubernetes:new,kubernetes:new2", NOW)
    row = {"node": "n1", "attempt": 0, "received_at": NOW, "epoch": 1}
    progress(database, "kubernetes:old", NOW - 5, **row)
    progress(database, name, at, **row)
    found = database.read_now(lambda c: jobs_still(c, recovery))
    assert found == (["kubernetes:old"] if still else [])


@pytest.mark.parametrize("is_ended", [True, False])
def test_nobody_waits_for_a_job_that_had_ended_by_itself(
    database: Database, is_ended: bool
) -> None:
    recovery = put_restart(database, "slurm:7", "", NOW)
    progress(database, "slurm:7", NOW - 5)
    if is_ended:
        table = schema.recovery_steps
        change(database, table, table.c.recovery == recovery, undo={ENDED: "CANCELLED"})
    found = database.read_now(lambda c: jobs_still(c, recovery))
    assert found == ([] if is_ended else ["slurm:7"])


def progress(database: Database, job: str, at: float, **row: object) -> None:
    known = {column.name for column in schema.job_progress.columns}
    values = {"job": job, "at": at, "step": 7, "phase": "train", "until": at, **row}
    put(database, schema.job_progress, **{key: v for key, v in values.items() if key in known})
