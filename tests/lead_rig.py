"""Several watchdogs on one store, as far as they see of one another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from sqlalchemy import update

from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.config import LivenessSettings
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.intake.arrival import Arrival, Body, Greeting
from chipmedic_watchdog.intake.committer import Committer
from chipmedic_watchdog.intake.place import Place
from chipmedic_watchdog.intake.sessions import Session, Sessions
from chipmedic_watchdog.lead.leader import Lead, LeaderStore
from chipmedic_watchdog.lead.lease import Member
from chipmedic_watchdog.liveness import Liveness
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from intake_rig import all_written
from waiting import PATIENCE_SECONDS

SETTINGS = LivenessSettings(silence_seconds=2.0, startup_grace_seconds=30.0, stall_seconds=5.0)


@dataclass
class Watchdog:
    """The parts of one watchdog that the others see."""

    url: str
    id: str
    at: float = 10_000.0
    """Its own clock; the lease goes by the database's."""
    health: Health = field(default_factory=Health)

    def __post_init__(self) -> None:
        self.database = Database(open_engine(self.url, self.id))
        self.beats = Database(open_engine(self.url, self.id))
        self.clock = Clock(lambda: self.at, lambda: self.at)
        me = Member(id=self.id, name=f"head-{self.id}:7443", http="http://x", version="1")
        self.lead = Lead(self.beats, me, self.health, self.clock)
        self.store = LeaderStore(self.database, self.lead)
        self.sessions = Sessions(self.clock, SETTINGS.silence_seconds)
        metrics = self.metrics = Metrics()
        place = Place(watchdog=self.id, is_shared=True, leads=self.lead.leads)
        self.committer = Committer(self.database, metrics, self.health, place=place)
        self.liveness = Liveness(
            self.database, self.committer, self.sessions, metrics, SETTINGS, self.clock,
            lambda peers, _: set(peers), alive=lambda: self.lead.alive, me=self.id,
        )  # fmt: skip

    def arrival(self, session: Session, body: Body) -> Arrival:
        return Arrival(
            node=session.node, epoch="e", stream=session.stream, received_at=self.at, body=body
        )

    async def commit(self, arrival: Arrival) -> None:
        arrival.done = asyncio.get_running_loop().create_future()
        self.committer.put_now(arrival)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await arrival.done

    async def connect(self, node: str, *, machine: str = "", next_seq: int = 1) -> Session:
        session = Session(
            node=node, machine_id=machine or node, epoch="e", peer="p", opened_at=self.at
        )
        self.sessions.open(session)
        greeting = Greeting(
            machine_id=machine or node, boot_id="b", boot_time=1.0, agent_version="1", labels={},
            inventory=(), first_seq=1, next_seq=next_seq,
        )  # fmt: skip
        session.is_told = True
        await self.commit(self.arrival(session, greeting))
        return session

    async def pass_(self, seconds: float) -> None:
        end = self.at + seconds
        while self.at < end:
            self.at = min(end, self.at + 0.25)
            self.liveness.tick()
        await self.settle()

    async def settle(self) -> None:
        await all_written(self.committer, self.at)

    def close(self) -> None:
        self.database.close()
        self.beats.close()


@contextlib.asynccontextmanager
async def two_watchdogs(store_url: str) -> AsyncIterator[tuple[Watchdog, Watchdog]]:
    """Two watchdogs on one store, whose writers run."""
    pair = Watchdog(store_url, "a"), Watchdog(store_url, "b")
    tasks = [asyncio.create_task(one.committer.run()) for one in pair]
    yield pair
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    for one in pair:
        one.close()


def expire(database: Database) -> None:
    """Let the time of the lease be over."""
    database.write_now(lambda c: c.execute(update(schema.lease).values(expires_at=1.0)))
