"""The engine: each step once in effect, wherever the process dies; limits and deadlines hold it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import RecoveryRequest, Step, StepResult
from chipmedic_watchdog.recover import approvals, book, switches
from chipmedic_watchdog.recover.engine import Engine
from chipmedic_watchdog.recover.settings import Mode, RecoverSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from waiting import eventually
from watchdog.recover.story import (
    NOW,
    FakeScheduler,
    Killed,
    World,
    change,
    put,
    put_fault,
    put_incident,
    put_nodes,
    rows,
)

FAST = RecoverSettings(
    mode=Mode.ACT,
    maximum_isolated_percent=50,
    retry_seconds=0.01,
    verify_timeout_seconds=0.3,
    hold_file="",
)


@pytest.fixture
def database(database: Database) -> Database:
    put_nodes(database)
    put_incident(database)
    put_fault(database)
    return database


def plan(database: Database, mode: Mode = Mode.ACT, **evidence: Any) -> str:
    whole = {"kind": "recover", "nodes": ["n1"], "jobs": ["slurm:7"], "tag": "chipmedic:inc-000001"}

    def write(connection: Connection) -> str:
        return book.create(
            connection,
            incident="inc-000001",
            adapter="slurm",
            mode=mode,
            state="planned",
            reason="a critical hardware fault",
            evidence=whole | evidence,
            now=NOW,
        )

    return database.write_now(write)


def carry_out(
    database: Database, scheduler: FakeScheduler, recovery: str, settings: RecoverSettings = FAST
) -> dict[str, Any]:
    """Carry a recovery out as a freshly started watchdog does; its row afterwards."""
    engine = Engine(database, settings, {"slurm": scheduler}, now=lambda: NOW + 5)
    asyncio.run(engine.carry_out(recovery))
    return next(row for row in rows(database, schema.recoveries) if row["id"] == recovery)


def test_a_whole_recovery(database: Database) -> None:
    world = World()
    row = carry_out(database, FakeScheduler(world), plan(database))
    assert row["state"] == "done"
    assert world.acts == ["isolate n1", "restart slurm:7"]
    steps = rows(database, schema.recovery_steps)
    assert [(s["kind"], s["target"], s["state"]) for s in steps] == [
        ("isolate", "n1", "done"),
        ("restart", "slurm:7", "done"),
    ]
    assert all(s["started_at"] and s["done_at"] for s in steps)
    (isolation,) = rows(database, schema.isolations)
    assert (isolation["node"], isolation["incident"]) == ("n1", "inc-000001")
    assert isolation["undo"] == {"reason": "chipmedic:inc-000001", "owner": "chipmedic"}
    assert [r["act"] for r in rows(database, schema.audit)] == [
        "isolate",
        "restart",
        "recovery done",
    ]


POINTS = [
    f"{call}{when}"
    for call in ("plan", "do isolate", "confirm isolate", "do restart", "confirm restart")
    for when in ("", " after")
]


@pytest.mark.parametrize("point", POINTS)
def test_killed_in_a_call_of_the_adapter_it_goes_on_after_the_restart(
    database: Database, point: str
) -> None:
    world, recovery = World(), plan(database)

    def die(at: str) -> None:
        if at == point:
            raise Killed(point)

    with pytest.raises(Killed):
        carry_out(database, FakeScheduler(world, dies=die), recovery)
    assert carry_out(database, FakeScheduler(world), recovery)["state"] == "done"
    assert world.acts == ["isolate n1", "restart slurm:7"]
    assert len(rows(database, schema.isolations)) == 1


class DyingDatabase(Database):
    """A store whose process dies at its nth write, before or after the commit."""

    def __init__(self, whole: Database, nth: int, *, is_committed: bool) -> None:
        super().__init__(whole.engine)
        self._left = nth
        self._is_committed = is_committed

    def write_now(self, work: Callable[[Connection], Any]) -> Any:
        self._left -= 1
        if self._left == 0 and not self._is_committed:
            raise Killed
        result = super().write_now(work)
        if self._left == 0:
            raise Killed
        return result


@pytest.mark.parametrize("is_committed", [False, True])
@pytest.mark.parametrize("nth", range(1, 12))
def test_killed_at_any_write_it_goes_on_after_the_restart(
    database: Database, nth: int, is_committed: bool
) -> None:
    world, recovery = World(), plan(database)
    dying = DyingDatabase(database, nth, is_committed=is_committed)
    try:
        carry_out(dying, FakeScheduler(world), recovery)
    except Killed:
        assert carry_out(database, FakeScheduler(world), recovery)["state"] == "done"
    else:
        assert nth > 9, "there are nine writes in a recovery; each must be a place to die"
    assert world.acts == ["isolate n1", "restart slurm:7"]
    assert [r["returned_at"] for r in rows(database, schema.isolations)] == [None]


def test_a_passing_failure_is_tried_again(database: Database) -> None:
    world = World()
    scheduler = FakeScheduler(world, fails={"do": [DeliveryFailed("busy"), DeliveryFailed("busy")]})
    assert carry_out(database, scheduler, plan(database))["state"] == "done"
    assert rows(database, schema.recovery_steps)[0]["attempts"] == 2


@pytest.mark.parametrize(
    ("scheduler", "settings", "detail"),
    [
        (
            {"fails": {"do": [DeliveryFailed("no such node", is_permanent=True)]}},
            FAST,
            "isolate n1: no such node",
        ),
        (
            {"fails": {"do": [DeliveryFailed("busy")] * 9}},
            replace(FAST, maximum_step_attempts=3),
            "isolate n1: busy",
        ),
        ({"is_blind": True}, replace(FAST, maximum_step_attempts=2), "sinfo: no answer"),
        (
            {"fails": {"plan": [DeliveryFailed("Invalid job id", is_permanent=True)]}},
            FAST,
            "cannot be planned: Invalid job id",
        ),
    ],
)
def test_what_cannot_be_done_is_held_with_its_reason(
    database: Database, scheduler: dict[str, Any], settings: RecoverSettings, detail: str
) -> None:
    world = World()
    scheduler = copy.deepcopy(scheduler)
    row = carry_out(database, FakeScheduler(world, **scheduler), plan(database), settings)
    assert row["state"] == "held"
    assert detail in row["detail"]
    assert world.acts == []


def test_a_step_that_does_not_come_true_in_its_time_is_held(database: Database) -> None:
    class Hurried(FakeScheduler):
        def plan(self, request: RecoveryRequest) -> list[Step]:
            return [replace(step, timeout_seconds=0.05) for step in super().plan(request)]

    row = carry_out(database, Hurried(World(), never_done=True), plan(database))
    assert row["state"] == "held"
    assert row["detail"] == "isolate n1: not within 0.05 s: the job is still COMPLETING"


def test_a_defect_of_an_adapter_holds_its_recovery_and_nothing_else(database: Database) -> None:
    class Defective(FakeScheduler):
        def do(self, step: Step) -> StepResult:
            raise KeyError("state")

    row = carry_out(database, Defective(World()), plan(database))
    assert (row["state"], "defect in the adapter: KeyError" in row["detail"]) == ("held", True)


def test_a_node_of_somebody_else_is_left_and_is_no_isolation_of_ours(database: Database) -> None:
    world = World(drained={"n1": "admin: new fan"})
    assert carry_out(database, FakeScheduler(world), plan(database))["state"] == "done"
    assert world.acts == ["restart slurm:7"]
    assert rows(database, schema.isolations) == []


@pytest.mark.parametrize(
    ("drained", "state"),
    [
        ({}, "done"),
        ({"n2": "admin"}, "done"),
        ({"n2": "admin", "n3": "somebody"}, "held"),  # 50 % of four nodes are two
        ({"n1": "admin", "n2": "x", "n3": "y"}, "done"),  # it takes nothing more away
    ],
)
def test_the_budget_counts_what_others_took_out(
    database: Database, drained: dict[str, str], state: str
) -> None:
    row = carry_out(database, FakeScheduler(World(drained=dict(drained))), plan(database))
    assert row["state"] == state
    if state == "held":
        assert (
            "budget: 2 of 4 nodes are out of service already (n2, n3) and the limit is 2"
            in row["detail"]
        )


def test_the_budget_counts_silent_nodes_and_our_own_isolations(database: Database) -> None:
    change(database, schema.nodes, schema.nodes.c.node == "n4", state="silent")
    put(
        database,
        schema.isolations,
        node="n3",
        adapter="slurm",
        incident="inc-000000",
        reason="chipmedic:inc-000000",
        undo={},
        isolated_at=NOW,
    )
    row = carry_out(database, FakeScheduler(World()), plan(database))
    assert "(n3, n4)" in row["detail"]


def test_two_intents_cannot_share_the_last_place(database: Database) -> None:
    world = World()
    put_fault(database, node="n2")
    settings = replace(FAST, maximum_isolated_nodes=1)
    first, second = plan(database), plan(database, nodes=["n2"], jobs=[])
    engine = Engine(database, settings, {"slurm": FakeScheduler(world)}, now=lambda: NOW)

    async def both() -> None:
        await asyncio.gather(engine.carry_out(first), engine.carry_out(second))

    asyncio.run(both())
    states = sorted(row["state"] for row in rows(database, schema.recoveries))
    assert states == ["done", "held"]
    assert len([act for act in world.acts if act.startswith("isolate")]) == 1


def test_the_hold_switch_and_the_hold_file_stop_what_has_not_begun(
    database: Database, tmp_path: Path
) -> None:
    def switch(*, is_on: bool) -> None:
        database.write_now(
            lambda c: (switches.hold if is_on else switches.release)(
                c, who="mei", why="works", now=NOW
            )
        )

    switch(is_on=True)
    row = carry_out(database, FakeScheduler(World()), plan(database))
    assert (row["state"], "on hold by mei: works" in row["detail"]) == ("held", True)
    switch(is_on=False)
    (tmp_path / "hold").touch()
    held = replace(FAST, hold_file=str(tmp_path / "hold"))
    row = carry_out(database, FakeScheduler(World()), plan(database), held)
    assert f"the file {tmp_path}/hold exists" in row["detail"]
    assert carry_out(database, FakeScheduler(World()), plan(database))["state"] == "done"


def test_a_job_is_restarted_only_so_often(database: Database) -> None:
    world = World()
    # The fault is newer than each restart, so that it asks for one more.
    change(database, schema.faults, schema.faults.c.node == "n1", opened_at=NOW + 60)
    for _ in range(3):
        assert (
            carry_out(database, FakeScheduler(world), plan(database, nodes=[]))["state"] == "done"
        )
    row = carry_out(database, FakeScheduler(world), plan(database, nodes=[]))
    assert "slurm:7 was restarted 3 times in 24 h already" in row["detail"]
    assert world.acts == ["restart slurm:7"] * 3


def test_a_resolved_incident_stops_what_has_not_begun(database: Database) -> None:
    world, recovery = World(), plan(database)
    change(database, schema.incidents, schema.incidents.c.id == "inc-000001", state="resolved")
    assert carry_out(database, FakeScheduler(world), recovery)["state"] == "stopped"
    assert world.acts == []


def test_a_person_stops_it_between_two_steps(database: Database) -> None:
    world, recovery = World(), plan(database)

    def stop(at: str) -> None:
        if at == "confirm isolate after":
            database.write_now(
                lambda c: approvals.stop(c, recovery, who="mei", why="I am there", now=NOW)
            )

    row = carry_out(database, FakeScheduler(world, dies=stop), recovery)
    assert (row["state"], row["detail"]) == ("stopped", "stopped by mei: I am there")
    assert world.acts == ["isolate n1"]


def test_a_person_stops_it_while_the_job_is_waited_for(database: Database) -> None:
    recovery = plan(database)
    put(database, schema.job_progress, job="slurm:7", at=NOW, step=100, attempt=0)

    async def story() -> None:
        engine = Engine(database, FAST, {"slurm": FakeScheduler(World())}, now=lambda: NOW + 5)
        work = asyncio.create_task(engine.carry_out(recovery))
        await eventually(lambda: rows(database, schema.recoveries)[0]["state"] == "verifying")
        database.write_now(
            lambda c: approvals.stop(c, recovery, who="mei", why="I am there", now=NOW)
        )
        await work

    asyncio.run(story())
    (row,) = rows(database, schema.recoveries)
    assert (row["state"], row["detail"]) == ("stopped", "stopped by mei: I am there")


def test_a_proposal_waits_for_a_person(database: Database) -> None:
    world, recovery = World(), plan(database, Mode.PROPOSE)
    assert carry_out(database, FakeScheduler(world), recovery)["state"] == "proposed"
    assert carry_out(database, FakeScheduler(world), recovery)["state"] == "proposed"
    assert world.acts == []
    assert len(rows(database, schema.recovery_steps)) == 2, "the plan is shown to the person"
    database.write_now(lambda c: approvals.approve(c, recovery, who="mei", now=NOW))
    assert carry_out(database, FakeScheduler(world), recovery)["state"] == "done"
    assert {r["who"] for r in rows(database, schema.audit) if r["act"] == "isolate"} == {"mei"}


def test_a_held_recovery_goes_on_where_it_was_held(database: Database) -> None:
    world, recovery = World(), plan(database)
    broken = FakeScheduler(
        world, fails={"do": [], "confirm": [DeliveryFailed("x", is_permanent=True)]}
    )
    assert carry_out(database, broken, recovery)["state"] == "held"
    database.write_now(lambda c: approvals.retry(c, recovery, who="mei", now=NOW))
    assert carry_out(database, FakeScheduler(world), recovery)["state"] == "done"
    assert world.acts == ["isolate n1", "restart slurm:7"]
    assert len(rows(database, schema.isolations)) == 1


@pytest.mark.parametrize(
    ("progress", "state"),
    [
        ([], "done"),  # a job that never tells its steps cannot be waited for
        ([(NOW, 100, 0)], "held"),
        ([(NOW, 100, 0), (NOW + 6, 90, 1)], "done"),
    ],
)
def test_a_restarted_job_must_move_again(
    database: Database, progress: list[tuple[float, int, int]], state: str
) -> None:
    for at, step, attempt in progress:
        put(database, schema.job_progress, job="slurm:7", at=at, step=step, attempt=attempt)
    row = carry_out(database, FakeScheduler(World()), plan(database))
    assert row["state"] == state
    if state == "held":
        assert "slurm:7: runs again, and has not reported within 0.3 s" in row["detail"]


def test_a_drain_that_the_scheduler_forgot_is_noticed(database: Database) -> None:
    world = World()

    def forget(at: str) -> None:
        if at == "do restart":
            world.drained.clear()  # a controller that was killed right after the drain

    row = carry_out(database, FakeScheduler(world, dies=forget), plan(database))
    assert (row["state"], "does not hold any more" in row["detail"]) == ("held", True)


def test_an_adapter_that_is_gone_from_the_configuration_holds(database: Database) -> None:
    recovery = plan(database)
    engine = Engine(database, FAST, {}, now=lambda: NOW)
    asyncio.run(engine.carry_out(recovery))
    (row,) = rows(database, schema.recoveries)
    assert (row["state"], "not configured any more" in row["detail"]) == ("held", True)
