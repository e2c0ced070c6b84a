"""Has agents run the checks that were asked for: each watchdog those of the nodes it serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy import Connection, select

from chipmedic.errors import DeliveryFailed, StoreError
from chipmedic_watchdog.intake.orders import run_gate
from chipmedic_watchdog.intake.sessions import Sessions
from chipmedic_watchdog.recover import gate
from chipmedic_watchdog.recover.gate import GateNext, GateState
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database

LOGGER = logging.getLogger(__name__)

LOOK_SECONDS = 2.0


class GateRunner:
    """Looks for checks to run until it is cancelled."""

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        *,
        token: Callable[[], int],
        timeout_seconds: Callable[[], float],
        now: Callable[[], float],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._token = token
        self._timeout_seconds = timeout_seconds
        self._now = now
        self._on_change = on_change
        self._under_way: set[int] = set()
        self._trouble = ""

    async def run(self) -> None:
        """Work until cancelled; trouble of the store leaves a check for the next look."""
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                try:
                    wanted = await self._database.read(_asked)
                except StoreError as e:
                    if str(e) != self._trouble:
                        LOGGER.warning("checks of nodes wait for the store: why=%s", e)
                    self._trouble = str(e)
                    continue
                self._trouble = ""
                for identity, node in wanted:
                    if node in self._sessions.live and identity not in self._under_way:
                        self._under_way.add(identity)
                        group.create_task(self._check(identity, node), name=f"check {node}")

    async def _check(self, identity: int, node: str) -> None:
        try:
            try:
                result = await run_gate(
                    self._sessions,
                    node,
                    fencing_token=self._token(),
                    timeout_seconds=self._timeout_seconds(),
                )
                is_fit, detail = result.ok, result.detail
            except DeliveryFailed as e:
                is_fit, detail = False, str(e)
            state = GateState.PASSED if is_fit else GateState.FAILED
            then = GateNext(state=state, detail=detail)
            LOGGER.info("check of a node: node=%s state=%s detail=%s", node, state.value, detail)
            await self._database.write(
                lambda c: _answer(c, identity, then, node=node, now=self._now())
            )
        except StoreError as e:
            LOGGER.warning("the check of a node is not written: node=%s why=%s", node, e)
        finally:
            self._under_way.discard(identity)
        self._on_change()


def _asked(connection: Connection) -> list[tuple[int, str]]:
    table = schema.isolations
    query = select(table.c.id, table.c.node).where(
        table.c.gate == GateState.ASKED.value, table.c.returned_at.is_(None)
    )
    return [(row.id, row.node) for row in connection.execute(query)]


def _answer(
    connection: Connection, identity: int, then: GateNext, *, node: str, now: float
) -> None:
    """Write what came of a check, where it is still asked for."""
    table = schema.isolations
    query = select(table.c.gate).where(table.c.id == identity, table.c.returned_at.is_(None))
    if connection.execute(query).scalar() == GateState.ASKED.value:
        gate.write(connection, identity, then, node=node, now=now)
