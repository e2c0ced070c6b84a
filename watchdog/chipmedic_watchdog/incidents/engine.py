"""Runs the correlation when something changed: woken by the intake, with a slow beat besides."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import Connection

from chipmedic.errors import StoreError
from chipmedic.model import Severity
from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.incidents.correlate import correlate
from chipmedic_watchdog.incidents.elsewhere import Elsewhere, read_elsewhere
from chipmedic_watchdog.incidents.picture import IncidentChange
from chipmedic_watchdog.incidents.record import read_picture, write_changes
from chipmedic_watchdog.incidents.rules import RuleSet, builtin
from chipmedic_watchdog.intake.sessions import Sessions
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store.database import Store

log = logging.getLogger(__name__)

BEAT_SECONDS = 2.0
"""Recoveries end and catch-ups finish without a ring."""
REST_SECONDS = 0.25
"""A ring waits no longer than this, however long the looks take."""

Written = list[tuple[str, IncidentChange]]


class IncidentEngine:
    """Keeps the incidents true to the faults."""

    def __init__(
        self,
        database: Store,
        sessions: Sessions,
        metrics: Metrics,
        health: Health,
        settings: IncidentSettings,
        clock: Clock | None = None,
        rules: RuleSet | None = None,
        watchdog: str | None = None,
    ) -> None:
        """`watchdog` is this one's id where others serve agents too, None where it is alone."""
        self._database = database
        self._sessions = sessions
        self._metrics = metrics
        self._health = health
        self._clock = clock or Clock()
        self._watchdog = watchdog
        self._bell = Bell()
        self.settings = settings
        self.rules = rules or builtin()
        self.on_change: Callable[[], None] = lambda: None
        """Called when incidents have changed, after they are durable."""

    def wake(self) -> None:
        """Look now: faults changed."""
        self._bell.ring()

    async def run(self) -> None:
        """Work until cancelled."""
        wait_seconds, rest_seconds = BEAT_SECONDS, 0.0
        while True:
            await self._bell.wait(wait_seconds, at_least_seconds=rest_seconds)
            try:
                is_waiting = await self.look()
            except StoreError as e:
                if self._health.begin("incidents", str(e)):
                    log.warning("incidents cannot be written: why=%s", e)
                continue
            self._health.end("incidents")
            # A fault that settles needs one more look and nobody will ring for it.
            wait_seconds = max(self.settings.settle_seconds, 0.05) if is_waiting else BEAT_SECONDS
            rest_seconds = self._bell.rest_seconds(REST_SECONDS)

    async def look(self) -> bool:
        """Correlate once; returns whether faults wait for a later look."""
        catching_up = self._sessions.catching_up
        silent = self._recently_silent()

        def decide(connection: Connection, now: float) -> tuple[list[IncidentChange], bool]:
            elsewhere = self._elsewhere(connection, now)
            picture = read_picture(
                connection,
                self.settings,
                self.rules,
                now,
                catching_up=catching_up | elsewhere.catching_up,
                silent=silent | elsewhere.silent,
            )
            changes = correlate(picture, self.settings, self.rules)
            placed = {fault for change in changes for fault in change.attach}
            return changes, any(fault.id not in placed for fault in picture.faults)

        def write(connection: Connection) -> tuple[Written, bool]:
            now = self._clock.now()
            changes, is_waiting = decide(connection, now)
            return write_changes(connection, changes, now), is_waiting

        # Most looks change nothing; those take no write lock and wait for no writer.
        changes, is_waiting = await self._database.read(
            lambda connection: decide(connection, self._clock.now())
        )
        if changes:
            written, is_waiting = await self._database.write(write)
            self._tell(written)
        self._metrics.incident_passes.inc()
        return is_waiting or bool(catching_up)

    def _recently_silent(self) -> frozenset[str]:
        oldest = self._clock.now() - self.rules.silence_seconds
        return frozenset(node for node, away in self._sessions.away.items() if away.since >= oldest)

    def _elsewhere(self, connection: Connection, now: float) -> Elsewhere:
        """Return what the other watchdogs know of their nodes."""
        if self._watchdog is None:
            return Elsewhere()
        since = now - self.rules.silence_seconds
        return read_elsewhere(connection, self._watchdog, now, silent_since=since)

    def _tell(self, written: Written) -> None:
        now = self._clock.now()
        for incident, change in written:
            if change.incident is None:
                self._metrics.incident_delay_seconds.observe(max(0.0, now - change.fault_at))
            if change.is_news:
                log.info(
                    "incident: id=%s state=%s severity=%s kind=%s cause=%s nodes=%d title=%s",
                    incident, change.state, Severity(change.severity).name.lower(), change.kind,
                    change.cause, len(change.nodes), change.title,
                )  # fmt: skip
        if written:
            self.on_change()
