"""The loop as the daemon runs it: incidents in the store on one side, a scheduler on the other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chipmedic_watchdog.notify import silences
from chipmedic_watchdog.recover import approvals, reconcile
from chipmedic_watchdog.recover.loop import RecoverLoop
from chipmedic_watchdog.recover.settings import GateSettings, Mode, RecoverSettings, RuleSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from waiting import PATIENCE_SECONDS, eventually
from watchdog.recover.story import (
    NOW,
    FakeScheduler,
    World,
    change,
    put_fault,
    put_incident,
    put_nodes,
    put_placement,
    rows,
)

ACT = RecoverSettings(
    mode=Mode.ACT,
    return_mode=Mode.NOTIFY,
    maximum_isolated_percent=50,
    retry_seconds=0.01,
    poll_seconds=0.05,
    verify_timeout_seconds=0.3,
    hold_file="",
    gate=GateSettings(required=False),
)
INCIDENT = schema.incidents.c.id == "inc-000001"


@pytest.fixture
def database(database: Database) -> Database:
    put_nodes(database)
    return database


def recoveries(database: Database) -> list[tuple[str, str]]:
    return [(row["id"], row["state"]) for row in rows(database, schema.recoveries)]


def clock() -> Callable[[], float]:
    start = time.monotonic()
    return lambda: NOW + 1 + time.monotonic() - start


@asynccontextmanager
async def running(
    database: Database, world: World, settings: RecoverSettings = ACT, **scheduler: Any
) -> AsyncIterator[RecoverLoop]:
    adapter = FakeScheduler(world, **scheduler)
    loop = RecoverLoop(database, settings, {"slurm": adapter}, now=clock())
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def settle() -> None:
    """Let the loop look a few times."""
    await asyncio.sleep(0.4)


def bad_node(database: Database, **incident: Any) -> None:
    put_incident(database, **incident)
    put_fault(database)
    put_placement(database)


async def test_an_incident_is_acted_on_once(database: Database) -> None:
    world = World()
    bad_node(database)
    async with running(database, world) as loop:
        loop.wake()
        await eventually(lambda: recoveries(database) == [("rec-000001", "done")])
        await settle()
    assert world.acts == ["isolate n1", "restart slurm:7"]
    assert recoveries(database) == [("rec-000001", "done")]


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.NOTIFY])
async def test_in_the_mild_modes_it_only_says_what_it_would_do(
    database: Database, mode: Mode
) -> None:
    world = World()
    bad_node(database)
    async with running(database, world, replace(ACT, mode=mode)):
        await eventually(lambda: bool(recoveries(database)))
        await settle()
    (row,) = rows(database, schema.recoveries)
    assert (row["state"], row["mode"], row["adapter"]) == ("not_taken", mode.value, "slurm")
    assert (row["evidence"]["nodes"], row["evidence"]["jobs"]) == (["n1"], ["slurm:7"])
    assert row["evidence"]["why"] == "hardware"
    assert world.acts == []


async def test_the_mode_is_set_by_the_rule_of_the_kind(database: Database) -> None:
    world = World()
    bad_node(database)
    put_incident(database, identity="inc-000002", kind="chip.lost", nodes=["n2"], jobs=[])
    put_fault(database, incident="inc-000002", node="n2", kind="chip.lost", codes=[])
    rule = RuleSettings(kinds=("chip.*",), mode=Mode.ACT)
    async with running(database, world, replace(ACT, mode=Mode.NOTIFY, rules=(rule,))):
        await eventually(lambda: "isolate n2" in world.acts)
        await settle()
    assert world.acts == ["isolate n2"]


async def test_a_hang_restarts_the_job_and_a_node_that_is_named_later_leaves(
    database: Database,
) -> None:
    world = World()
    put_incident(database, kind="job.hung")
    put_fault(
        database,
        kind="job.hung",
        component="job:slurm:7",
        job="slurm:7",
        action="restart_job",
        codes=[],
    )
    put_placement(database)
    async with running(database, world):
        await eventually(lambda: recoveries(database) == [("rec-000001", "done")])
        put_fault(database, kind="link.down", component="link:GPU-11/2", opened_at=NOW - 30)
        await eventually(lambda: len(recoveries(database)) == 2)
        await eventually(lambda: recoveries(database)[1] == ("rec-000002", "done"))
    assert world.acts == ["restart slurm:7", "isolate n1"]


async def test_two_incidents_of_one_job_restart_it_once(database: Database) -> None:
    world = World()
    bad_node(database)
    put_incident(database, identity="inc-000002", nodes=["n2"])
    put_fault(database, incident="inc-000002", node="n2")
    put_placement(database, node="n2")
    async with running(database, world):
        await eventually(lambda: {"isolate n1", "isolate n2"} <= set(world.acts))
        await eventually(lambda: {state for _, state in recoveries(database)} == {"done"})
        await settle()
    assert world.acts.count("restart slurm:7") == 1


async def test_silence_waits_for_the_schedulers_word(database: Database) -> None:
    world = World()
    put_incident(database, kind="node.unreachable")
    put_fault(database, kind="node.unreachable", component="host", action="none", codes=[])
    put_placement(database)
    async with running(database, world):
        await eventually(lambda: bool(recoveries(database)))
        await settle()
        assert [row["evidence"]["why"] for row in rows(database, schema.recoveries)] == [
            "silence_only"
        ]
    world.down.add("n1")
    async with running(database, world):
        await eventually(lambda: world.acts == ["isolate n1", "restart slurm:7"])


async def test_a_scheduler_that_cannot_be_asked_is_no_witness(database: Database) -> None:
    world = World(down={"n1"})
    put_incident(database, kind="node.unreachable")
    put_fault(database, kind="node.unreachable", component="host", action="none", codes=[])
    async with running(database, world, is_blind=True):
        await eventually(lambda: recoveries(database) == [("rec-000001", "not_taken")])
        await settle()
    assert recoveries(database) == [("rec-000001", "not_taken")]
    assert world.acts == []


async def test_what_was_under_way_goes_on_at_the_next_start(database: Database) -> None:
    world = World()
    bad_node(database)
    async with running(database, world, never_done=True):
        await eventually(lambda: recoveries(database) == [("rec-000001", "running")])
    async with running(database, world):
        await eventually(lambda: recoveries(database) == [("rec-000001", "done")])
    assert world.acts == ["isolate n1", "restart slurm:7"]


async def test_a_proposal_is_approved(database: Database) -> None:
    world = World()
    bad_node(database)
    async with running(database, world, replace(ACT, mode=Mode.PROPOSE)) as loop:
        await eventually(lambda: recoveries(database) == [("rec-000001", "proposed")])
        await settle()
        assert world.acts == []
        database.write_now(lambda c: approvals.approve(c, "rec-000001", who="mei", now=NOW))
        loop.wake()
        await eventually(lambda: recoveries(database) == [("rec-000001", "done")])


@pytest.mark.parametrize("answer", ["declined", "expired"])
async def test_what_a_person_did_not_want_is_not_proposed_again(
    database: Database, answer: str
) -> None:
    world = World()
    bad_node(database)
    valid = 0.2 if answer == "expired" else 3600.0
    settings = replace(ACT, mode=Mode.PROPOSE, proposal_valid_seconds=valid)
    async with running(database, world, settings):
        if answer == "declined":
            await eventually(lambda: recoveries(database) == [("rec-000001", "proposed")])
            database.write_now(
                lambda c: approvals.decline(c, "rec-000001", who="mei", why="tests", now=NOW)
            )
        await eventually(lambda: recoveries(database) == [("rec-000001", "stopped")])
        await settle()
        assert len(recoveries(database)) == 1
        change(database, schema.incidents, INCIDENT, reopened_count=1, revision=5)
        await eventually(lambda: recoveries(database)[-1] == ("rec-000002", "proposed"))


async def test_a_proposal_ends_when_it_is_not_needed_any_more(database: Database) -> None:
    bad_node(database)
    async with running(database, World(), replace(ACT, mode=Mode.PROPOSE)):
        await eventually(lambda: recoveries(database) == [("rec-000001", "proposed")])
        change(database, schema.faults, schema.faults.c.id == 1, state="unknown")
        await eventually(lambda: recoveries(database) == [("rec-000001", "stopped")])


async def isolated(database: Database, world: World) -> None:
    bad_node(database)
    async with running(database, world):
        await eventually(lambda: recoveries(database) == [("rec-000001", "done")])
    change(database, schema.faults, schema.faults.c.id == 1, state="cleared")
    change(database, schema.incidents, INCIDENT, state="resolved", resolved_at=NOW)


async def test_a_node_comes_back_when_its_incident_is_resolved(database: Database) -> None:
    world = World()
    await isolated(database, world)
    async with running(database, world, replace(ACT, return_mode=Mode.ACT)):
        await eventually(lambda: recoveries(database)[-1] == ("rec-000002", "done"))
    assert world.acts[-1] == "return n1"
    assert world.drained == {}
    assert rows(database, schema.isolations)[0]["returned_at"] is not None


async def test_a_node_comes_back_when_a_person_approves(database: Database) -> None:
    world = World()
    await isolated(database, world)
    async with running(database, world, replace(ACT, return_mode=Mode.PROPOSE)) as loop:
        await eventually(lambda: recoveries(database)[-1] == ("rec-000002", "proposed"))
        database.write_now(lambda c: approvals.approve(c, "rec-000002", who="mei", now=NOW))
        loop.wake()
        await eventually(lambda: recoveries(database)[-1] == ("rec-000002", "done"))
        await settle()
    assert len(recoveries(database)) == 2


async def test_a_node_with_another_fault_does_not_come_back(database: Database) -> None:
    world = World()
    await isolated(database, world)
    put_fault(database, kind="chip.lost", component="chip:GPU-12", incident=None)
    async with running(database, world, replace(ACT, return_mode=Mode.ACT)):
        await settle()
    assert len(recoveries(database)) == 1
    assert world.drained


async def test_a_node_whose_other_fault_cannot_be_seen_does_not_come_back_by_itself(
    database: Database,
) -> None:
    world = World()
    await isolated(database, world)
    put_incident(database, identity="inc-000002", state="acknowledged", jobs=[])
    put_fault(database, component="chip:GPU-12", incident="inc-000002", state="unknown")
    async with running(database, world, replace(ACT, return_mode=Mode.ACT)):
        await settle()
    assert len([r for r in rows(database, schema.recoveries) if r["incident"] != "inc-000002"]) == 1
    assert world.drained, "unknown is not ok"


async def test_a_node_whose_fault_came_back_meanwhile_is_offered_again(database: Database) -> None:
    world = World()
    await isolated(database, world)
    settings = replace(ACT, return_mode=Mode.PROPOSE)
    fault = schema.faults.c.id == 1
    async with running(database, world, settings) as loop:
        await eventually(lambda: recoveries(database)[-1] == ("rec-000002", "proposed"))
        change(database, schema.faults, fault, state="open")
        change(database, schema.incidents, INCIDENT, state="open", reopened_count=1)
        loop.wake()
        await settle()
        assert world.drained
        change(database, schema.faults, fault, state="cleared")
        change(database, schema.incidents, INCIDENT, state="resolved", resolved_at=NOW)
        loop.wake()

        def asked() -> list[str]:
            return [r for r, state in recoveries(database) if state == "proposed"]

        await eventually(lambda: asked() not in ([], ["rec-000002"]))
        await settle()
        proposed = asked()
        assert len(proposed) == 1, "asked again, and once"
        assert proposed != ["rec-000002"]
        database.write_now(lambda c: approvals.approve(c, proposed[0], who="mei", now=NOW))
        loop.wake()
        await eventually(lambda: world.drained == {})


async def test_a_return_that_another_fault_held_up_goes_on_when_that_is_over(
    database: Database,
) -> None:
    """It came after the question, in an incident of its own."""
    world = World()
    await isolated(database, world)
    async with running(database, world, replace(ACT, return_mode=Mode.PROPOSE)) as loop:
        await eventually(lambda: recoveries(database)[-1] == ("rec-000002", "proposed"))
        put_incident(database, identity="inc-000002", kind="chip.lost", jobs=[])
        put_fault(database, kind="chip.lost", component="chip:GPU-12", incident="inc-000002")
        database.write_now(lambda c: approvals.approve(c, "rec-000002", who="mei", now=NOW))
        loop.wake()
        await eventually(lambda: dict(recoveries(database))["rec-000002"] == "held")
        await settle()
        assert dict(recoveries(database))["rec-000002"] == "held"
        assert world.drained
        change(database, schema.faults, schema.faults.c.kind == "chip.lost", state="cleared")
        over = schema.incidents.c.id == "inc-000002"
        change(database, schema.incidents, over, state="resolved", resolved_at=NOW)
        loop.wake()
        await eventually(lambda: dict(recoveries(database))["rec-000002"] == "done")
    assert world.drained == {}


async def test_an_old_proposal_does_not_give_back_what_somebody_took_out_since(
    database: Database,
) -> None:
    world = World()
    await isolated(database, world)
    reason = world.drained["n1"]
    async with running(database, world, replace(ACT, return_mode=Mode.PROPOSE)) as loop:
        await eventually(lambda: recoveries(database)[-1] == ("rec-000002", "proposed"))
        give_back = approvals.give_back
        database.write_now(lambda c: give_back(c, "n1", who="mei", why="repaired", now=NOW))
        loop.wake()
        await eventually(lambda: world.drained == {})
        await settle()
        world.drained["n1"] = reason  # by hand, with the words of before
        database.write_now(lambda c: approvals.approve(c, "rec-000002", who="li", now=NOW))
        loop.wake()
        await eventually(lambda: dict(recoveries(database))["rec-000002"] in ("stopped", "done"))
    assert dict(recoveries(database))["rec-000002"] == "stopped"
    assert world.drained


async def test_the_red_switch_holds_a_return_too_unless_a_person_asks_for_it(
    database: Database, tmp_path: Path
) -> None:
    world = World()
    await isolated(database, world)
    hold = tmp_path / "hold"
    hold.touch()
    settings = replace(ACT, return_mode=Mode.ACT, hold_file=str(hold))
    async with running(database, world, settings):
        await eventually(lambda: recoveries(database)[-1] == ("rec-000002", "held"))
        assert world.drained
        now = NOW + 2
        database.write_now(lambda c: approvals.give_back(c, "n1", who="li", why="well", now=now))
        await eventually(lambda: recoveries(database)[-1] == ("rec-000003", "done"))
    assert world.drained == {}


async def test_a_reason_that_somebody_changed_is_left(database: Database) -> None:
    world = World()
    await isolated(database, world)
    world.drained["n1"] = "mei: I need this one"
    async with running(database, world, replace(ACT, return_mode=Mode.ACT)):
        await eventually(lambda: recoveries(database)[-1] == ("rec-000002", "held"))
    assert world.drained == {"n1": "mei: I need this one"}


async def test_a_person_gives_a_node_back_by_hand(database: Database) -> None:
    world = World()
    await isolated(database, world)

    def give_back(node: str) -> str:
        return database.write_now(
            lambda c: approvals.give_back(c, node, who="mei", why="repaired", now=NOW)
        )

    with pytest.raises(approvals.NotPossible, match="n2 is not isolated by chipmedic"):
        give_back("n2")
    give_back("n1")
    async with running(database, world):
        await eventually(lambda: world.drained == {})


async def test_a_node_that_somebody_resumed_is_not_taken_out_again(database: Database) -> None:
    world = World()
    bad_node(database)
    async with running(database, world):
        await eventually(lambda: recoveries(database) == [("rec-000001", "done")])
        world.drained.clear()
        adapters = {"slurm": FakeScheduler(world)}
        await reconcile.reconcile(database, adapters, now=NOW + 60)
        assert rows(database, schema.isolations)[0]["returned_at"] == NOW + 60
        await settle()
    assert len(recoveries(database)) == 1
    assert world.drained == {}


async def test_a_look_that_changes_nothing_writes_nothing(database: Database) -> None:
    bad_node(database)
    async with running(database, World(), replace(ACT, mode=Mode.NOTIFY)):
        await eventually(lambda: bool(recoveries(database)))
        await settle()
        before = rows(database, schema.recoveries)
        await settle()
        assert rows(database, schema.recoveries) == before


async def test_a_scheduler_that_hangs_holds_no_decision_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked now and then whether our isolations hold, and may not answer for a minute."""
    world, hangs, table = World(), threading.Event(), schema.recoveries
    await isolated(database, world)

    def hang(at: str) -> None:
        if at == "confirm isolate":
            hangs.wait(2 * PATIENCE_SECONDS)

    monkeypatch.setattr("chipmedic_watchdog.recover.loop.RECONCILE_SECONDS", 0.1)
    settings = replace(ACT, mode=Mode.NOTIFY)
    async with running(database, world, settings, dies=hang):
        await asyncio.sleep(0.4)
        put_incident(database, identity="inc-000002", nodes=["n2"], jobs=[])
        put_fault(database, node="n2", incident="inc-000002")
        try:
            await eventually(
                lambda: any(r["incident"] == "inc-000002" for r in rows(database, table))
            )
        finally:
            hangs.set()


