"""Keeps the gate's list of revoked certificates, and ends the streams of those that are on it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from chipmedic.errors import StoreError
from chipmedic_watchdog.access import enrolment
from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.intake.gate import Gate
from chipmedic_watchdog.intake.sessions import Sessions
from chipmedic_watchdog.store.database import Database

log = logging.getLogger(__name__)

PERIOD_SECONDS = 5.0
"""A revocation at another watchdog of the same store is in force here after this long."""


@dataclass(slots=True)
class Revocations:
    """A part of the daemon."""

    database: Database
    gate: Gate
    sessions: Sessions
    clock: Clock = field(default_factory=Clock)
    _bell: Bell = field(default_factory=Bell)

    def wake(self) -> None:
        """Look now."""
        self._bell.ring()

    async def run(self) -> None:
        """Look now and then until cancelled."""
        while True:
            await self.refresh()
            await self._bell.wait(PERIOD_SECONDS)

    async def refresh(self) -> None:
        """Read the list; what the store cannot tell now stays as it was."""
        try:
            self.gate.revoked = await self.database.read(
                lambda c: enrolment.revoked(c, self.clock.now())
            )
        except StoreError as e:
            log.warning("revoked certificates cannot be read: why=%s", e)
            return
        for session in list(self.sessions.live.values()):
            if session.serial and session.serial in self.gate.revoked:
                log.warning("stream ended: node=%s why=its certificate was revoked", session.node)
                session.end()
