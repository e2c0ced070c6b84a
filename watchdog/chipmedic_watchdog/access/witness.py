"""Tells the audit's head to log and metrics, where nobody who cuts the store can reach it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from chipmedic.audit_chain import Head
from chipmedic.errors import StoreError
from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store import audit
from chipmedic_watchdog.store.database import Database

log = logging.getLogger(__name__)

PERIOD_SECONDS = 5.0


@dataclass(slots=True)
class Witness:
    """A part of the daemon."""

    database: Database
    metrics: Metrics
    _told: Head = field(default_factory=Head)
    _bell: Bell = field(default_factory=Bell)

    def wake(self) -> None:
        """Look now."""
        self._bell.ring()

    async def run(self) -> None:
        """Look now and then until cancelled."""
        while True:
            await self.look()
            await self._bell.wait(PERIOD_SECONDS)

    async def look(self) -> None:
        """Tell of a head that is new; only what is durable is read."""
        try:
            head = await self.database.read(audit.read_head)
        except StoreError:
            return  # said by others; it is told when the store answers again
        if head != self._told:
            log.info("audit: head=%s", head)
        if head.seq < self._told.seq:
            log.error(
                "the audit has become shorter: it had %d entries and has %d; "
                "hold it against: chipmedic audit verify --head %s",
                self._told.seq, head.seq, self._told,
            )  # fmt: skip
        self._told = head
        self.metrics.audit_entries.set(head.seq)
        self.metrics.audit_head.set(head.number)