async def test_a_scheduler_that_hangs_is_no_witness_until_it_answers(database: Database) -> None:
    """A silent node waits for its word; a chip that failed elsewhere does not."""
    world, hangs, table = World(down={"n1"}), threading.Event(), schema.recoveries

    def hang(at: str) -> None:
        if at == "nodes":
            hangs.wait(2 * PATIENCE_SECONDS)

    put_incident(database, kind="node.unreachable", jobs=[])
    put_fault(database, kind="node.unreachable", component="host", action="none", codes=[])
    put_incident(database, identity="inc-000002", nodes=["n2"], jobs=[])
    put_fault(database, node="n2", incident="inc-000002")

    def why() -> dict[str, str]:
        return {row["incident"]: row["evidence"]["why"] for row in rows(database, table)}

    try:
        async with running(database, world, replace(ACT, mode=Mode.NOTIFY), dies=hang):
            await eventually(lambda: len(why()) == 2)
            assert why() == {"inc-000001": "silence_only", "inc-000002": "hardware"}
            hangs.set()
            await eventually(lambda: why()["inc-000001"] == "witnessed_down")
    finally:
        hangs.set()


async def test_the_end_of_an_isolation_is_not_written_over_our_own_return(
    database: Database,
) -> None:
    world = World()
    await isolated(database, world)

    def meanwhile(at: str) -> None:
        if at == "confirm isolate":
            world.drained.clear()
            change(database, schema.isolations, schema.isolations.c.id == 1, returned_at=NOW + 9)

    adapters = {"slurm": FakeScheduler(world, dies=meanwhile)}
    await reconcile.reconcile(database, adapters, now=NOW + 60)
    assert rows(database, schema.isolations)[0]["returned_at"] == NOW + 9
    assert "somebody else" not in {row["who"] for row in rows(database, schema.audit)}


