"""The daemon: every part as one task of a group; a defect in one ends the process.

Order of the start: store, addresses, tasks, READY. Order of the end: agents are told to come back,
the queue is committed, the store is closed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import socket
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from grpc import aio

from chipmedic import systemd
from chipmedic.errors import ChipmedicError, ConfigError
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.access.parts import AccessParts
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.config import WatchdogSettings, load_settings
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.incidents.engine import IncidentEngine
from chipmedic_watchdog.incidents.rules import load_rules
from chipmedic_watchdog.intake.committer import Committer
from chipmedic_watchdog.intake.place import Place
from chipmedic_watchdog.intake.server import build_server
from chipmedic_watchdog.intake.service import StreamService
from chipmedic_watchdog.intake.sessions import Sessions
from chipmedic_watchdog.lead.leader import Lead, LeaderStore, Part, lead_while_held
from chipmedic_watchdog.lead.lease import Member
from chipmedic_watchdog.lead.signals import Listener, Signal
from chipmedic_watchdog.ledger.loop import LedgerLoop
from chipmedic_watchdog.liveness import Liveness
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.notify.loop import NotifyLoop
from chipmedic_watchdog.recover.gate_runner import GateRunner
from chipmedic_watchdog.recover.loop import RecoverLoop
from chipmedic_watchdog.recover.order_runner import OrderRunner
from chipmedic_watchdog.recover.witnesses import witness_of
from chipmedic_watchdog.retention import Retention
from chipmedic_watchdog.startup import (
    committer_settings,
    raise_file_limit,
    read_doors,
    store_url,
)
from chipmedic_watchdog.store.alone import claim
from chipmedic_watchdog.store.database import Database, open_engine
from chipmedic_watchdog.store.migrate import migrate
from chipmedic_watchdog.version import own_version
from chipmedic_watchdog.web.app import Api
from chipmedic_watchdog.web.connections import Connections
from chipmedic_watchdog.web.server import WebServer

log = logging.getLogger(__name__)

STOP_SECONDS = 3.0
COME_BACK_SECONDS = 1.0
"""What agents are told when the watchdog stops: most often it is being restarted."""
STUCK_SECONDS = 30.0
"""A main loop that has not moved for this long is not reported alive to systemd."""


class Loop(Protocol):
    """A part that works by itself and can be woken."""

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    def wake(self) -> None:
        """Look now."""
        ...


class Daemon:
    """The watchdog."""

    def __init__(self, settings: WatchdogSettings, config_path: Path | None = None) -> None:
        """Open the store and bind the addresses.

        Raises:
            ChipmedicError: one of them is not to be had; the text says which and what to do.
        """
        self.settings = settings
        self._config_path = config_path
        self._clock = Clock()
        self._health = Health()
        self._metrics = Metrics()
        self._metrics.set_build(own_version())
        self._stop = asyncio.Event()
        identity = secrets.token_hex(8)
        engine = open_engine(store_url(settings), identity)
        self._claim = claim(engine)
        migrate(engine)
        self._database = Database(engine)
        self._beats = self._database
        if self._database.is_shared:
            self._beats = Database(open_engine(store_url(settings), identity))
        me = Member(id=identity, name=socket.gethostname(), http="", version=own_version())
        self._lead = Lead(self._beats, me, self._health, self._clock)
        self._leader_store = LeaderStore(self._database, self._lead)
        self._metrics.is_leader.set_function(lambda: float(self._lead.is_held))
        self._metrics.lease_token.set_function(lambda: float(self._lead.token))
        self._sessions = Sessions(self._clock, settings.liveness.silence_seconds)
        self._committer = Committer(
            self._database,
            self._metrics,
            self._health,
            committer_settings(settings),
            Place(watchdog=identity, is_shared=self._database.is_shared, leads=self._lead.leads),
        )
        self._liveness = Liveness(
            self._database,
            self._committer,
            self._sessions,
            self._metrics,
            settings.liveness,
            self._clock,
            alive=lambda: self._lead.alive,
        )
        self._incidents = IncidentEngine(
            self._leader_store,
            self._sessions,
            self._metrics,
            self._health,
            settings.incidents,
            rules=load_rules(settings.incidents.rules_file),
            watchdog=identity if self._database.is_shared else None,
        )
        self._access = AccessParts(
            settings, self._database, self._sessions, self._metrics, self._health, self._clock
        )
        self._service = StreamService(
            self._committer,
            self._sessions,
            self._metrics,
            settings.stream,
            gate=self._access.gate,
            renewal=self._access.renewal,
        )
        self._api = Api(
            self._database,
            self._metrics,
            self._health,
            read_doors(settings),
            self._sessions,
            authority=self._access.authority,
        )
        http = self._access.http
        self._web = WebServer(
            self._api.application(),
            settings.http.listen,
            None if http is None else http.ssl_context(),
            connections=Connections(
                of_one_address=settings.http.connections_per_address,
                on_refused=self._metrics.refuse_http,
            ),
        )
        self._api.lead = self._lead
        self._api.rules = lambda: self._incidents.rules
        self._retention = Retention(
            self._leader_store,
            settings.store.keep_events_days,
            settings.store.keep_incidents_days,
            settings.store.keep_jobs_days,
        )
        self._server: aio.Server | None = None
        self._order_runner = OrderRunner(self._database, self._sessions, now=self._clock.now)
        self._notify: Loop = self._notify_loop(settings)
        self._recover: Loop = self._recover_loop(settings)
        self._ledger: Loop = LedgerLoop(self._leader_store)
        self._restarts: dict[str, asyncio.Event] = {}
        self._gate_runner = GateRunner(
            self._database,
            self._sessions,
            token=lambda: self._lead.token,
            timeout_seconds=lambda: self.settings.recover.gate.timeout_seconds,
            now=self._clock.now,
            on_change=lambda: self._recover.wake(),
        )
        self._connect_parts()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
        raise_file_limit()
        self._handle_signals()
        stream = self._access.stream
        self._server, port = build_server(
            self._service,
            self.settings.stream.listen,
            None if stream is None else stream.grpc_credentials(),
        )
        self._liveness.stream_port = port
        self._introduce(port)
        await self._server.start()
        self._warn_of_open_ports()
        door = self._access.door
        log.info(
            "ready: stream_port=%d http=%s join=%s",
            port, self._web.address, "off" if door is None else door.address,
        )  # fmt: skip
        try:
            await self._serve(f"stream on port {port}, http on {self._web.address}")
        finally:
            # Also after a defect: agents see the end at once and nothing is written any more.
            await self._server.stop(0)
            await self._lead.release()
            self._database.close()
            self._beats.close()
            if self._claim is not None:
                self._claim.close()
        log.info("stopped")

    async def _serve(self, status: str) -> None:
        tasks: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:
            web = group.create_task(self._web.run(), name="web")
            for name, run in self._parts().items():
                tasks.append(group.create_task(run(), name=name))
            systemd.ready(status)
            await self._stop.wait()
            systemd.stopping()
            await self._say_goodbye()
            self._web.stop()
            await web
            for task in tasks:
                task.cancel()

    def stop(self) -> None:
        """End as on SIGTERM."""
        self._stop.set()

    def _parts(self) -> dict[str, Part]:
        return {
            "committer": self._committer.run,
            "liveness": self._liveness.run,
            "alive": self._feed_systemd,
            **self._access.parts(),
            "checks before returns": self._gate_runner.run,
            "orders to agents": self._order_runner.run,
            "lead": self._lead.run,
            "leading": lambda: lead_while_held(self._lead, self._leading_parts()),
            **(self._parts_beside_others() if self._database.is_shared else {}),
        }

    def _leading_parts(self) -> dict[str, Part]:
        return {
            "liveness of all": self._liveness.lead,
            "incidents": self._incidents.run,
            "notify": lambda: self._supervise("notify"),
            "recover": lambda: self._supervise("recover"),
            "ledger": self._ledger.run,
            "retention": self._retention.run,
        }

    def _parts_beside_others(self) -> dict[str, Part]:
        wakes = {
            Signal.FAULTS: self._incidents.wake,
            Signal.PROGRESS: self._wake_for_progress,
            Signal.NODES: self._liveness.wake,
            Signal.ACT: self._wake_all,
            Signal.ORDERS: self._order_runner.wake,
        }
        listener = Listener(self._database.engine, self._lead.me.id, wakes)
        return {"signals": listener.run, "nodes elsewhere": self._liveness.follow}

    def _introduce(self, stream_port: int) -> None:
        """Give this watchdog the name by which people and the others know it."""
        name = f"{self._lead.me.name}:{stream_port}"
        self._lead.me = replace(self._lead.me, name=name, http=self._web.url)
        if not self._database.is_shared:
            self._lead.take_for_ever()

    def _connect_parts(self) -> None:
        self._committer.on_faults = self._incidents.wake
        self._committer.on_progress = self._wake_for_progress
        self._committer.on_recovered = self._liveness.forgive
        self._incidents.on_change = self._wake_readers
        self._api.on_act = self._wake_all
        self._api.on_revoked = self._access.revocations.wake

    def _wake_for_progress(self) -> None:
        """A step of a job is no news for people; it comes many times a second."""
        self._recover.wake()
        self._ledger.wake()

    def _wake_readers(self) -> None:
        for loop in (self._recover, self._notify, self._ledger):
            loop.wake()

    def _wake_all(self) -> None:
        self._access.witness.wake()
        self._incidents.wake()
        self._wake_readers()

    def _recover_loop(self, settings: WatchdogSettings) -> Loop:
        loop = RecoverLoop(
            self._leader_store, settings.recover, on_change=self._wake_all,
            on_order=self._order_runner.wake,
        )  # fmt: skip
        self._api.dry_run = loop.dry_run
        return loop

    def _notify_loop(self, settings: WatchdogSettings) -> Loop:
        self._api.notify = settings.notify
        loop = NotifyLoop(
            self._leader_store,
            settings.notify,
            witness=witness_of(self._leader_store, settings.recover),
            troubles=self._own_troubles,
            on_ping=lambda is_well: self._metrics.deadman_pings.labels(
                "well" if is_well else "not_well"
            ).inc(),
            rules=lambda: self._incidents.rules,
        )
        self._metrics.follow_channels(lambda: loop.channel_states() if self._lead.is_held else [])
        return loop

    def _own_troubles(self) -> list[str]:
        """Return what keeps this watchdog from its work, for the dead man's switch."""
        problems = [words for key, words in self._health.problems.items() if key != "configuration"]
        age_seconds = self._clock.elapsed() - self._liveness.ticked_at
        if age_seconds > STUCK_SECONDS:
            problems.append(f"the watch over silence has not moved for {age_seconds:.0f} s")
        return problems

    async def _supervise(self, name: str) -> None:
        """Run a loop; a reload replaces it, which it survives as it survives a restart."""
        while True:
            replaced = self._restarts[name] = asyncio.Event()
            loop: Loop = self._notify if name == "notify" else self._recover
            async with asyncio.TaskGroup() as group:
                task = group.create_task(loop.run(), name=name)
                await replaced.wait()
                task.cancel()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)

    def reload(self) -> None:
        """Read the configuration again; a wrong one changes nothing and is reported."""
        systemd.reloading()
        try:
            new = load_settings(self._config_path)
            doors = read_doors(new)
            self._incidents.rules = load_rules(new.incidents.rules_file)
        except ConfigError as e:
            self._metrics.reload_successful.set(0)
            self._health.begin("configuration", f"the old one stays in force: {e}")
            log.error("reload refused, the old configuration stays in force: %s", e)  # noqa: TRY400
        else:
            self._metrics.reload_successful.set(1)
            self._health.end("configuration")
            self._api.doors = doors
            self._take(new)
        systemd.ready()

    def _take(self, new: WatchdogSettings) -> None:
        old, self.settings = self.settings, new
        fixed = ("listen", "certificate_file", "key_file", "client_ca_file")
        fixed_http = (
            "listen", "certificate_file", "key_file", "own_certificate", "connections_per_address",
        )  # fmt: skip
        needs_restart = [
            name
            for name, is_changed in (
                ("store", new.store != old.store),
                ("stream", any(getattr(new.stream, k) != getattr(old.stream, k) for k in fixed)),
                ("http", any(getattr(new.http, k) != getattr(old.http, k) for k in fixed_http)),
                ("join", new.join != old.join),
            )
            if is_changed
        ]
        self._service.settings = replace(
            new.stream, **{name: getattr(old.stream, name) for name in fixed}
        )
        self._access.gate.rule = new.stream.certificate_names
        self._liveness.settings = new.liveness
        self._sessions.silence_seconds = new.liveness.silence_seconds
        self._incidents.settings = new.incidents
        if (new.notify, new.recover) != (old.notify, old.recover):
            self._notify = self._notify_loop(new)
            self._restart("notify")
        if new.recover != old.recover:
            self._recover = self._recover_loop(new)
            self._restart("recover")
        log.info("reloaded: needs_restart=%s", ",".join(needs_restart) or "nothing")
        if needs_restart:
            words = f"changed in the file, in force after a restart: {', '.join(needs_restart)}"
            self._health.warnings["configuration"] = words
        else:
            self._health.warnings.pop("configuration", None)

    def _restart(self, name: str) -> None:
        if name in self._restarts:  # else this watchdog does not lead
            self._restarts[name].set()

    def _warn_of_open_ports(self) -> None:
        stream, http = self.settings.stream, self.settings.http
        if self.settings.join is None and stream.is_exposed:
            self._health.warnings["stream"] = (
                f"stream: {stream.listen} is open to other machines without TLS: anyone there "
                "can report faults; set [join], or certificate_file, key_file and client_ca_file"
            )
        elif self.settings.join is None and stream.certificate_file and not stream.client_ca_file:
            self._health.warnings["stream"] = (
                "stream: agents show no certificate: anyone who reaches it can report faults for "
                "any node; set client_ca_file"
            )
        if http.is_exposed:
            self._health.warnings["http"] = (
                f"http: {http.listen} is open to other machines without TLS: tokens can be read on "
                "their way; set own_certificate, or certificate_file and key_file"
            )
        for name in ("stream", "http"):
            if name in self._health.warnings:
                log.warning("%s", self._health.warnings[name])

    async def _feed_systemd(self) -> None:
        """Tell systemd that we live, while the main loop and the watch over silence move."""
        interval_seconds = systemd.watchdog_interval_seconds()
        while True:
            await asyncio.sleep((interval_seconds or STUCK_SECONDS) / 3)
            age_seconds = self._clock.elapsed() - self._liveness.ticked_at
            if interval_seconds is not None and age_seconds < STUCK_SECONDS:
                systemd.alive()

    async def _say_goodbye(self) -> None:
        """Ask the agents to come back after the restart, then close the stream's end."""
        for session in list(self._sessions.live.values()):
            session.wait_seconds = COME_BACK_SECONDS
            session.end(
                pb.WatchdogMessage(
                    retry_after=pb.RetryAfter(
                        seconds=COME_BACK_SECONDS, reason="the watchdog stops or restarts"
                    )
                )
            )
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)


async def serve(settings: WatchdogSettings, config_path: Path | None) -> None:
    """Run a watchdog in this process until it is told to stop.

    Raises:
        ChipmedicError: it cannot start, or a part of it failed for a foreseen reason.
    """
    daemon = Daemon(settings, config_path)
    try:
        await daemon.run()
    except* ChipmedicError as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[ChipmedicError]) -> ChipmedicError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
