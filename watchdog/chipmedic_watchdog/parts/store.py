"""The store, and the lead over it."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import IO

from chipmedic_watchdog.config import WatchdogSettings
from chipmedic_watchdog.lead.leader import Lead, LeaderStore, Part
from chipmedic_watchdog.lead.lease import Member
from chipmedic_watchdog.lead.signals import Listener, Signal
from chipmedic_watchdog.parts.instruments import Instruments
from chipmedic_watchdog.startup import store_url
from chipmedic_watchdog.store.alone import claim
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from chipmedic_watchdog.version import own_version


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreParts:
    """The store as everybody uses it, and as the leader alone may write it."""

    database: Database
    beats: Database
    """For the beats of the lease alone where the store is shared."""
    lead: Lead
    leader: LeaderStore
    lock: IO[str] | None
    """Keeps another process away from an SQLite file."""

    @property
    def identity(self) -> str:
        """Id of this watchdog in the store; new with each start."""
        return self.lead.me.id

    def introduce(self, stream_port: int, url: str) -> None:
        """Give this watchdog the name by which people and the others know it.

        Raises:
            StoreError: it is alone and cannot take the lead, since the store cannot be written.
        """
        name = f"{self.lead.me.name}:{stream_port}"
        self.lead.me = replace(self.lead.me, name=name, http=url)
        if not self.database.is_shared:
            self.lead.take_for_ever()

    def listener(self, wakes: Mapping[Signal, Callable[[], None]]) -> Part:
        """Return what hears the signals of the other watchdogs."""
        return Listener(self.database.engine, self.identity, wakes).run

    async def close(self) -> None:
        """Give up the lead, then everything else; nothing is written after it."""
        await self.lead.release()
        self.database.close()
        self.beats.close()
        if self.lock is not None:
            self.lock.close()


def open_store(settings: WatchdogSettings, own: Instruments) -> StoreParts:
    """Open the store and bring its tables up to date.

    Raises:
        ConfigError: its address cannot be read.
        StoreError: it cannot be opened, another process has it, or it is newer than this version.
    """
    identity = secrets.token_hex(8)
    engine = open_engine(store_url(settings), identity)
    lock = claim(engine)
    migrate(engine)
    database = beats = Database(engine)
    if database.is_shared:
        beats = Database(open_engine(store_url(settings), identity))
    me = Member(id=identity, name=socket.gethostname(), http="", version=own_version())
    lead = Lead(beats, me, own.health, own.clock)
    own.metrics.is_leader.set_function(lambda: float(lead.is_held))
    own.metrics.lease_token.set_function(lambda: float(lead.token))
    leader = LeaderStore(database, lead)
    return StoreParts(database=database, beats=beats, lead=lead, leader=leader, lock=lock)
