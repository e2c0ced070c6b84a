"""Finds isolations that somebody else has ended: their word ends our repair of that node."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from sqlalchemy import Connection, select, update

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import Recoverer, Step, StepKind, StepResult, Tidier
from chipmedic_watchdog.recover import adapters, book
from chipmedic_watchdog.store import audit, schema
from chipmedic_watchdog.store.database import Store

LOGGER = logging.getLogger(__name__)

TIMEOUT_SECONDS = 60.0


async def reconcile(database: Store, recoverers: Mapping[str, Recoverer], *, now: float) -> None:
    """Ask the world about every isolation that no recovery is working on."""
    active = await database.read(lambda c: book.in_states(c, book.ACTIVE))
    busy = {node for recovery in active for node in recovery.nodes}
    for identity, step, name in await database.read(_open_isolations):
        if name not in recoverers or step.target in busy:
            continue
        held = await _confirm(recoverers[name], adapters.with_token(step, database.fencing_token))
        if held is None or held.is_done:
            continue
        if await database.write(_ending(identity, step.target, held.detail, now)):
            LOGGER.warning(
                "isolation ended by somebody else: node=%s is=%s", step.target, held.detail
            )
            await _tidy(recoverers[name], adapters.with_token(step, database.fencing_token))


async def _confirm(recoverer: Recoverer, step: Step) -> StepResult | None:
    """Return what the world says, or None where it cannot be read: that says nothing."""
    try:
        return await adapters.call(
            recoverer, lambda: recoverer.confirm(step), timeout_seconds=TIMEOUT_SECONDS
        )
    except DeliveryFailed:
        return None


async def _tidy(recoverer: Recoverer, step: Step) -> None:
    """Take our marks off a node that somebody else has given back, where there are any."""
    if not isinstance(recoverer, Tidier):
        return
    try:
        await adapters.call(
            recoverer, lambda: recoverer.tidy(step), timeout_seconds=TIMEOUT_SECONDS
        )
    except DeliveryFailed as e:
        LOGGER.warning("our marks are left on a node: node=%s why=%s", step.target, e)


def _open_isolations(connection: Connection) -> list[tuple[int, Step, str]]:
    table = schema.isolations
    query = select(table).where(table.c.returned_at.is_(None))
    return [
        (row.id, isolation_step(row.node, row.undo), row.adapter)
        for row in connection.execute(query)
    ]


def isolation_step(node: str, undo: Mapping[str, str]) -> Step:
    """Return the step that made an isolation, as far as confirming it needs."""
    return Step(
        kind=StepKind.ISOLATE,
        target=node,
        description=f"isolate {node}",
        timeout_seconds=TIMEOUT_SECONDS,
        arguments={str(key): str(value) for key, value in undo.items()},
    )


def _ending(identity: int, node: str, detail: str, now: float) -> Callable[[Connection], bool]:
    """Return the write of an end; it says whether it was one, for we may have done it ourselves."""

    def write(connection: Connection) -> bool:
        active = book.in_states(connection, book.ACTIVE)
        if any(node in recovery.nodes for recovery in active):
            return False
        table = schema.isolations
        is_open = (table.c.id == identity) & table.c.returned_at.is_(None)
        done = connection.execute(update(table).where(is_open).values(returned_at=now))
        if done.rowcount:
            audit.append(
                connection, at=now, who="somebody else", act="returned", target=node, detail=detail
            )
        return bool(done.rowcount)

    return write