async def test_in_a_maintenance_window_nothing_is_done_and_after_it_all(
    database: Database,
) -> None:
    bad_node(database)
    window = {"starts_at": 0.0, "ends_at": NOW + 2.5, "who": "mei", "why": "fans", "now": NOW}
    database.write_now(
        lambda c: silences.add(c, "maintenance", ['node=~"n1|n9"'], **window)  # type: ignore[arg-type]
    )
    world = World()
    async with running(database, world):
        await settle()
        assert recoveries(database) == []
        assert world.acts == []
        await eventually(lambda: "isolate n1" in world.acts)


def two_bad_nodes(database: Database) -> None:
    bad_node(database)
    put_incident(database, identity="inc-000002", kind="chip.lost", nodes=["n2"], jobs=[])
    put_fault(database, incident="inc-000002", node="n2", kind="chip.lost", codes=[])


def is_held_by(database: Database, limit: str) -> bool:
    return any(row["held_by"] == limit for row in rows(database, schema.recoveries))


async def test_what_the_budget_held_goes_on_when_the_budget_is_free_again(
    database: Database,
) -> None:
    world = World(drained={"n4": "new cables"})
    bad_node(database)
    async with running(database, world, replace(ACT, maximum_isolated_nodes=1)):
        await eventually(lambda: is_held_by(database, "budget"))
        await settle()
        assert world.acts == []
        del world.drained["n4"]
        await eventually(lambda: recoveries(database) == [("rec-000001", "done")])
    assert world.acts == ["isolate n1", "restart slurm:7"]
    assert "go on" in [row["act"] for row in rows(database, schema.audit)]


