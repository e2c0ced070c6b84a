"""What Prometheus is told of recovery."""

from __future__ import annotations

from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.recover import approvals
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.web.figures import read_figures
from watchdog.recover.story import NOW, put


def page(database: Database) -> list[str]:
    figures = database.read_now(read_figures)
    return Metrics().render(figures).decode().splitlines()


def test_an_empty_store_has_every_series(database: Database) -> None:
    lines = page(database)
    assert "chipmedic_recovery_on_hold 0.0" in lines
    assert 'chipmedic_recovery_breaker{state="closed"} 1.0' in lines
    assert 'chipmedic_recoveries_held{by="budget"} 0.0' in lines
    assert 'chipmedic_restarts{result="done",rung="in_place"} 0.0' in lines
    assert "chipmedic_nodes_isolated 0.0" in lines


def test_what_holds_and_what_was_done_is_counted(database: Database) -> None:
    database.write_now(lambda c: approvals.hold(c, who="mei", why="rollout", now=NOW))
    put(database, schema.recovery_switches, name="breaker", state="open", at=NOW, who="", why="")
    for number, (state, by) in enumerate([("held", "budget"), ("held", ""), ("done", "")]):
        put(
            database, schema.recoveries, id=f"rec-{number}", incident="inc-1", adapter="slurm",
            mode="act", state=state, reason="", evidence={}, created_at=NOW, updated_at=NOW,
            held_by=by,
        )  # fmt: skip
        put(
            database, schema.recovery_steps, recovery=f"rec-{number}", number=1, kind="restart",
            target="slurm:7", description="", timeout_seconds=1.0, arguments={},
            state="given_up" if number else "done", rung="in_place",
        )  # fmt: skip
    put(
        database, schema.isolations, node="n1", adapter="slurm", incident="inc-1", reason="",
        isolated_at=NOW,
    )  # fmt: skip
    lines = page(database)
    for line in (
        "chipmedic_recovery_on_hold 1.0",
        'chipmedic_recovery_breaker{state="open"} 1.0',
        'chipmedic_recovery_breaker{state="closed"} 0.0',
        'chipmedic_recoveries_held{by="budget"} 1.0',
        'chipmedic_recoveries_held{by="person"} 1.0',
        'chipmedic_restarts{result="given_up",rung="in_place"} 2.0',
        "chipmedic_nodes_isolated 1.0",
    ):
        assert line in lines
