"""The parts of access as the daemon has them: certificates, the door for joins, the witness."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path

from chipmedic.address import split_address
from chipmedic.errors import ConfigError, StoreError
from chipmedic_watchdog.access import enrolment, served
from chipmedic_watchdog.access.authority import Authority
from chipmedic_watchdog.access.join_app import JoinApp
from chipmedic_watchdog.access.revocations import Revocations
from chipmedic_watchdog.access.served import Served
from chipmedic_watchdog.access.witness import Witness
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.config import JoinSettings, WatchdogSettings
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.intake.gate import Gate
from chipmedic_watchdog.intake.renewal import Renewal
from chipmedic_watchdog.intake.sessions import Sessions
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store.database import Database
from chipmedic_watchdog.web.connections import Connections
from chipmedic_watchdog.web.server import WebServer

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
"""How soon a certificate that was exchanged in its file is shown."""
JOINS_AT_ONCE, JOINS_OF_ONE_ADDRESS = 256, 128
"""Connections to the door for joins; above it the rest is told to come back (503)."""


class AccessParts:
    """Made from the configuration; opens the door for joins."""

    def __init__(
        self,
        settings: WatchdogSettings,
        database: Database,
        sessions: Sessions,
        metrics: Metrics,
        health: Health,
        clock: Clock,
    ) -> None:
        """Read or make keys and certificates.

        Raises:
            ConfigError: one of them cannot be read, made or used.
            ChipmedicError: the address for joins is taken.
        """
        join = settings.join
        self._health = health
        self._database = database
        self._clock = clock
        self.gate = Gate(settings.stream.certificate_names)
        self.authority = None if join is None else Authority(Path(join.directory))
        _look_at_files(settings)
        self.stream = _stream(settings, self.authority)
        self.http = _http(settings, self.authority)
        self.renewal: Renewal | None = None
        self.door: WebServer | None = None
        if join is not None and self.authority is not None:
            lifetime_seconds = join.certificate_lifetime_seconds
            self.renewal = Renewal(
                database, self.authority, self.gate, metrics, lifetime_seconds, clock
            )
            app = JoinApp(database, self.authority, metrics, lifetime_seconds, clock)
            shown = Served(_own(join, self.authority, join.listen))
            self._all = [shown]
            self.door = WebServer(
                app.application(),
                join.listen,
                shown.ssl_context(),
                connections=Connections(
                    maximum=JOINS_AT_ONCE,
                    of_one_address=JOINS_OF_ONE_ADDRESS,
                    on_refused=metrics.refuse_http,
                ),
            )
        else:
            self._all = []
        self._all += [one for one in (self.stream, self.http) if one is not None]
        self.revocations = Revocations(database, self.gate, sessions, clock)
        self.witness = Witness(database, metrics)

    def parts(self) -> dict[str, Callable[[], Coroutine[None, None, None]]]:
        """Return what runs beside the others."""
        parts = {
            "certificates": self._keep,
            "revocations": self.revocations.run,
            "witness": self.witness.run,
        }
        if self.door is not None:
            parts["join"] = self.door.run
        return parts

    async def _compare_authorities(self, authority: Authority) -> None:
        """Say when nodes that joined before are refused: the folder was lost, or is not shared."""
        now = self._clock.now()
        before = await self._database.write(
            lambda c: enrolment.note_authority(c, authority.fingerprint, now=now)
        )
        if before is not None:
            words = (
                f"join: this authority ({authority.fingerprint[:16]}...) is not the one before "
                f"({before[:16]}...): nodes that joined there are refused here; put that one's "
                "folder into join.directory, or let them join again"
            )
            self._health.warnings["join"] = words
            log.warning("%s", words)

    async def _keep(self) -> None:
        """Exchange certificates as they come due or change in their files."""
        to_compare = self.authority
        while True:
            if to_compare is not None:
                with contextlib.suppress(StoreError):  # later, when it answers again
                    await self._compare_authorities(to_compare)
                    to_compare = None
            kept = [words for one in self._all if (words := one.refresh()) is not None]
            troubles = [f"the old one stays in force: {words}" for words in kept]
            now = self._clock.now()
            troubles += [words for one in self._all for words in one.out_of_date(now)]
            if troubles:
                self._health.begin("certificate", troubles[0])
            else:
                self._health.end("certificate")
            await asyncio.sleep(LOOK_SECONDS)


def _look_at_files(settings: WatchdogSettings) -> None:
    """Say what is wrong with the files of both listeners at once.

    Raises:
        ConfigError: one of them cannot be used.
    """
    problems = [*settings.stream.tls_files.unusable(), *settings.http.tls_files.unusable()]
    if problems:
        raise ConfigError("certificates", problems)


def _stream(settings: WatchdogSettings, authority: Authority | None) -> Served | None:
    stream = settings.stream
    if settings.join is not None and authority is not None:
        return Served(_own(settings.join, authority, stream.listen))
    if stream.certificate_file is None or stream.key_file is None:
        return None
    return Served(served.from_files(stream.tls_files), stream.tls_files)


def _http(settings: WatchdogSettings, authority: Authority | None) -> Served | None:
    http = settings.http
    if http.own_certificate and settings.join is not None and authority is not None:
        return Served(_own(settings.join, authority, http.listen))
    if http.certificate_file is None or http.key_file is None:
        return None
    return Served(served.from_files(http.tls_files), http.tls_files)


def _own(join: JoinSettings, authority: Authority, listen: str) -> Callable[[], served.Shown]:
    names = served.own_names(join.names, split_address(listen)[0])
    return served.from_authority(authority, names)