async def test_what_was_held_and_is_not_needed_any_more_does_not_go_on(
    database: Database,
) -> None:
    world = World(drained={"n4": "new cables"})
    bad_node(database, jobs=[])
    async with running(database, world, replace(ACT, maximum_isolated_nodes=1)):
        await eventually(lambda: is_held_by(database, "budget"))
        change(database, schema.faults, schema.faults.c.node == "n1", state="cleared")
        del world.drained["n4"]
        await eventually(lambda: recoveries(database)[0] == ("rec-000001", "stopped"))
        await settle()
    assert world.acts == []


async def test_the_red_switch_holds_all_and_its_release_lets_it_go_on(database: Database) -> None:
    world = World()
    bad_node(database)
    now = NOW + 1
    database.write_now(lambda c: approvals.hold(c, who="mei", why="wrong rule", now=now))
    async with running(database, world):
        await eventually(lambda: is_held_by(database, "hold"))
        await settle()
        assert world.acts == []
        database.write_now(lambda c: approvals.release(c, who="mei", why="mended", now=now))
        await eventually(lambda: recoveries(database) == [("rec-000001", "done")])
    assert world.acts == ["isolate n1", "restart slurm:7"]
    acts = [(row["who"], row["act"]) for row in rows(database, schema.audit)]
    assert ("mei", "hold") in acts
    assert ("mei", "release") in acts


