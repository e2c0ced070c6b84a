"""How one watchdog tells the others that there is something to look at: PostgreSQL's NOTIFY.

It goes out with the commit of the transaction, so whoever hears it finds what it is about. A signal
that is lost (the listener was reconnecting) costs a beat of the part concerned, never more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, text
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from chipmedic_watchdog.store import postgresql

log = logging.getLogger(__name__)

CHANNEL = "chipmedic"
RETRY_LONGEST_SECONDS = 10.0


class Signal(StrEnum):
    """What there is to look at."""

    FAULTS = "faults"
    PROGRESS = "progress"
    NODES = "nodes"
    """A node's time to come back is over."""
    ACT = "act"
    """A person has said something."""
    ORDERS = "orders"
    """An agent is to do something."""


def tell(connection: Connection, signal: Signal) -> None:
    """Let every watchdog know, when this transaction is committed."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT pg_notify(:channel, :word)"), {"channel": CHANNEL, "word": signal.value}
        )


class Listener:
    """Hears the signals of all watchdogs, its own among them, and calls what is set for each."""

    def __init__(
        self, engine: Engine, watchdog: str, on: Mapping[Signal, Callable[[], None]]
    ) -> None:
        self._engine = engine
        self._watchdog = watchdog
        self._on = on

    async def run(self) -> None:
        """Listen until cancelled; a lost connection is made again."""
        while True:
            await self._retrying()(self._listen)

    @staticmethod
    def _retrying() -> AsyncRetrying:
        return AsyncRetrying(
            wait=wait_random_exponential(multiplier=0.5, max=RETRY_LONGEST_SECONDS),
            retry=retry_if_exception_type(psycopg.Error),
            before_sleep=_say,
        )

    async def _listen(self) -> None:
        _, arguments = self._engine.dialect.create_connect_args(self._engine.url)
        whole = {**postgresql.connect_arguments(self._engine.url, self._watchdog), **arguments}
        connection: psycopg.AsyncConnection[Any]
        connection = await psycopg.AsyncConnection.connect(**whole, autocommit=True)
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}".encode())
            for wake in self._on.values():  # what was said meanwhile was not heard
                wake()
            async for notice in connection.notifies():
                self._hear(notice.payload)

    def _hear(self, word: str) -> None:
        try:
            wake = self._on.get(Signal(word))
        except ValueError:
            return  # of a later version
        if wake is not None:
            wake()


def _say(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("signals of other watchdogs are not heard: why=%s", " ".join(str(error).split()))
