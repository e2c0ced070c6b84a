"""The parts of a running intake: a real gRPC server over a real SQLite file."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from sqlalchemy import Table, select

from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.config import StreamSettings
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.intake.arrival import Arrival
from chipmedic_watchdog.intake.committer import Committer
from chipmedic_watchdog.intake.message import ReceivedHeartbeat
from chipmedic_watchdog.intake.server import build_server
from chipmedic_watchdog.intake.service import StreamService
from chipmedic_watchdog.intake.sessions import Sessions
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store.database import Database
from waiting import PATIENCE_SECONDS


@dataclass(slots=True)
class Intake:
    """The parts of a running intake."""

    database: Database
    address: str = ""
    settings: StreamSettings = field(default_factory=lambda: StreamSettings(listen="127.0.0.1:0"))
    credentials: grpc.ServerCredentials | None = None
    kernel_tells: bool | None = None
    metrics: Metrics = field(default_factory=Metrics)
    health: Health = field(default_factory=Health)
    sessions: Sessions = field(default_factory=lambda: Sessions(Clock(), 2.0))
    committer: Committer = field(init=False)
    service: StreamService = field(init=False)

    def __post_init__(self) -> None:
        self.committer = Committer(self.database, self.metrics, self.health)
        self.service = StreamService(self.committer, self.sessions, self.metrics, self.settings)

    def rows(self, table: Table) -> list[dict[str, Any]]:
        return rows(self.database, table)

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"chipmedic_watchdog_{name}", labels) or 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Intake]:
        server, port = build_server(
            self.service,
            self.settings.listen,
            self.credentials,
            kernel_tells=self.kernel_tells,
        )
        self.address = f"127.0.0.1:{port}"
        await server.start()
        committing = asyncio.create_task(self.committer.run())
        try:
            yield self
        finally:
            await server.stop(0)
            committing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await committing


async def all_written(committer: Committer, at: float) -> None:
    """Wait until everything that the committer was given is in the store."""
    nothing = ReceivedHeartbeat(at=at, coverage=(), jobs=(), is_whole=True)
    last = Arrival(node="nobody", epoch="e", received_at=at, body=nothing)
    last.done = asyncio.get_running_loop().create_future()
    committer.put_now(last)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await last.done


def rows(database: Database, table: Table) -> list[dict[str, Any]]:
    return database.read_now(
        lambda connection: [dict(row) for row in connection.execute(select(table)).mappings()]
    )
