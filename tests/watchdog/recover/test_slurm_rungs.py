"""The rungs of Slurm: when a job can take each, and that no death in between does one twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import RecoveryRequest, Rung
from chipmedic_watchdog.recover import book
from chipmedic_watchdog.recover.engine import Engine
from chipmedic_watchdog.recover.rungs import nodes_to_let_in
from chipmedic_watchdog.recover.settings import Mode, RecoverSettings, SlurmSettings
from chipmedic_watchdog.recover.slurm import Slurm
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from watchdog.recover.slurm_in_memory import SlurmWorld
from watchdog.recover.story import NOW, Killed, put_fault, put_incident, put_nodes, rows

SETTINGS = SlurmSettings(spare_reservation="spares", start_delay_seconds=0.5)


@pytest.mark.parametrize(
    ("world", "leaving", "rung", "why"),
    [
        ({"comment": "chipmedic:in_place"}, (), Rung.IN_PLACE, ""),
        ({}, (), Rung.IN_PLACE, "has not allowed it"),
        ({"comment": "chipmedic:in_place"}, ("n1",), Rung.IN_PLACE, "it must leave n1"),
        ({"comment": "chipmedic:in_place"}, ("n4",), Rung.IN_PLACE, ""),  # not the job's node
        ({"comment": "chipmedic:in_place", "state": "PENDING"}, (), Rung.IN_PLACE, "is PENDING"),
        ({}, ("n1",), Rung.SPARE, ""),
        ({}, (), Rung.SPARE, "on no node that must leave"),
        ({}, ("n1", "n2"), Rung.SPARE, "1 of the 1 spare nodes are free, and 2 are needed"),
        ({"requeue": False}, ("n1",), Rung.SPARE, "must not be queued again"),
        ({"comment": "chipmedic:shrink=2"}, ("n3",), Rung.SHRINK, ""),
        ({}, ("n3",), Rung.SHRINK, "has not allowed it"),
        ({"comment": "chipmedic:shrink=3"}, ("n3",), Rung.SHRINK, "its user wants 3"),
        ({"comment": "chipmedic:shrink=1"}, ("n1",), Rung.SHRINK, "its script runs on the node"),
        ({"comment": "chipmedic:shrink=1"}, (), Rung.SHRINK, "on no node that must leave"),
        ({}, (), Rung.REQUEUE, ""),
        ({"requeue": False}, (), Rung.REQUEUE, "must not be queued again"),
        ({"is_batch": False}, (), Rung.REQUEUE, "not a batch job"),
        ({"state": "FAILED", "exit_code": 1}, (), Rung.REQUEUE, ""),
        ({"state": "FAILED", "exit_code": 93}, (), Rung.REQUEUE, "ended with 93"),
        ({"exit_code": 93}, (), Rung.REQUEUE, ""),  # of a run before; it runs
        ({"whole": "6"}, ("n1",), Rung.REQUEUE, "a part of the heterogeneous job 6"),
    ],
)
def test_when_a_job_can_take_a_rung(
    world: dict[str, Any], leaving: tuple[str, ...], rung: Rung, why: str
) -> None:
    said = Slurm(SETTINGS, SlurmWorld(**world)).rungs("slurm:7", leaving)[rung]
    assert (why in said) if why else said == ""


def test_what_a_site_has_not_configured_is_said_and_what_it_overrides_is_done() -> None:
    plain = replace(SETTINGS, spare_reservation="", despite_no_requeue=True)
    said = Slurm(plain, SlurmWorld(requeue=False)).rungs("slurm:7", ("n1",))
    assert "spare_reservation" in said[Rung.SPARE]
    assert said[Rung.REQUEUE] == ""
    assert Rung.REPLACE not in said


def test_a_job_that_is_just_ending_is_asked_about_again() -> None:
    with pytest.raises(DeliveryFailed, match="just ending") as refused:
        Slurm(SETTINGS, SlurmWorld(state="COMPLETING")).rungs("slurm:7", ())
    assert not refused.value.is_permanent


def test_what_a_controller_that_has_just_started_does_not_know_is_no_death() -> None:
    world = SlurmWorld(unheard={"n2"})
    slurm = Slurm(replace(SETTINGS, fence=("/usr/sbin/off", "{node}")), world)
    request = RecoveryRequest(
        incident="inc-000001", reason="chipmedic:inc-000001 chip.lost", nodes=(), jobs=("slurm:7",)
    )
    (step,) = slurm.plan(request)
    with pytest.raises(DeliveryFailed, match="n2 is unknown yet") as refused:
        slurm.do(step)
    assert not refused.value.is_permanent
    assert world.acts == [], "nothing is fenced, held or queued again"
    world.unheard.clear()
    slurm.do(step)
    assert world.acts == ["requeue"]


@pytest.mark.parametrize("reason", ["JobHeldUser", "JobHeldAdmin", "launch failed requeued held"])
def test_a_job_that_is_held_is_told_at_once_and_not_released(reason: str) -> None:
    world = SlurmWorld()
    request = RecoveryRequest(
        incident="inc-000001", reason="chipmedic:inc-000001 chip.lost", nodes=(), jobs=("slurm:7",)
    )
    (step,) = (slurm := Slurm(SETTINGS, world)).plan(request)
    slurm.do(step)
    world.reason = reason
    with pytest.raises(DeliveryFailed, match=reason) as refused:
        slurm.do(step)
    assert refused.value.is_permanent
    assert world.acts == ["requeue"]


# Wherever the watchdog dies, each act is done once.

FAST = RecoverSettings(
    mode=Mode.ACT, maximum_isolated_percent=50, retry_seconds=0.001, hold_file="",
    verify_timeout_seconds=0.3,
)  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """One kind of store: what is tested is what Slurm is told."""
    engine = open_engine(f"sqlite:///{tmp_path}/watchdog.db")
    migrate(engine)
    database = Database(engine)
    put_nodes(database)
    put_incident(database)
    yield database
    database.close()


def carry_out(database: Database, world: SlurmWorld, settings: SlurmSettings) -> str:
    """As a freshly started watchdog does; the state that the recovery is in then."""
    engine = Engine(database, FAST, {"slurm": Slurm(settings, world)}, now=lambda: NOW + 5)
    asyncio.run(engine.carry_out("rec-000001"))
    (row,) = rows(database, schema.recoveries)
    return str(row["state"])


def test_a_node_that_is_back_in_service_takes_the_job_again(database: Database) -> None:
    """Else a job that has had four faults would be kept off four nodes, of which three are well."""
    plain = replace(SETTINGS, spare_reservation="")
    world = SlurmWorld(excluded=["n4"])  # its user's own wish
    begin(database, ["n1"])
    assert carry_out(database, world, plain) == "done"
    assert set(world.excluded) == {"n1", "n4"}
    assert let_in(database) == (), "n1 is out of service"

    values = {"returned_at": NOW + 10}
    database.write_now(lambda c: c.execute(schema.isolations.update().values(**values)))
    world.nodes["n1"] = ""
    assert let_in(database) == ("n1",)
    for table in (schema.recoveries, schema.faults, schema.counters):
        database.write_now(lambda c, table=table: c.execute(table.delete()))
    steps = schema.recovery_steps
    database.write_now(lambda c: c.execute(steps.update().values(recovery="rec-000009")))
    begin(database, ["n2"])
    assert carry_out(database, world, plain) == "done"
    assert set(world.excluded) == {"n2", "n4"}
    assert world.job_nodes == ["n1", "n3"]


def let_in(database: Database) -> tuple[str, ...]:
    return database.read_now(lambda c: nodes_to_let_in(c, "slurm:7"))


STORIES: dict[str, tuple[dict[str, Any], list[str], SlurmSettings, list[str]]] = {
    "in place": ({"comment": "chipmedic:in_place"}, [], SETTINGS, ["end step 0"]),
    "its script ends": (
        {"comment": "chipmedic:in_place", "goes_on": False}, [], SETTINGS,
        ["end step 0", "requeue", "start on n1,n2,n3"],
    ),
    "shrink": (
        {"comment": "chipmedic:shrink=2"}, ["n3"], replace(SETTINGS, spare_reservation=""),
        ["drain n3", "shrink to n1,n2"],
    ),
    "spare": ({}, ["n1"], SETTINGS, ["drain n1", "requeue", "start on n2,n3,n4"]),
    "requeue": (
        {}, ["n1"], replace(SETTINGS, spare_reservation=""),
        ["drain n1", "requeue", "start on n2,n3"],
    ),
}  # fmt: skip


def begin(database: Database, nodes: list[str]) -> None:
    asks = {} if nodes else {"kind": "job.hung", "action": "restart_job"}
    put_fault(database, node=nodes[0] if nodes else "n1", **asks)
    evidence = {"kind": "recover", "nodes": nodes, "jobs": ["slurm:7"], "leaving": nodes}
    database.write_now(
        lambda c: book.create(
            c, incident="inc-000001", adapter="slurm", mode=Mode.ACT, state="planned",
            reason="", evidence=evidence, now=NOW,
        )
    )  # fmt: skip


def calls_of(story: str, database: Database) -> list[str]:
    """Go through a story undisturbed; the commands of it."""
    values, nodes, settings, acts = STORIES[story]
    seen: list[str] = []
    world = SlurmWorld(**values, dies=seen.append)
    begin(database, nodes)
    assert carry_out(database, world, settings) == "done"
    assert world.acts == acts
    return seen


@pytest.mark.parametrize("story", STORIES)
def test_killed_at_any_command_it_does_each_act_once(database: Database, story: str) -> None:
    values, nodes, settings, acts = STORIES[story]
    points = len(calls_of(story, database))
    assert points > 10
    for nth in range(1, points + 1):
        for table in (schema.recovery_steps, schema.recoveries, schema.isolations, schema.faults,
                      schema.counters):  # fmt: skip
            database.write_now(lambda c, table=table: c.execute(table.delete()))
        begin(database, nodes)
        left = [nth]

        def die(at: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Killed(at)

        world = SlurmWorld(**values, dies=die)
        with pytest.raises(Killed):
            carry_out(database, world, settings)
        assert carry_out(database, world, settings) == "done", f"killed at command {nth}"
        assert world.acts == acts, f"killed at command {nth}"
