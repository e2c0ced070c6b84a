"""The ladder: which rung is due, and what the engine makes of one that does not help."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.model import Severity
from chipmedic.recoverer import Rung
from chipmedic_watchdog.notify import silences
from chipmedic_watchdog.recover import approvals, book
from chipmedic_watchdog.recover.engine import Engine
from chipmedic_watchdog.recover.ladder import JobFacts, Use, ladder_for, next_rung
from chipmedic_watchdog.recover.settings import (
    LadderSettings,
    Mode,
    RecoverSettings,
    RungSettings,
)
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.recover.story import (
    NOW,
    Ladder,
    World,
    change,
    put,
    put_fault,
    put_incident,
    put_nodes,
    rows,
)

ALL = tuple(Rung)
ABLE = dict.fromkeys(Rung, "")
FAST = RecoverSettings(
    mode=Mode.ACT,
    maximum_isolated_percent=50,
    retry_seconds=0.01,
    verify_timeout_seconds=0.3,
    hold_file="",
)


STAYS = ABLE | dict.fromkeys((Rung.IN_PLACE, Rung.REPLACE), "its node must leave")


def used_before(seconds: float) -> Use:
    return Use(rung=Rung.IN_PLACE, at=NOW - seconds)


def test_a_bound_on_attempts_is_one() -> None:
    bound = replace(FAST, rungs={Rung.IN_PLACE: RungSettings(attempts=2)})
    tried = facts(able={Rung.IN_PLACE: ""}, used=[used_before(7200)] * 2)
    assert next_rung(ALL, tried, bound, NOW).rung is Rung.HOLD
    assert next_rung(ALL, replace(tried, is_looked_at=True), bound, NOW).rung is Rung.IN_PLACE


def facts(**values: Any) -> JobFacts:
    whole: dict[str, Any] = {"job": "slurm:7", "able": ABLE} | values
    return JobFacts(**whole)


@pytest.mark.parametrize(
    ("ladder", "known", "rung"),
    [
        (ALL, facts(), Rung.IN_PLACE),
        (ALL, facts(able=STAYS), Rung.SPARE),
        (ALL, facts(able=STAYS | {Rung.SPARE: "none is free"}), Rung.SHRINK),
        (ALL, facts(able={Rung.REQUEUE: ""}), Rung.REQUEUE),
        (ALL, facts(able={Rung.REQUEUE: "its user forbids it"}), Rung.HOLD),
        ((Rung.REQUEUE,), facts(), Rung.REQUEUE),
        ((Rung.IN_PLACE, Rung.HOLD), facts(able=STAYS), Rung.HOLD),
        (ALL, facts(failed={Rung.IN_PLACE: "no new step came"}), Rung.REPLACE),
        # What was taken a short while ago did not last; where there is nothing else, it must do.
        (ALL, facts(used=[used_before(60)]), Rung.REPLACE),
        (ALL, facts(used=[used_before(7200)]), Rung.IN_PLACE),
        (ALL, facts(used=[used_before(60)], is_looked_at=True), Rung.IN_PLACE),
        (ALL, facts(used=[used_before(60)], able={Rung.IN_PLACE: ""}), Rung.IN_PLACE),
    ],
)
def test_the_next_rung(ladder: tuple[Rung, ...], known: JobFacts, rung: Rung) -> None:
    assert next_rung(ladder, known, FAST, NOW).rung is rung


def test_every_rung_that_is_left_out_says_why() -> None:
    able = {Rung.IN_PLACE: "its node must leave", Rung.REQUEUE: "its user forbids it"}
    choice = next_rung(ALL, facts(able=able), FAST, NOW)
    assert choice.rung is Rung.HOLD
    assert choice.words == (
        "in_place: its node must leave; replace: there is no such way here; "
        "spare: there is no such way here; shrink: there is no such way here; "
        "requeue: its user forbids it"
    )


@given(
    st.lists(st.sampled_from(ALL), unique=True),
    st.dictionaries(st.sampled_from(ALL), st.sampled_from(["", "no"])),
    st.lists(st.builds(Use, rung=st.sampled_from(ALL), at=st.floats(NOW - 9000, NOW)), max_size=9),
)
def test_a_rung_that_is_taken_is_one_that_can_be(
    rungs: list[Rung], able: dict[Rung, str], used: list[Use]
) -> None:
    ladder = sorted(rungs, key=ALL.index)
    choice = next_rung(ladder, facts(able=able, used=used), FAST, NOW)
    if choice.rung is not Rung.HOLD:
        assert able[choice.rung] == ""
        assert choice.rung in ladder
        attempts = FAST.rung(choice.rung).attempts
        assert attempts is None or sum(u.rung is choice.rung for u in used) < attempts
    assert all(choice.skipped.values())


def test_the_first_ladder_that_fits_decides() -> None:
    settings = RecoverSettings(
        ladders=(
            LadderSettings(kinds=("job.*",), rungs=(Rung.IN_PLACE,), partitions=("debug",)),
            LadderSettings(kinds=("*",), rungs=(Rung.REQUEUE,), severity="critical"),
        )
    )
    debug = {"n1": frozenset({"debug"})}
    assert ladder_for(settings, "job.hung", Severity.CRITICAL, debug) == (Rung.IN_PLACE,)
    assert ladder_for(settings, "job.hung", Severity.CRITICAL, {}) == (Rung.REQUEUE,)
    assert ladder_for(settings, "job.hung", Severity.WARNING, {}) == ALL
    with pytest.raises(ValueError, match="in the order in_place"):
        LadderSettings(kinds=("*",), rungs=(Rung.REQUEUE, Rung.IN_PLACE))


# The engine.


@pytest.fixture
def database(database: Database) -> Database:
    put_nodes(database)
    put_incident(database, jobs=["slurm:7", "slurm:8"])
    put_fault(database)
    return database


def plan(database: Database, **evidence: Any) -> str:
    whole: dict[str, Any] = {"kind": "recover", "nodes": ["n1"], "jobs": ["slurm:7"]}
    return database.write_now(
        lambda c: book.create(
            c, incident="inc-000001", adapter="slurm", mode=Mode.ACT, state="planned",
            reason="a critical hardware fault", evidence=whole | evidence, now=NOW,
        )
    )  # fmt: skip


def carry_out(
    database: Database, scheduler: Ladder, recovery: str, settings: RecoverSettings = FAST
) -> dict[str, Any]:
    engine = Engine(database, settings, {"slurm": scheduler}, now=lambda: NOW + 5)
    asyncio.run(engine.carry_out(recovery))
    return next(row for row in rows(database, schema.recoveries) if row["id"] == recovery)


def steps(database: Database) -> list[tuple[str, str]]:
    return [
        (row["rung"] or row["kind"], row["state"]) for row in rows(database, schema.recovery_steps)
    ]


def test_a_rung_that_fails_makes_the_next_one_due(database: Database) -> None:
    world = World()
    broken = {Rung.SPARE: "the spare died", Rung.SHRINK: "no new step came"}
    row = carry_out(database, Ladder(world, broken=broken), plan(database))
    assert row["state"] == "done"
    assert world.acts == [
        "isolate n1", "fail spare slurm:7", "fail shrink slurm:7", "requeue slurm:7",
    ]  # fmt: skip
    assert steps(database) == [
        ("isolate", "done"), ("spare", "given_up"), ("shrink", "given_up"), ("requeue", "done"),
    ]  # fmt: skip
    assert row["evidence"]["rungs"]["slurm:7"] == {
        "rung": "requeue",
        "skipped": {
            "in_place": "its node must leave",
            "replace": "its node must leave",
            "spare": "tried: the spare died",
            "shrink": "tried: no new step came",
        },
    }
    falls = [row for row in rows(database, schema.audit) if row["act"] == "next rung"]
    assert [row["detail"]["rung"] for row in falls] == ["shrink", "requeue"]


def test_where_no_rung_is_left_a_person_must_look_and_can_try_again(database: Database) -> None:
    world, recovery = World(), plan(database)
    scheduler = Ladder(
        world, unable={Rung.REQUEUE: "its user forbids it"}, lacking=frozenset(ALL[:4])
    )
    row = carry_out(database, scheduler, recovery)
    assert row["state"] == "held"
    assert "requeue: its user forbids it" in row["detail"]
    assert world.acts == ["isolate n1"]  # the node is out all the same

    scheduler.unable = {}
    database.write_now(lambda c: approvals.retry(c, recovery, who="mei", now=NOW + 9))
    assert carry_out(database, scheduler, recovery)["state"] == "done"
    assert world.acts == ["isolate n1", "requeue slurm:7"]


def test_a_job_that_needs_a_person_keeps_no_other_waiting(database: Database) -> None:
    class OneForbids(Ladder):
        def rungs(self, job: str, leaving: tuple[str, ...]) -> dict[Rung, str]:
            return {Rung.REQUEUE: "its user forbids it" if job == "slurm:7" else ""}

    world = World()
    row = carry_out(database, OneForbids(world), plan(database, jobs=["slurm:7", "slurm:8"]))
    assert row["state"] == "held"
    assert world.acts == ["isolate n1", "requeue slurm:8"]


@pytest.mark.parametrize("is_planned", [False, True])
def test_a_job_that_is_gone_is_no_reason_to_hold(database: Database, *, is_planned: bool) -> None:
    world, recovery = World(), plan(database)
    scheduler = Ladder(world)
    if is_planned:

        def go(at: str) -> None:
            if at == "confirm isolate after":
                scheduler.gone.add("slurm:7")

        scheduler.dies = go
    else:
        scheduler.gone.add("slurm:7")
    assert carry_out(database, scheduler, recovery)["state"] == "done"
    assert world.acts == ["isolate n1"]


def test_a_job_that_runs_and_does_not_move_takes_the_next_rung(database: Database) -> None:
    progress: dict[str, Any] = {"job": "slurm:7", "attempt": 0}
    put(database, schema.job_progress, at=NOW - 60, step=90, **progress)
    world, recovery = World(), plan(database)
    row = carry_out(database, Ladder(world, lacking=frozenset({Rung.SPARE})), recovery)
    assert world.acts == ["isolate n1", "shrink slurm:7", "requeue slurm:7"]
    assert row["state"] == "held"
    assert "has not reported within 0.3 s" in row["detail"]


def test_a_gentle_restart_that_did_not_last_is_not_repeated(database: Database) -> None:
    change(database, schema.faults, schema.faults.c.node == "n1", kind="job.hung",
           action="restart_job", opened_at=NOW + 60)  # fmt: skip
    world = World()
    for _ in range(2):
        row = carry_out(database, Ladder(world), plan(database, nodes=[], leaving=[]))
        assert row["state"] == "done"
    assert world.acts == ["in_place slurm:7", "replace slurm:7"]
    settings = replace(FAST, rungs={Rung.IN_PLACE: RungSettings()})
    carry_out(database, Ladder(world), plan(database, nodes=[], leaving=[]), settings)
    assert world.acts[-1] == "in_place slurm:7"


# Between the plan and the act the world may change.


def cleared(database: Database) -> None:
    change(database, schema.faults, schema.faults.c.node == "n1", state="cleared")


def unseen(database: Database) -> None:
    change(database, schema.faults, schema.faults.c.node == "n1", state="unknown")


def maintained(database: Database) -> None:
    database.write_now(
        lambda c: silences.add(
            c, "maintenance", ["node=n1"], starts_at=NOW, ends_at=NOW + 60,
            who="mei", why="new switch", now=NOW,
        )
    )  # fmt: skip


def resolved(database: Database) -> None:
    change(database, schema.incidents, schema.incidents.c.id == "inc-000001", state="resolved")


@pytest.mark.parametrize("change_world", [cleared, unseen, maintained, resolved])
def test_nothing_is_done_that_is_not_needed_any_more(
    database: Database, change_world: Callable[[Database], None]
) -> None:
    world, recovery = World(), plan(database)

    def act(at: str) -> None:
        if at == "plan after":
            change_world(database)

    row = carry_out(database, Ladder(world, dies=act), recovery)
    assert (row["state"], world.acts) == ("stopped", [])


@pytest.mark.parametrize("rung", [r for r in Rung if r is not Rung.HOLD])
def test_no_rung_is_taken_for_a_fault_that_is_over(database: Database, rung: Rung) -> None:
    change(database, schema.faults, schema.faults.c.node == "n1", kind="job.hung",
           action="restart_job")  # fmt: skip
    leaving = ["n1"] if rung in (Rung.SPARE, Rung.SHRINK) else []
    world = World()

    def act(at: str) -> None:
        if at == "plan after":
            cleared(database)

    evidence = {"nodes": [], "leaving": leaving, "ladder": [rung.value]}
    row = carry_out(database, Ladder(world, dies=act), plan(database, **evidence))
    assert (row["state"], world.acts) == ("stopped", [])
    assert [s for _, s in steps(database)] == ["planned"]


def test_a_restart_after_the_isolation_is_not_left_out(database: Database) -> None:
    """The fault may clear as soon as the node is empty; the job is still to be moved."""
    world = World()

    def act(at: str) -> None:
        if at == "confirm isolate after":
            cleared(database)

    assert carry_out(database, Ladder(world, dies=act), plan(database))["state"] == "done"
    assert world.acts == ["isolate n1", "spare slurm:7"]