async def test_a_return_that_the_red_switch_held_goes_on_after_it(
    database: Database, tmp_path: Path
) -> None:
    world = World()
    await isolated(database, world)
    hold = tmp_path / "hold"
    hold.touch()
    async with running(database, world, replace(ACT, return_mode=Mode.ACT, hold_file=str(hold))):
        await eventually(lambda: recoveries(database)[-1] == ("rec-000002", "held"))
        hold.unlink()
        await eventually(lambda: recoveries(database)[-1] == ("rec-000002", "done"))


async def test_the_mode_can_be_set_for_a_partition(database: Database) -> None:
    world = World()
    two_bad_nodes(database)
    for node, partition in (("n1", "train,big"), ("n2", "debug")):
        labels = {"partition": partition}
        change(database, schema.nodes, schema.nodes.c.node == node, labels=labels)
    rule = RuleSettings(kinds=("*",), partitions=("debug",), mode=Mode.ACT)
    async with running(database, world, replace(ACT, mode=Mode.NOTIFY, rules=(rule,))):
        await eventually(lambda: "isolate n2" in world.acts)
        await settle()
    assert world.acts == ["isolate n2"]
    modes = {row["incident"]: row["evidence"]["rule"] for row in rows(database, schema.recoveries)}
    assert modes == {"inc-000001": "default", "inc-000002": "* in debug"}
