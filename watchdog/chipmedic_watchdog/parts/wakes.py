"""Who looks when something has changed: the only place in which the parts are tied together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chipmedic_watchdog.lead.signals import Signal
from chipmedic_watchdog.parts.intake import IntakeParts
from chipmedic_watchdog.parts.leading import LeadingParts
from chipmedic_watchdog.parts.recovery import RecoveryParts
from chipmedic_watchdog.parts.web import WebParts


class Wakes:
    """Wakes the parts of one daemon."""

    def __init__(self, intake: IntakeParts, leading: LeadingParts, recovery: RecoveryParts) -> None:
        self._intake = intake
        self._leading = leading
        self._orders = recovery.orders

    def connect(self, web: WebParts) -> None:
        """Let each part wake those that its changes concern."""
        committer = self._intake.committer
        committer.on_faults = self._leading.incidents.wake
        committer.on_progress = self.for_progress
        committer.on_recovered = self._intake.liveness.forgive
        self._leading.incidents.on_change = self.readers
        self._leading.recovery.on_change = self.all
        web.api.on_act = self.all
        web.api.on_revoked = self._intake.access.revocations.wake

    def by_signal(self) -> Mapping[Signal, Callable[[], None]]:
        """Return the same for what other watchdogs have changed."""
        return {
            Signal.FAULTS: self._leading.incidents.wake,
            Signal.PROGRESS: self.for_progress,
            Signal.NODES: self._intake.liveness.wake,
            Signal.ACT: self.all,
            Signal.ORDERS: self._orders.wake,
        }

    def for_progress(self) -> None:
        """A step of a job is no news for people; it comes many times a second."""
        self._leading.recovery.wake()
        self._leading.ledger.wake()

    def readers(self) -> None:
        """Wake those that read incidents."""
        for part in (self._leading.recovery, self._leading.notices, self._leading.ledger):
            part.wake()

    def all(self) -> None:
        """A person, or recovery, has changed something."""
        self._intake.access.witness.wake()
        self._leading.incidents.wake()
        self.readers()
