"""Counts of recovery for Prometheus: what holds it, and by which rungs jobs were restarted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from chipmedic.recoverer import Rung, StepKind
from chipmedic_watchdog.recover import switches
from chipmedic_watchdog.recover.breaker import BreakerState
from chipmedic_watchdog.recover.safety import BREAKER, HeldBy
from chipmedic_watchdog.store import schema

PERSON = "person"
"""What holds a recovery that no limit holds: somebody must look."""
RESULTS = ("planned", "doing", "done", "given_up", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryFigures:
    """Counts read from the store for one scrape."""

    is_on_hold: bool = False
    """By `chipmedic hold`; the file on the leader's host is not seen here."""
    breaker: BreakerState = BreakerState.CLOSED
    held: Mapping[str, int] = field(default_factory=dict)
    """By what holds them."""
    isolated: int = 0
    restarts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By rung and result."""


def read(connection: Connection) -> RecoveryFigures:
    """Count what is in the store; what nothing is in counts as 0."""
    recoveries, steps, isolations = schema.recoveries, schema.recovery_steps, schema.isolations
    held = dict.fromkeys((PERSON, *(by.value for by in HeldBy)), 0)
    query = select(recoveries.c.held_by, func.count()).where(recoveries.c.state == "held")
    for by, count in connection.execute(query.group_by(recoveries.c.held_by)):
        held[by or PERSON] = held.get(by or PERSON, 0) + count
    restarts = dict.fromkeys(((rung.value, result) for rung in Rung for result in RESULTS), 0)
    taken = select(steps.c.rung, steps.c.state, func.count()).where(
        steps.c.kind == StepKind.RESTART.value
    )
    for rung, state, count in connection.execute(taken.group_by(steps.c.rung, steps.c.state)):
        restarts[rung or Rung.REQUEUE.value, state] = count
    out = select(func.count()).where(isolations.c.returned_at.is_(None))
    return RecoveryFigures(
        is_on_hold=switches.read(connection, switches.HOLD, switches.OFF).state == switches.ON,
        breaker=BreakerState(switches.read(connection, BREAKER, BreakerState.CLOSED).state),
        held=held,
        isolated=connection.execute(out).scalar_one(),
        restarts=restarts,
    )


def recovery_metrics(figures: RecoveryFigures) -> Iterator[Metric]:
    """Yield the gauges; counts of the store go down when old recoveries are purged."""
    yield GaugeMetricFamily(
        "chipmedic_recovery_on_hold",
        "1 while `chipmedic hold` keeps every recovery from beginning.",
        value=figures.is_on_hold,
    )
    breaker = GaugeMetricFamily(
        "chipmedic_recovery_breaker", "1 for where the breaker stands.", labels=["state"]
    )
    for state in BreakerState:
        breaker.add_metric([state.value], state is figures.breaker)
    held = GaugeMetricFamily(
        "chipmedic_recoveries_held",
        "Recoveries that wait, by what holds them; person: somebody must look.",
        labels=["by"],
    )
    for by, count in sorted(figures.held.items()):
        held.add_metric([by], count)
    restarts = GaugeMetricFamily(
        "chipmedic_restarts",
        "Restarts of jobs that the store knows, by rung of the ladder and result.",
        labels=["rung", "result"],
    )
    for labels, count in sorted(figures.restarts.items()):
        restarts.add_metric(labels, count)
    isolated = GaugeMetricFamily(
        "chipmedic_nodes_isolated", "Nodes that chipmedic holds isolated.", value=figures.isolated
    )
    yield from (breaker, held, restarts, isolated)
