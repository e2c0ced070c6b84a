"""The past as the store keeps it: faults with their course, jobs and where they ran, labels.

What the store does not keep is filled in: a job counts as on its nodes from its first known step
to the last report, and nodes have the labels of today.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, func, or_, select
from sqlalchemy.exc import DBAPIError

from chipmedic.errors import StoreError
from chipmedic.model import Action
from chipmedic_watchdog.incidents.picture import FaultFact, Placement
from chipmedic_watchdog.incidents.record import LATE_JOB_SECONDS, ended_at, fault_facts
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import open_engine

Stretch = tuple[float, float, Placement]
"""(from, to, which job held which chips)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastFault:
    """One fault and how it went."""

    fact: FaultFact
    """As it stands now."""
    action: Action
    severities: tuple[tuple[float, int], ...]
    """(from when, severity), the first at its opening."""

    def at(self, now: float) -> FaultFact:
        """Return the fault as it was at a time after its opening."""
        place = bisect_right(self.severities, now, key=lambda step: step[0])
        fact, end = self.fact, self.fact.cleared_at
        is_over = end is not None and end <= now
        return FaultFact(
            id=fact.id,
            node=fact.node,
            component=fact.component,
            kind=fact.kind,
            severity=self.severities[max(0, place - 1)][1],
            state="cleared" if is_over else "open",
            opened_at=fact.opened_at,
            began_at=fact.began_at,
            cleared_at=end if is_over else None,
            summary=fact.summary,
            codes=fact.codes,
            job=fact.job,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that a replay sees."""

    since: float
    until: float
    faults: tuple[PastFault, ...] = ()
    placements: tuple[Stretch, ...] = ()
    labels: Mapping[str, Mapping[str, str]]


@contextmanager
def read_only(url: str) -> Iterator[Connection]:
    """Open a store so that nothing can write to it.

    Raises:
        StoreError: there is none, or it cannot be read.
    """
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA query_only=ON")
            yield connection
    except DBAPIError as e:
        raise StoreError(f"store: cannot be read: {e.orig}") from e
    finally:
        engine.dispose()


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite:///"):
        return open_engine(url).execution_options(postgresql_readonly=True)
    path = Path(url.removeprefix("sqlite:///"))
    if not path.is_file():
        raise StoreError(f"store: {path}: no such file; name the watchdog's configuration")
    return create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")


def read_history(connection: Connection, since: float, until: float) -> History:
    """Read the faults that were open at any time of a period, and what was around them."""
    table = schema.faults.c
    actions = {
        row.id: Action(row.action) for row in connection.execute(select(table.id, table.action))
    }
    condition = or_(table.cleared_at.is_(None), table.cleared_at >= since)
    facts = [fact for fact, _ in fault_facts(connection, condition, table.opened_at <= until)]
    steps = _severities(connection, since, until)
    nodes = schema.nodes.c
    rows = connection.execute(select(nodes.node, nodes.labels))
    return History(
        since=since,
        until=until,
        faults=tuple(
            PastFault(fact=f, action=actions[f.id], severities=_course(f, steps)) for f in facts
        ),
        placements=tuple(_placements(connection, since)),
        labels={row.node: row.labels for row in rows},
    )


Course = dict[tuple[str, str, str], list[tuple[float, int]]]


def _severities(connection: Connection, since: float, until: float) -> Course:
    """Return what events have said of each component and kind, in the order in which they came."""
    table = schema.events.c
    query = (
        select(table.node, table.component, table.kind, table.received_at, table.severity)
        .where(table.received_at >= since, table.received_at <= until)
        .where(table.transition.in_(("raised", "updated")))
        .order_by(table.received_at, table.seq)
    )
    found: Course = {}
    for row in connection.execute(query):
        course = found.setdefault((row.node, row.component, row.kind), [])
        if not course or course[-1][1] != row.severity:
            course.append((row.received_at, row.severity))
    return found


def _course(fact: FaultFact, steps: Course) -> tuple[tuple[float, int], ...]:
    """Return the severities of one fault; where no event tells of its opening, that of its end."""
    end = fact.cleared_at if fact.cleared_at is not None else float("inf")
    course = steps.get((fact.node, fact.component, fact.kind), [])
    first = bisect_right(course, fact.opened_at, key=lambda step: step[0])
    own = [step for step in course[first:] if step[0] <= end]
    opening = course[first - 1][1] if first else (own[0][1] if own else fact.severity)
    return ((fact.opened_at, opening), *own)


def _placements(connection: Connection, since: float) -> Iterator[Stretch]:
    progress, table = schema.job_progress.c, schema.job_nodes
    begun: dict[str, float] = {
        row.job: row.at
        for row in connection.execute(
            select(progress.job, func.min(progress.at).label("at")).group_by(progress.job)
        )
    }
    nodes = schema.nodes
    placed = table.outerjoin(nodes, table.c.node == nodes.c.node)
    query = select(table, nodes.c.skew_seconds).select_from(placed)
    rows: Any = connection.execute(query.where(table.c.received_at >= since))
    for row in rows:
        placement = Placement(
            job=row.job, node=row.node, chips=frozenset(row.chips), ended_at=ended_at(row)
        )
        yield begun.get(row.job, 0.0), row.received_at + LATE_JOB_SECONDS, placement
