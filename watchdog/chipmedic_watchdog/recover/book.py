"""The recoveries in the store: every row that a recovery is made of, read and written here.

A recovery is `planned` (decided, not begun), `proposed` (waits for a person), `running`,
`verifying` (all steps done; does the job move again?), and at its end `done`, `held` (a person must
look), `stopped` (not needed any more) or `not_taken` (the mode or the policy says no).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, select, update

from chipmedic.recoverer import Rung, Step, StepKind
from chipmedic_watchdog.recover import lineage
from chipmedic_watchdog.recover.settings import Mode
from chipmedic_watchdog.store import schema

ACTIVE = ("planned", "running", "verifying")
"""States that the engine works on."""
GIVEN_UP = "given_up"
"""State of a restart whose rung did not help; the next rung is a step of its own."""
SUPERSEDED = "superseded"
"""Key of the evidence of a recovery that ended for a present decision; it answers no question."""
FINISHED = ("done", GIVEN_UP)
"""States of steps of which nothing is left to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """One recovery."""

    id: str
    incident: str
    adapter: str
    mode: Mode
    state: str
    reason: str
    evidence: Mapping[str, Any]
    created_at: float
    updated_at: float
    held_by: str = ""
    """The limit that holds it; empty: none, or it waits for a person."""

    @property
    def is_return(self) -> bool:
        """True where it gives nodes back instead of taking them out."""
        return self.evidence.get("kind") == "return"

    @property
    def nodes(self) -> tuple[str, ...]:
        """Nodes that it touches."""
        return tuple(self.evidence.get("nodes", ()))

    @property
    def jobs(self) -> tuple[str, ...]:
        """Jobs that it restarts."""
        return tuple(self.evidence.get("jobs", ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredStep:
    """One step with what came of it so far."""

    recovery: str
    number: int
    step: Step
    state: str
    attempts: int = 0
    started_at: float | None = None
    done_at: float | None = None
    detail: str = ""
    undo: Mapping[str, str] = field(default_factory=dict)


def create(
    connection: Connection,
    *,
    incident: str,
    adapter: str,
    mode: Mode,
    state: str,
    reason: str,
    evidence: Mapping[str, Any],
    now: float,
) -> str:
    """Write a new recovery; return its id."""
    identity = f"rec-{_next(connection, 'recovery'):06d}"
    connection.execute(
        insert(schema.recoveries).values(
            id=identity,
            incident=incident,
            adapter=adapter,
            mode=mode.value,
            state=state,
            reason=reason,
            evidence=dict(evidence),
            created_at=now,
            updated_at=now,
        )
    )
    return identity


def find(connection: Connection, recovery: str) -> Recovery | None:
    """Return a recovery, or None."""
    table = schema.recoveries
    row = connection.execute(select(table).where(table.c.id == recovery)).one_or_none()
    return None if row is None else _recovery(row)


def in_states(connection: Connection, states: Sequence[str]) -> list[Recovery]:
    """Return the recoveries in these states, oldest first."""
    table = schema.recoveries
    query = select(table).where(table.c.state.in_(states)).order_by(table.c.id)
    return [_recovery(row) for row in connection.execute(query)]


def of_incidents(connection: Connection, incidents: Iterable[str]) -> dict[str, list[Recovery]]:
    """Return the recoveries of each incident, oldest first."""
    table = schema.recoveries
    query = select(table).where(table.c.incident.in_(list(incidents))).order_by(table.c.id)
    found: dict[str, list[Recovery]] = {}
    for row in connection.execute(query):
        found.setdefault(row.incident, []).append(_recovery(row))
    return found


def latest(connection: Connection, incidents: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return id and state of the newest recovery of each incident."""
    table = schema.recoveries
    query = (
        select(table.c.incident, table.c.id, table.c.state)
        .where(table.c.incident.in_(list(incidents)))
        .order_by(table.c.id)
    )
    return {row.incident: (row.id, row.state) for row in connection.execute(query)}


def change(connection: Connection, recovery: str, *, now: float, **values: Any) -> None:
    """Set columns of a recovery: `state`, `reason`, `detail`, `evidence`, `mode`, `held_by` ..."""
    table = schema.recoveries
    connection.execute(update(table).where(table.c.id == recovery).values(updated_at=now, **values))


def add_steps(connection: Connection, recovery: str, steps: Sequence[Step]) -> None:
    """Write the plan of a recovery, or what is added to it, behind the steps that it has."""
    table = schema.recovery_steps
    mine = select(func.max(table.c.number)).where(table.c.recovery == recovery)
    for number, step in enumerate(steps, (connection.execute(mine).scalar() or 0) + 1):
        connection.execute(
            insert(schema.recovery_steps).values(
                recovery=recovery,
                number=number,
                kind=step.kind.value,
                target=step.target,
                description=step.description,
                timeout_seconds=step.timeout_seconds,
                arguments=step.arguments,
                rung=_rung(step),
                state="planned",
            )
        )


def steps(connection: Connection, recovery: str) -> list[StoredStep]:
    """Return the steps of a recovery in order."""
    table = schema.recovery_steps
    query = select(table).where(table.c.recovery == recovery).order_by(table.c.number)
    return [_step(row) for row in connection.execute(query)]


def change_step(connection: Connection, step: StoredStep, **values: Any) -> None:
    """Set columns of a step."""
    table = schema.recovery_steps
    connection.execute(
        update(table)
        .where(and_(table.c.recovery == step.recovery, table.c.number == step.number))
        .values(**values)
    )


def restarts_since(connection: Connection, job: str, since: float, *, beside: str = "") -> int:
    """Count the recoveries, beside one, that began to restart a job since then.

    However many rungs one of them took: those have bounds of their own. Restarts under names that
    the job had before count, too.
    """
    table = schema.recovery_steps
    query = select(func.count(table.c.recovery.distinct())).where(
        table.c.kind == StepKind.RESTART.value,
        table.c.target == job,
        table.c.started_at > since,
        table.c.recovery != beside,
    )
    own = connection.execute(query).scalar_one()
    return own + lineage.restarts_under_other_names(connection, job, since)


def rungs_since(connection: Connection, job: str, since: float) -> list[tuple[Rung, float]]:
    """Return which rungs were begun for a job since then, and when."""
    table = schema.recovery_steps
    query = select(table.c.rung, table.c.started_at).where(
        table.c.kind == StepKind.RESTART.value, table.c.target == job, table.c.started_at > since
    )
    return [(Rung(row.rung), row.started_at) for row in connection.execute(query) if row.rung]


def restarted_at(connection: Connection, jobs: Iterable[str]) -> dict[str, float]:
    """Return when the last restart of each job was finished."""
    table = schema.recovery_steps
    query = (
        select(table.c.target, func.max(table.c.done_at))
        .where(table.c.kind == StepKind.RESTART.value, table.c.target.in_(list(jobs)))
        .where(table.c.state == "done")
        .group_by(table.c.target)
    )
    return {target: at for target, at in connection.execute(query)}  # noqa: C416  rows, not pairs


def _rung(step: Step) -> str:
    if step.kind is not StepKind.RESTART:
        return ""
    return (step.rung or Rung.REQUEUE).value


def _next(connection: Connection, name: str) -> int:
    """Count up; the transaction makes it unique."""
    table = schema.counters
    row = connection.execute(select(table.c.value).where(table.c.name == name)).one_or_none()
    value = 1 if row is None else row.value + 1
    if row is None:
        connection.execute(insert(table).values(name=name, value=value))
    else:
        connection.execute(update(table).where(table.c.name == name).values(value=value))
    return value


def _recovery(row: Row[Any]) -> Recovery:
    return Recovery(
        id=row.id,
        incident=row.incident,
        adapter=row.adapter,
        mode=Mode(row.mode),
        state=row.state,
        reason=row.reason,
        evidence=row.evidence,
        created_at=row.created_at,
        updated_at=row.updated_at,
        held_by=row.held_by,
    )


def _step(row: Row[Any]) -> StoredStep:
    return StoredStep(
        recovery=row.recovery,
        number=row.number,
        step=Step(
            kind=StepKind(row.kind),
            target=row.target,
            description=row.description,
            timeout_seconds=row.timeout_seconds,
            arguments=row.arguments,
            rung=Rung(row.rung) if row.rung else None,
        ),
        state=row.state,
        attempts=row.attempts,
        started_at=row.started_at,
        done_at=row.done_at,
        detail=row.detail,
        undo=row.undo,
    )
