"""Jobs that bear another name after each restart: the pods of Kubernetes, which name them, are new.

The adapter says under which names a job goes on (`GOES_ON_AS`), and it is kept with the step. So a
job is followed over its restarts: whether it moves again, and how often it was restarted.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select

from chipmedic.recoverer import GOES_ON_AS, StepKind
from chipmedic_watchdog.store import schema


def goes_on_as(undo: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names that a restarted job has now; none: its own."""
    return tuple(name for name in str(undo.get(GOES_ON_AS, "")).split(",") if name)


def restarts_under_other_names(connection: Connection, job: str, since: float) -> int:
    """Count the recoveries begun since then that restarted a job under a name it had before."""
    table = schema.recovery_steps
    query = select(table.c.recovery, table.c.target, table.c.undo).where(
        table.c.kind == StepKind.RESTART.value, table.c.started_at > since
    )
    rows = [(row.recovery, row.target, goes_on_as(row.undo)) for row in connection.execute(query)]
    names = {job}
    while True:
        forebears = {target for _, target, after in rows if names & set(after)}
        if forebears <= names:
            break
        names |= forebears
    return len({recovery for recovery, target, _ in rows if target in names - {job}})
