"""The HTTP side, and what is said where a port is open to everybody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chipmedic_watchdog.config import WatchdogSettings
from chipmedic_watchdog.parts.instruments import Instruments
from chipmedic_watchdog.parts.intake import IntakeParts
from chipmedic_watchdog.parts.leading import LeadingParts
from chipmedic_watchdog.parts.store import StoreParts
from chipmedic_watchdog.startup import read_doors
from chipmedic_watchdog.web.access import Doors
from chipmedic_watchdog.web.app import Api
from chipmedic_watchdog.web.connections import Connections
from chipmedic_watchdog.web.server import WebServer


@dataclass(frozen=True, slots=True)
class WebParts:
    """The application and its server."""

    api: Api
    server: WebServer

    def take(self, new: WatchdogSettings, doors: Doors) -> None:
        """Show and let in by new settings."""
        self.api.doors = doors
        self.api.notify = new.notify


def build_web(
    settings: WatchdogSettings,
    store: StoreParts,
    intake: IntakeParts,
    own: Instruments,
    leading: LeadingParts,
) -> WebParts:
    """Bind the address; nothing is served yet.

    Raises:
        ConfigError: the token's file cannot be read.
        ChipmedicError: the address is taken.
    """
    access = intake.access
    api = Api(
        store.database,
        own.metrics,
        own.health,
        read_doors(settings),
        intake.sessions,
        notify=settings.notify,
        lead=store.lead,
        rules=lambda: leading.incidents.rules,
        authority=access.authority,
        dry_run=lambda incident: leading.recovery.loop.dry_run(incident),
    )
    server = WebServer(
        api.application(),
        settings.http.listen,
        None if access.http is None else access.http.ssl_context(),
        connections=Connections(
            of_one_address=settings.http.connections_per_address,
            on_refused=own.metrics.refuse_http,
        ),
    )
    return WebParts(api, server)


def open_ports(settings: WatchdogSettings) -> Iterator[tuple[str, str]]:
    """Yield a warning for each port that is open to other machines, under its key of health."""
    stream, http = settings.stream, settings.http
    if settings.join is None and stream.is_exposed:
        yield (
            "stream",
            f"stream: {stream.listen} is open to other machines without TLS: anyone there "
            "can report faults; set [join], or certificate_file, key_file and client_ca_file",
        )
    elif settings.join is None and stream.certificate_file and not stream.client_ca_file:
        yield (
            "stream",
            "stream: agents show no certificate: anyone who reaches it can report faults for "
            "any node; set client_ca_file",
        )
    if http.is_exposed:
        yield (
            "http",
            f"http: {http.listen} is open to other machines without TLS: tokens can be read on "
            "their way; set own_certificate, or certificate_file and key_file",
        )
