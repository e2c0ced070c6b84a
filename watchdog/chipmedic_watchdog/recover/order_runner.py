"""Has agents do what was asked of them: each watchdog those of the nodes that it serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from chipmedic.errors import DeliveryFailed, StoreError
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.intake.orders import job_act
from chipmedic_watchdog.intake.sessions import Sessions
from chipmedic_watchdog.recover import order_book
from chipmedic_watchdog.recover.order_book import Answer, AskedOrder
from chipmedic_watchdog.store.database import Database

LOGGER = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Without a ring: another watchdog's order whose signal was lost, a node that connects now."""
RING_SECONDS = 0.05


class OrderRunner:
    """Looks for orders until it is cancelled."""

    def __init__(self, database: Database, sessions: Sessions, *, now: Callable[[], float]) -> None:
        self._database = database
        self._sessions = sessions
        self._now = now
        self._bell = Bell()
        self._under_way: set[str] = set()
        self._trouble = ""

    def wake(self) -> None:
        """Look now: something was asked for."""
        self._bell.ring()

    async def run(self) -> None:
        """Work until cancelled; trouble of the store leaves an order for the next look."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._bell.wait(LOOK_SECONDS, at_least_seconds=RING_SECONDS)
                nodes, now = set(self._sessions.live), self._now()
                try:
                    found = await self._database.read(
                        partial(order_book.waiting, nodes=nodes, now=now)
                    )
                except StoreError as e:
                    if str(e) != self._trouble:
                        LOGGER.warning("orders to agents wait for the store: why=%s", e)
                    self._trouble = str(e)
                    continue
                self._trouble = ""
                for asked in found:
                    if asked.id not in self._under_way:
                        self._under_way.add(asked.id)
                        group.create_task(self._give(asked), name=f"order to {asked.order.node}")

    async def _give(self, asked: AskedOrder) -> None:
        """Give one order; a stream that is lost meanwhile leaves it for the next look."""
        order = asked.order
        try:
            said = await job_act(
                self._sessions,
                order.node,
                pb.JobAct(act=order.act, job=order.job, reason=order.reason, attempt=order.attempt),
                fencing_token=asked.fencing_token,
                timeout_seconds=max(0.1, asked.expires_at - self._now()),
            )
            LOGGER.info(
                "agent asked: node=%s act=%s job=%s ok=%s detail=%s",
                order.node, order.act, order.job, said.ok, said.detail,
            )  # fmt: skip
            answer = Answer(is_ok=said.ok, detail=said.detail, is_final=said.is_final)
            now = self._now()
            await self._database.write(lambda c: order_book.answer(c, asked.id, answer, now))
        except (DeliveryFailed, StoreError) as e:
            LOGGER.warning("agent not asked: node=%s act=%s why=%s", order.node, order.act, e)
        finally:
            self._under_way.discard(asked.id)
