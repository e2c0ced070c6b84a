"""The agents as an adapter sees them: what each reports of a job, and what it may be asked to do.

An adapter works in a thread of its own and may block; the store belongs to the event loop. What is
asked goes through the store, because the node's stream may be at another watchdog.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from chipmedic.errors import DeliveryFailed, StoreError
from chipmedic_watchdog.intake.job_names import TOLD_AS
from chipmedic_watchdog.intake.tracks import track_from_json
from chipmedic_watchdog.recover import order_book
from chipmedic_watchdog.recover.order_book import Answer, Order
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Store

POLL_SECONDS = 0.1
STANDING = ("job.hung", "job.crashed")
"""Faults after which a job makes no step any more."""
STORE_SECONDS = 30.0
"""How long the store may take for one question."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOnNode:
    """What a node reports of a job at present."""

    node: str
    pids: tuple[int, ...]
    """Its processes that live there; none between two starts."""
    ranks: tuple[int, ...]
    attempt: int
    step: int | None
    step_age_seconds: float | None
    """How old its newest step was when it was reported, by the node's own clock."""
    checkpoint_step: int | None
    phase: str | None
    told_as: tuple[str, ...] = ()
    """How its agent calls the job, where that is not its name."""


class Agents:
    """Asks agents and the store on behalf of threads."""

    def __init__(
        self,
        database: Store,
        *,
        now: Callable[[], float] = time.time,
        on_ask: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._now = now
        self._on_ask = on_ask
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        """Work on the event loop that runs now."""
        self._loop = asyncio.get_running_loop()

    def ask_all(self, orders: Sequence[Order], *, timeout_seconds: float) -> list[Answer]:
        """Have agents do something, all at once, and return what each says; blocks.

        Silence is an answer that is not ok.

        Raises:
            DeliveryFailed: the store is not to be had.
        """
        asked_at = self._now()
        ids = self._write(
            lambda c: [
                order_book.ask(c, order, now=asked_at, timeout_seconds=timeout_seconds)
                for order in orders
            ]
        )
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._on_ask)
        deadline = time.monotonic() + timeout_seconds
        answers: dict[str, Answer] = {}
        while len(answers) < len(ids) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            missing = [identity for identity in ids if identity not in answers]
            answers |= self._read(partial(order_book.read, identities=missing))
        over_at = self._now()
        self._write(lambda c: order_book.take_away(c, ids, over_at))
        silence = Answer(
            is_ok=False, detail=f"its agent has not answered within {timeout_seconds:g} s"
        )
        return [answers.get(identity, silence) for identity in ids]

    def ask(self, order: Order, *, timeout_seconds: float) -> Answer:
        """Have one agent do something; as `ask_all`."""
        return self.ask_all([order], timeout_seconds=timeout_seconds)[0]

    def must(self, order: Order, *, timeout_seconds: float) -> str:
        """Do what `ask` does, where no other answer than yes will do; return its words.

        Raises:
            DeliveryFailed: the agent said no (permanent where it will say so again), or nothing.
        """
        said = self.ask(order, timeout_seconds=timeout_seconds)
        if not said.is_ok:
            raise DeliveryFailed(f"{order.node}: {said.detail}", is_permanent=said.is_final)
        return said.detail

    def job(self, job: str) -> dict[str, JobOnNode]:
        """Return what each node reports of a job, by node; those that do not any more are not in.

        Raises:
            DeliveryFailed: the store is not to be had.
        """
        return self._read(lambda c: job_on_nodes(c, job))

    def pace_seconds(self, job: str) -> float:
        """Return how long a step of a job takes; 0 where that is not known.

        Raises:
            DeliveryFailed: the store is not to be had.
        """
        return self._read(lambda c: _pace_seconds(c, job))

    def standing(self, job: str) -> str | None:
        """Return the kind of an open fault that says that a job stands still, None without one.

        Raises:
            DeliveryFailed: the store is not to be had.
        """
        return self._read(lambda c: _standing(c, job))

    def _read(self, work: Callable[[Connection], Result]) -> Result:
        return self._run(lambda: self._database.read(work))

    def _write(self, work: Callable[[Connection], Result]) -> Result:
        return self._run(lambda: self._database.write(work))

    def _run(self, make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        if self._loop is None:
            raise DeliveryFailed("the watchdog is only starting")
        future = asyncio.run_coroutine_threadsafe(make(), self._loop)
        try:
            return future.result(timeout=STORE_SECONDS)
        except (StoreError, TimeoutError, CancelledError) as e:
            future.cancel()
            raise DeliveryFailed(f"the store: {e or type(e).__name__}") from e


def job_on_nodes(connection: Connection, job: str) -> dict[str, JobOnNode]:
    """Return what each node reports of a job at present, by node."""
    table = schema.job_nodes
    query = select(table).where(table.c.job == job, table.c.is_present).order_by(table.c.node)
    return {
        row.node: JobOnNode(
            node=row.node,
            pids=tuple(row.pids),
            ranks=tuple(row.ranks),
            attempt=row.attempt,
            step=row.step,
            step_age_seconds=None if row.step_at is None else max(0.0, row.node_at - row.step_at),
            checkpoint_step=row.checkpoint_step,
            phase=row.phase,
            told_as=tuple(row.labels.get(TOLD_AS, "").split()),
        )
        for row in connection.execute(query)
    }


def _pace_seconds(connection: Connection, job: str) -> float:
    table = schema.job_tracks
    body = connection.execute(select(table.c.body).where(table.c.job == job)).scalar()
    return 0.0 if body is None else track_from_json(body).pace_seconds or 0.0


def _standing(connection: Connection, job: str) -> str | None:
    table = schema.faults
    is_open = (table.c.job == job) & table.c.kind.in_(STANDING) & (table.c.state == "open")
    return connection.execute(select(table.c.kind).where(is_open).limit(1)).scalar()
