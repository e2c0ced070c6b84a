"""The breaker: by rate, by level, by a person's word, and never by the backlog."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from chipmedic_watchdog.recover import approvals, book, breaker, safety, switches
from chipmedic_watchdog.recover.breaker import BreakerState, Picture
from chipmedic_watchdog.recover.engine import Engine
from chipmedic_watchdog.recover.settings import Mode, RecoverSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.recover.story import (
    NOW,
    FakeScheduler,
    World,
    change,
    put_fault,
    put_incident,
    put_nodes,
    rows,
)

SETTINGS = RecoverSettings()
CLOSED, OPEN, HALF_OPEN = BreakerState


def picture(bad: int = 1, out: int = 0, known: int = 100, **trial: bool) -> Picture:
    names = frozenset(f"n{number}" for number in range(bad))
    return Picture(bad=names, out=out, known=known, **trial)


@pytest.mark.parametrize(
    ("state", "seen", "then", "why"),
    [
        (CLOSED, picture(), CLOSED, ""),
        (CLOSED, picture(bad=5), CLOSED, ""),
        (CLOSED, picture(bad=6), OPEN, "6 nodes went bad within 5 min"),
        (CLOSED, picture(bad=20, known=1000), CLOSED, ""),
        (CLOSED, picture(bad=21, known=1000), OPEN, "20 may"),
        (CLOSED, picture(out=25), CLOSED, ""),
        (CLOSED, picture(out=26), OPEN, "26 of 100 nodes are out of service; 25 may be"),
        (CLOSED, picture(out=4, known=8), CLOSED, ""),
        (OPEN, picture(), OPEN, "the breaker is open"),
        (HALF_OPEN, picture(), HALF_OPEN, ""),
        (HALF_OPEN, picture(is_trial_begun=True), HALF_OPEN, "its trial"),
        (HALF_OPEN, picture(is_trial_begun=True, is_trial_over=True), CLOSED, ""),
        (HALF_OPEN, picture(bad=6, is_trial_begun=True, is_trial_over=True), OPEN, "went bad"),
    ],
)
def test_where_it_stands(state: BreakerState, seen: Picture, then: BreakerState, why: str) -> None:
    judged = breaker.judge(state, seen, SETTINGS)
    assert judged.state is then
    assert why in judged.why
    assert bool(judged.why) == bool(why)


FAST = RecoverSettings(
    mode=Mode.ACT, maximum_isolated_percent=100, maximum_isolated_nodes=50, retry_seconds=0.01,
    verify_timeout_seconds=0.3, hold_file="", breaker_nodes=2,
)  # fmt: skip


def bad_nodes(database: Database, *nodes: str, at: float = NOW) -> list[str]:
    """Put an incident and a planned recovery for each node; return the recoveries."""
    made = []
    for node in nodes:
        incident = f"inc-{node}"
        put_incident(database, identity=incident, nodes=[node], jobs=[])
        put_fault(database, node=node, incident=incident, opened_at=at)
        evidence = {"kind": "recover", "nodes": [node], "jobs": [], "tag": f"chipmedic:{incident}"}
        made.append(
            database.write_now(
                lambda c, i=incident, e=evidence: book.create(  # type: ignore[misc]  # bound now
                    c, incident=i, adapter="slurm", mode=Mode.ACT, state="planned", reason="bad",
                    evidence=e, now=at,
                )
            )
        )  # fmt: skip
    return made


def carry_out(database: Database, world: World, recovery: str, at: float = NOW + 1) -> str:
    engine = Engine(database, FAST, {"slurm": FakeScheduler(world)}, now=lambda: at)
    asyncio.run(engine.carry_out(recovery))
    return next(r["state"] for r in rows(database, schema.recoveries) if r["id"] == recovery)


def stands(database: Database) -> tuple[str, str]:
    switch = database.read_now(lambda c: switches.read(c, safety.BREAKER, CLOSED))
    return switch.state, switch.who


def test_it_opens_holds_isolations_and_lets_one_through_when_a_person_says_so(
    database: Database,
) -> None:
    world = World()
    put_nodes(database)
    first, second, third = bad_nodes(database, "n1", "n2", "n3")
    assert carry_out(database, world, first) == "held"
    assert stands(database) == ("open", "chipmedic")
    row = next(row for row in rows(database, schema.recoveries) if row["id"] == first)
    assert row["held_by"] == "breaker"
    assert "3 nodes went bad within 5 min (n1, n2, n3); 2 may" in row["detail"]

    database.write_now(
        lambda c: approvals.reset_breaker(c, who="mei", why="switch mended", now=NOW + 2)
    )
    assert stands(database) == ("half_open", "mei")
    # The faults of before are no news: they open it no more.
    assert carry_out(database, world, second, NOW + 3) == "done"
    assert carry_out(database, world, third, NOW + 4) == "done"
    assert stands(database) == ("closed", "chipmedic")
    assert world.acts == ["isolate n2", "isolate n3"]
    acts = [(row["who"], row["act"]) for row in rows(database, schema.audit)]
    assert ("mei", "reset breaker") in acts
    assert ("chipmedic", "breaker open") in acts


def test_half_open_it_opens_again_when_more_go_bad(database: Database) -> None:
    put_nodes(database)
    bad_nodes(database, "n1", "n2")
    (third,) = bad_nodes(database, "n3")
    assert carry_out(database, World(), third) == "held"
    database.write_now(lambda c: approvals.reset_breaker(c, who="mei", why="looked", now=NOW + 2))
    *_, last = bad_nodes(database, "n4", "n5", "n6", at=NOW + 3)
    assert carry_out(database, World(), last, NOW + 4) == "held"
    assert stands(database) == ("open", "chipmedic")


def test_faults_that_are_over_do_not_open_it(database: Database) -> None:
    put_nodes(database)
    bad_nodes(database, "n1", "n2")
    (third,) = bad_nodes(database, "n3")
    change(database, schema.faults, schema.faults.c.node != "n3", state="cleared")
    assert carry_out(database, World(), third) == "done"


def test_it_never_holds_a_return(database: Database) -> None:
    put_nodes(database)
    world = World()
    (recovery,) = bad_nodes(database, "n1")
    assert carry_out(database, world, recovery) == "done"
    database.write_now(
        lambda c: switches.turn(
            c,
            switches.Switch(name=safety.BREAKER, state=OPEN, at=NOW, who="chipmedic", why="rate"),
            act="breaker open",
        )
    )
    change(database, schema.faults, schema.faults.c.node == "n1", state="cleared")
    back = database.write_now(
        lambda c: approvals.give_back(c, "n1", who="mei", why="mended", now=NOW + 2)
    )
    assert carry_out(database, world, back, NOW + 3) == "done"
    assert world.acts == ["isolate n1", "return n1"]


def test_a_closed_breaker_cannot_be_reset(database: Database) -> None:
    with pytest.raises(approvals.NotPossible, match="closed, not open"):
        database.write_now(lambda c: approvals.reset_breaker(c, who="mei", why="", now=NOW))


def test_the_rate_is_a_share_of_a_large_fleet() -> None:
    strict = replace(SETTINGS, breaker_percent=0.5)
    assert breaker.judge(CLOSED, picture(bad=50, known=10_000), strict).state is CLOSED
    assert breaker.judge(CLOSED, picture(bad=51, known=10_000), strict).state is OPEN
