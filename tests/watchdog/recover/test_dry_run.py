"""A dry run: the real decision, the adapter's plan, the limits; and not one act."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chipmedic.errors import DeliveryFailed
from chipmedic_cli.recoveries import plan_lines
from chipmedic_watchdog.recover.loop import RecoverLoop
from chipmedic_watchdog.recover.settings import CheckpointSettings, Mode, RecoverSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.recover.story import (
    NOW,
    FakeScheduler,
    World,
    put_fault,
    put_incident,
    put_nodes,
    put_placement,
    rows,
)

SETTINGS = RecoverSettings(mode=Mode.NOTIFY, maximum_isolated_percent=50, hold_file="")


@pytest.fixture
def database(database: Database) -> Database:
    put_nodes(database)
    put_incident(database)
    put_fault(database)
    put_placement(database)
    return database


async def planned(
    database: Database, world: World, settings: RecoverSettings = SETTINGS, **scheduler: Any
) -> dict[str, Any]:
    adapter = FakeScheduler(world, **scheduler)
    loop = RecoverLoop(database, settings, {"slurm": adapter}, now=lambda: NOW + 5)
    found = await loop.dry_run("inc-000001")
    assert found is not None
    return found


async def test_the_steps_are_shown_and_nothing_is_done(database: Database) -> None:
    world = World()
    found = await planned(database, world)
    assert [(s["kind"], s["target"], s["refused"]) for s in found["steps"]] == [
        ("isolate", "n1", ""),
        ("restart", "slurm:7", ""),
    ]
    assert world.acts == []
    assert rows(database, schema.recoveries) == []
    assert rows(database, schema.isolations) == []
    lines = plan_lines(found)
    assert lines[0] == "inc-000001: a critical hardware fault: the node must leave"
    assert lines[1:3] == ["1. isolate n1, within 5 s:", "   isolate n1"]
    assert lines[-1].startswith("the mode is notify: nothing of it is done")


async def test_a_checkpoint_that_would_be_asked_for_is_shown(database: Database) -> None:
    settings = replace(SETTINGS, checkpoint=CheckpointSettings())
    found = await planned(database, World(), settings)
    kinds = [step["kind"] for step in found["steps"]]
    assert kinds == ["isolate", "checkpoint", "restart"]


async def test_the_second_node_counts_the_first(database: Database) -> None:
    put_fault(database, node="n2", codes=["xid:79"], kind="chip.lost")
    found = await planned(database, World(), replace(SETTINGS, maximum_isolated_nodes=1))
    assert found["steps"][0]["refused"] == ""
    assert "1 of 4 nodes are out of service already (n1)" in found["steps"][1]["refused"]
    assert any("would be held: budget: 1 of 4" in line for line in plan_lines(found))
    assert rows(database, schema.isolations) == []


async def test_a_breaker_that_would_open_stays_as_it_is(database: Database) -> None:
    for node in ("n2", "n3"):
        put_fault(database, node=node, kind="chip.lost", codes=[], incident="inc-000009")
    found = await planned(database, World(), replace(SETTINGS, breaker_nodes=2))
    assert "the breaker is open: 3 nodes went bad" in found["steps"][0]["refused"]
    assert rows(database, schema.recovery_switches) == []
    assert rows(database, schema.audit) == []


async def test_a_scheduler_that_does_not_answer_is_said(database: Database) -> None:
    found = await planned(
        database, World(), fails={"plan": [DeliveryFailed("scontrol: no answer")]}
    )
    assert found["troubles"] == ["cannot be planned: scontrol: no answer"]
    assert plan_lines(found)[-1].startswith("nothing would be done")


async def test_what_is_over_has_no_plan(database: Database) -> None:
    loop = RecoverLoop(database, SETTINGS, {}, now=lambda: NOW)
    assert await loop.dry_run("inc-000002") is None
