"""Agents and an elastic job that live in the store: what the watchdog asks of them is done there.

Launchers behave as torchrun's do: when one leaves, or its workers are ended, the others start their
workers again, and one that waits joins them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count

from sqlalchemy import Connection, delete

from chipmedic_watchdog.recover import order_book
from chipmedic_watchdog.recover.order_book import Answer, Order
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.recover.story import NOW, put

JOB = "torchrun:llama"
SILENT = "silent"


@dataclass
class ElasticJob:
    """A job on some nodes, and their agents."""

    database: Database
    nodes: dict[str, list[int]] = field(default_factory=dict)
    """Node -> pids of its workers."""
    spares: list[str] = field(default_factory=list)
    stuck: set[str] = field(default_factory=set)
    """Nodes whose workers do not notice that another has gone."""
    late: set[str] = field(default_factory=set)
    """Nodes whose workers are slow to come back."""
    answers: dict[str, Answer | str] = field(default_factory=dict)
    """What the agent of a node says instead; SILENT: nothing."""
    kept_out: dict[str, str] = field(default_factory=dict)
    acts: list[str] = field(default_factory=list)
    saves_at: int | None = None
    """The step of the checkpoint that it writes when it is asked."""
    checkpoint: int | None = 100
    step_age_seconds: float | None = 0.5
    phase: str = "train"
    ranks: dict[str, list[int]] = field(default_factory=dict)
    """By node, where it tells them."""
    _pids: count[int] = field(default_factory=lambda: count(1000))

    def start(self, *nodes: str) -> None:
        for node in nodes:
            self.nodes[node] = [next(self._pids), next(self._pids)]
        self.report()

    def report(self) -> None:
        """Write what the agents tell of the job."""
        self.database.write_now(lambda c: c.execute(delete(schema.job_nodes)))
        for node, pids in self.nodes.items():
            put(
                self.database, schema.job_nodes, job=JOB, node=node, node_at=NOW, received_at=NOW,
                pids=pids,
                ranks=self.ranks.get(node, []), attempt=0, is_present=True,
                checkpoint_step=self.checkpoint,
                step=None if self.step_age_seconds is None else 120, phase=self.phase,
                step_at=None if self.step_age_seconds is None else NOW - self.step_age_seconds,
            )  # fmt: skip

    @asynccontextmanager
    async def obeying(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._obey())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _obey(self) -> None:
        nodes = {"n1", "n2", "n3", "n4"}
        while True:
            await asyncio.sleep(0.01)
            asked = await self.database.read(lambda c: order_book.waiting(c, nodes, NOW))
            for each in asked:
                said = self._do(each.order)
                if isinstance(said, Answer):
                    await self.database.write(_answer(each.id, said))

    def _do(self, order: Order) -> Answer | str:
        instead = self.answers.get(order.node)
        if instead is not None:
            return instead
        if order.act == "look":
            present = self.kept_out.get(order.node)
            return Answer(is_ok=present is not None, detail=present or "launchers may start")
        self.acts.append(f"{order.act} {order.node}")
        match order.act:
            case "keep_out":
                self.kept_out[order.node] = order.reason
            case "let_in":
                self.kept_out.pop(order.node, None)
            case "leave":
                self.nodes.pop(order.node, None)
                self._form_anew(order.node)
            case "restart":
                self.nodes[order.node] = [next(self._pids), next(self._pids)]
                if order.node in self.late:
                    self.nodes[order.node] = []
                self._form_anew(order.node)
            case "checkpoint":
                self.checkpoint = self.saves_at or self.checkpoint
        self.report()
        return Answer(is_ok=True, detail=f"{order.act} is done")

    def _form_anew(self, cause: str) -> None:
        for node in self.nodes:
            if node != cause and node not in self.stuck:
                self.nodes[node] = [next(self._pids), next(self._pids)]
        if cause not in self.nodes and self.spares:
            self.nodes[self.spares.pop(0)] = [next(self._pids), next(self._pids)]


def _answer(identity: str, said: Answer):  # type: ignore[no-untyped-def]
    def write(connection: Connection) -> None:
        order_book.answer(connection, identity, said, NOW)

    return write
