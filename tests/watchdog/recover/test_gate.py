"""Before a node is offered again: cool-down, lemons, the check, and probation after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from chipmedic_watchdog.recover import approvals, book, decisions, gate, lemons, probation
from chipmedic_watchdog.recover.gate import GateNext, GateNow, GateState
from chipmedic_watchdog.recover.lemons import PastIsolation
from chipmedic_watchdog.recover.settings import GateSettings, Mode, RecoverSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.recover.story import NOW, change, put, put_fault, put_incident, put_nodes, rows

SETTINGS = RecoverSettings(return_mode=Mode.ACT, hold_file="")
DAY = 86_400.0
S = GateState


def step(state: GateState, *, age: float = 0.0, resolved_ago: float = 1e6, **more: Any) -> Any:
    present = GateNow(state=state, at=NOW - age, resolved_at=NOW - resolved_ago)
    whole: dict[str, Any] = {"lemon": None, "not_before": 0.0, "now": NOW} | more
    found = gate.step(present, SETTINGS, **whole)
    return None if found is None else found.state


@pytest.mark.parametrize(
    ("state", "age", "then"),
    [
        (S.NONE, 0, S.ASKED),
        (S.WAITS, 0, S.ASKED),
        (S.ASKED, 900, None),
        (S.ASKED, 901, S.FAILED),
        (S.PASSED, 3600, None),
        (S.PASSED, 3601, S.ASKED),
        (S.FAILED, 1799, None),
        (S.FAILED, 1800, S.ASKED),
    ],
)
def test_the_course_of_a_check(state: GateState, age: float, then: GateState | None) -> None:
    assert step(state, age=age) is then


def test_what_was_checked_before_the_fault_came_back_is_no_answer() -> None:
    assert step(S.PASSED, age=100, resolved_ago=50) is S.ASKED


def test_a_node_that_cools_down_or_is_a_lemon_is_not_checked() -> None:
    assert step(S.NONE, not_before=NOW + 1) is S.WAITS
    assert step(S.PASSED, lemon="isolated 3 times") is S.KEPT_OUT


def test_a_site_without_checks_needs_none() -> None:
    free = replace(SETTINGS, gate=GateSettings(required=False))
    present = GateNow(state=S.NONE, at=0, resolved_at=0)
    found = gate.step(present, free, lemon=None, not_before=0, now=NOW)
    assert found is not None
    assert found.state is S.PASSED


@pytest.mark.parametrize(("earlier", "hours"), [(0, 0), (1, 0.5), (2, 1.5), (3, 3.5)])
def test_who_fails_again_waits_longer(earlier: int, hours: float) -> None:
    assert probation.not_before(NOW, earlier, SETTINGS) == NOW + hours * 3600


def past(count: int) -> list[PastIsolation]:
    return [
        PastIsolation(
            at=NOW + n * DAY, device="chip:GPU-1", incident=f"inc-{n}", kind="memory.uncorrectable"
        )
        for n in range(count)
    ]


def test_the_third_time_makes_a_lemon_and_says_why() -> None:
    assert lemons.reason(past(2), SETTINGS, kept_out=0, known=100) is None
    words = lemons.reason(past(3), SETTINGS, kept_out=0, known=100)
    assert words is not None
    assert words.startswith("isolated 3 times in 28 days: 2030-03-")
    assert "memory.uncorrectable on chip:GPU-1 (inc-2)" in words


def test_where_many_are_lemons_it_is_not_the_nodes() -> None:
    assert lemons.reason(past(3), SETTINGS, kept_out=2, known=100) is None
    assert lemons.reason(past(3), SETTINGS, kept_out=1, known=100) is not None
    assert lemons.reason(past(3), SETTINGS, kept_out=0, known=4) is not None


@pytest.fixture
def database(database: Database) -> Database:
    put_nodes(database)
    put_incident(database, state="resolved", resolved_at=NOW + 10)
    put_fault(database, state="cleared")
    isolate(database, NOW)
    return database


def isolate(database: Database, at: float, **values: Any) -> None:
    whole = {"node": "n1", "adapter": "slurm", "incident": "inc-000001", "device": "chip:GPU-11",
             "reason": "chipmedic:inc-000001", "undo": {"reason": "x"}}  # fmt: skip
    put(database, schema.isolations, isolated_at=at, **whole | values)


def look(database: Database, now: float) -> tuple[str, list[str]]:
    """Let the loop look once; how the check stands, and the recoveries."""
    database.write_now(lambda c: decisions.plan_returns(c, SETTINGS, now))
    table = schema.isolations
    query = select(table.c.gate).where(table.c.returned_at.is_(None)).order_by(table.c.id.desc())
    state = database.read_now(lambda c: c.execute(query).scalar())
    return state, [row["state"] for row in rows(database, schema.recoveries)]


def answer(database: Database, state: GateState, detail: str, now: float) -> None:
    identity = rows(database, schema.isolations)[-1]["id"]
    then = GateNext(state=state, detail=detail)
    database.write_now(lambda c: gate.write(c, identity, then, node="n1", now=now))


def test_a_node_is_offered_after_its_check_and_not_before(database: Database) -> None:
    assert look(database, NOW + 20) == ("asked", [])
    assert look(database, NOW + 30) == ("asked", [])
    answer(database, S.FAILED, "check nvidia says unknown: no answer", NOW + 40)
    assert look(database, NOW + 50) == ("failed", [])
    assert look(database, NOW + 40 + 1800) == ("asked", [])
    answer(database, S.PASSED, "9 checks are ok", NOW + 2000)
    assert look(database, NOW + 2001) == ("passed", ["planned"])
    acts = [(row["act"], row["detail"].get("why")) for row in rows(database, schema.audit)]
    assert ("check failed", "check nvidia says unknown: no answer") in acts
    assert ("check passed", "9 checks are ok") in acts


def test_a_silent_agent_is_no_passed_check(database: Database) -> None:
    look(database, NOW + 20)
    assert look(database, NOW + 20 + 901) == ("failed", [])


def test_a_lemon_is_kept_out_until_a_person_gives_it_back(database: Database) -> None:
    for days in (20, 9):
        isolate(database, NOW - days * DAY, returned_at=NOW - days * DAY + 100)
    assert look(database, NOW + 20) == ("kept_out", [])
    assert look(database, NOW + 9999) == ("kept_out", [])
    reason = next(r for r in rows(database, schema.isolations) if r["gate"] == "kept_out")
    assert "isolated 3 times in 28 days" in reason["gate_detail"]
    recovery = database.write_now(
        lambda c: approvals.give_back(c, "n1", who="mei", why="new board", now=NOW + 10_000)
    )
    found = database.read_now(lambda c: book.find(c, recovery))
    assert found is not None
    assert found.state == "planned"
    assert "waived" in [row["gate"] for row in rows(database, schema.isolations)]


def test_old_isolations_make_no_lemon(database: Database) -> None:
    for days in (40, 30):
        isolate(database, NOW - days * DAY, returned_at=NOW - days * DAY + 100)
    assert look(database, NOW + 20)[0] == "asked"


def test_the_second_isolation_of_a_device_cools_down(database: Database) -> None:
    isolate(database, NOW - 7200, returned_at=NOW - 3600)
    assert look(database, NOW + 20) == ("waits", [])
    assert look(database, NOW + 1801) == ("asked", [])


def test_another_device_of_the_node_does_not_wait(database: Database) -> None:
    isolate(database, NOW - 7200, returned_at=NOW - 3600, device="chip:GPU-12")
    assert look(database, NOW + 20)[0] == "asked"


def test_a_returned_node_is_on_probation_for_a_day(database: Database) -> None:
    change(database, schema.isolations, schema.isolations.c.node == "n1", returned_at=NOW)
    settings = SETTINGS
    for after, found in ((1.0, {"n1"}), (DAY - 1, {"n1"}), (DAY + 1, set())):
        at = NOW + after
        assert database.read_now(lambda c, at=at: probation.nodes(c, settings, at)) == found  # type: ignore[misc]  # bound now
