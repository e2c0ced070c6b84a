"""What may stop an isolation or a restart in the transaction that writes the intent.

The limits bind taking nodes out and restarting jobs. They never bind giving a node back: a breaker
that blocks the return to service makes an outage longer. Only a person's hold does, and not what
this or another person asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, func, select

from chipmedic.faults.fitness import HARDWARE_ACTIONS, PROGRAM_KINDS
from chipmedic.model import Severity
from chipmedic.recoverer import NodeView, StepKind
from chipmedic.words import counted
from chipmedic_watchdog.recover import book, breaker, budgets, switches
from chipmedic_watchdog.recover.breaker import BreakerState, Picture
from chipmedic_watchdog.recover.budgets import Capacity
from chipmedic_watchdog.recover.modes import partitions_of
from chipmedic_watchdog.recover.settings import RecoverSettings, Scope
from chipmedic_watchdog.store import schema

BREAKER = "breaker"


class HeldBy(StrEnum):
    """Which limit holds a recovery."""

    HOLD = "hold"
    BREAKER = "breaker"
    BUDGET = "budget"
    FAULT = "fault"
    """A fault that is open again on a node that was to be given back."""
    ATTEMPTS = "attempts"
    """It waits for a person: what was tried so often does not get well by trying."""


FREES_ITSELF = (HeldBy.HOLD, HeldBy.BREAKER, HeldBy.BUDGET, HeldBy.FAULT)
"""What these hold goes on by itself as soon as they let it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a step must not begin."""

    by: HeldBy
    words: str


def refusal(
    connection: Connection,
    recovery: book.Recovery,
    stored: book.StoredStep,
    settings: RecoverSettings,
    views: Mapping[str, NodeView] | None,
    now: float,
) -> Refusal | None:
    """Return why a step must not begin, or None where it may.

    It judges the present, and writes where the breaker stands from now on: keep the transaction.
    """
    is_return = stored.step.kind is StepKind.RETURN
    is_asked_for = is_return and "approved_by" in recovery.evidence
    held = None if is_asked_for else switches.hold_reason(connection, settings)
    if held is not None:
        return Refusal(by=HeldBy.HOLD, words=held)
    if is_return or stored.step.kind is StepKind.CHECKPOINT:
        return None
    is_looked_at = "retried_by" in recovery.evidence
    if not is_looked_at and (words := _tried_enough(connection, recovery, stored, settings, now)):
        return Refusal(by=HeldBy.ATTEMPTS, words=words)
    if stored.step.kind is not StepKind.ISOLATE:
        return None
    return _isolation_refusal(connection, stored.step.target, settings, views, now)


def _tried_enough(
    connection: Connection,
    recovery: book.Recovery,
    stored: book.StoredStep,
    settings: RecoverSettings,
    now: float,
) -> str | None:
    since = now - settings.attempts_window_seconds
    hours = settings.attempts_window_seconds / 3600
    target = stored.step.target
    if stored.step.kind is StepKind.RESTART:
        count = book.restarts_since(connection, target, since, beside=recovery.id)
        most = "maximum_restarts_per_job"
        word = "restarted"
    elif stored.step.kind is not StepKind.ISOLATE:
        return None
    else:
        count, most = isolations_since(connection, target, since), "maximum_isolations_per_node"
        word = "isolated"
    if count < getattr(settings, most):
        return None
    return f"{target} was {word} {counted(count, 'time')} in {hours:g} h already; look at it first"


def _isolation_refusal(
    connection: Connection,
    node: str,
    settings: RecoverSettings,
    views: Mapping[str, NodeView] | None,
    now: float,
) -> Refusal | None:
    view = (views or {}).get(node)
    words: str | None
    if view is not None and not view.is_available:
        return None  # out of service already: isolating it takes nothing more away
    capacity = capacity_around(connection, node, views)
    if words := _breaker_refusal(connection, node, capacity, settings, now):
        return Refusal(by=HeldBy.BREAKER, words=words)
    if words := budgets.refusal(node, capacity, settings.all_budgets):
        return Refusal(by=HeldBy.BUDGET, words=words)
    return None


def capacity_around(
    connection: Connection, node: str, views: Mapping[str, NodeView] | None
) -> Capacity:
    """Return which nodes are out of service, whoever took them out, and the parts of one node."""
    isolations, nodes = schema.isolations, schema.nodes
    ours = select(isolations.c.node).where(isolations.c.returned_at.is_(None))
    out = set(connection.execute(ours).scalars())
    rows = connection.execute(select(nodes.c.node, nodes.c.state, nodes.c.labels)).all()
    out |= {row.node for row in rows if row.state == "silent"}
    out |= {name for name, view in (views or {}).items() if not view.is_available}
    known = {row.node for row in rows} | set(views or {}) | out
    groups: dict[Scope, dict[str, set[str]]] = {Scope.PARTITION: {}, Scope.RACK: {}, Scope.JOB: {}}
    for row in rows:
        for name in partitions_of(row.labels):
            groups[Scope.PARTITION].setdefault(name, set()).add(row.node)
        if rack := row.labels.get("rack"):
            groups[Scope.RACK].setdefault(rack, set()).add(row.node)
    groups[Scope.JOB] = _jobs_of(connection, node)
    return Capacity(
        known=frozenset(known),
        out=frozenset(out),
        groups={
            scope: {name: frozenset(m) for name, m in named.items() if node in m}
            for scope, named in groups.items()
        },
    )


def _jobs_of(connection: Connection, node: str) -> dict[str, set[str]]:
    """Return the nodes of every job that runs on this one."""
    table = schema.job_nodes
    here = select(table.c.job).where(table.c.node == node, table.c.is_present.is_(True))
    query = select(table.c.job, table.c.node).where(
        table.c.job.in_(here), table.c.is_present.is_(True)
    )
    found: dict[str, set[str]] = {}
    for row in connection.execute(query):
        found.setdefault(row.job, set()).add(row.node)
    return found


def _breaker_refusal(
    connection: Connection, node: str, capacity: Capacity, settings: RecoverSettings, now: float
) -> str:
    """Judge by the breaker, and keep where it stands now."""
    present = switches.read(connection, BREAKER, BreakerState.CLOSED)
    state = BreakerState(present.state)
    since = now - settings.breaker_window_seconds
    if state is BreakerState.HALF_OPEN:
        since = max(since, present.at)
    picture = Picture(
        bad=_gone_bad(connection, since) | {node},
        out=len(capacity.out - {node}),
        known=len(capacity.known),
        is_trial_begun=_trials(connection, present.at, is_over=False),
        is_trial_over=_trials(connection, present.at, is_over=True),
    )
    judged = breaker.judge(state, picture, settings)
    if judged.state is not state:
        turned = switches.Switch(
            name=BREAKER, state=judged.state, at=now, who="chipmedic",
            why=judged.why or "the isolation on trial ended well",
        )  # fmt: skip
        switches.turn(connection, turned, act=f"breaker {judged.state.value}")
        present = turned
    if not judged.why:
        return ""
    if judged.state is BreakerState.OPEN:
        return f"the breaker is open: {present.why} (chipmedic recoveries reset-breaker)"
    return judged.why


def _gone_bad(connection: Connection, since: float) -> frozenset[str]:
    """Return the nodes that went bad since then and are still, or were isolated since then."""
    faults, isolations = schema.faults, schema.isolations
    hardware = [action.value for action in HARDWARE_ACTIONS]
    bad = select(faults.c.node).where(
        faults.c.state == "open",
        faults.c.opened_at > since,
        faults.c.severity >= int(Severity.CRITICAL),
        faults.c.action.in_(hardware),
        faults.c.kind.not_in([*PROGRAM_KINDS, "node.unreachable"]),
        faults.c.kind.not_like("job.%"),
    )
    isolated = select(isolations.c.node).where(isolations.c.isolated_at > since)
    return frozenset(connection.execute(bad).scalars()) | frozenset(
        connection.execute(isolated).scalars()
    )


def _trials(connection: Connection, since: float, *, is_over: bool) -> bool:
    """Whether an isolation has begun since then; `is_over`: and its recovery is done."""
    steps, recoveries = schema.recovery_steps, schema.recoveries
    query = (
        select(steps.c.recovery)
        .join(recoveries, recoveries.c.id == steps.c.recovery)
        .where(steps.c.kind == StepKind.ISOLATE.value, steps.c.started_at > since)
    )
    if is_over:
        query = query.where(recoveries.c.state == "done")
    return connection.execute(query.limit(1)).first() is not None


def isolations_since(connection: Connection, node: str, since: float) -> int:
    """Count how often we have isolated a node since then."""
    table = schema.isolations
    query = select(func.count()).where(table.c.node == node, table.c.isolated_at > since)
    return connection.execute(query).scalar_one()
