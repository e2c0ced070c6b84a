"""The agents' end: who may come in, their streams, the way into the store, who has gone silent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from grpc import aio

from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.access.parts import AccessParts
from chipmedic_watchdog.config import StreamSettings, WatchdogSettings
from chipmedic_watchdog.intake.committer import Committer
from chipmedic_watchdog.intake.place import Place
from chipmedic_watchdog.intake.server import build_server
from chipmedic_watchdog.intake.service import StreamService
from chipmedic_watchdog.intake.sessions import Sessions
from chipmedic_watchdog.lead.leader import Part
from chipmedic_watchdog.liveness import Liveness
from chipmedic_watchdog.parts.instruments import Instruments
from chipmedic_watchdog.parts.store import StoreParts
from chipmedic_watchdog.recover.kubernetes.pod_jobs import PodJobs
from chipmedic_watchdog.startup import committer_settings

STOP_SECONDS = 3.0
COME_BACK_SECONDS = 1.0
"""What agents are told when the watchdog stops: most often it is being restarted."""
GOODBYE = pb.WatchdogMessage(
    retry_after=pb.RetryAfter(seconds=COME_BACK_SECONDS, reason="the watchdog stops or restarts")
)
FIXED = ("listen", "certificate_file", "key_file", "client_ca_file")
"""Settings of the stream that are in force until a restart."""


@dataclass(slots=True, kw_only=True)
class IntakeParts:
    """What listens to agents."""

    sessions: Sessions
    committer: Committer
    liveness: Liveness
    access: AccessParts
    service: StreamService
    pod_jobs: PodJobs | None = None
    """There where Kubernetes is configured."""
    server: aio.Server | None = None
    """There from `listen` on."""

    def parts(self) -> dict[str, Part]:
        """Return what runs at every watchdog."""
        return {
            "committer": self.committer.run,
            "liveness": self.liveness.run,
            **self.access.parts(),
            **({} if self.pod_jobs is None else {"jobs of pods": self.pod_jobs.run}),
        }

    def listen(self, settings: StreamSettings) -> int:
        """Bind the stream's address, in the running loop, and return its port.

        Raises:
            ChipmedicError: the address is not to be had.
        """
        shown = self.access.stream
        credentials = None if shown is None else shown.grpc_credentials()
        self.server, port = build_server(self.service, settings.listen, credentials)
        self.liveness.stream_port = port
        return port

    async def start(self) -> None:
        """Let agents in."""
        if self.server is not None:
            await self.server.start()

    async def say_goodbye(self) -> None:
        """Ask the agents to come back after the restart, then close the stream's end."""
        for session in list(self.sessions.live.values()):
            session.wait_seconds = COME_BACK_SECONDS
            session.end(GOODBYE)
        await self.stop(STOP_SECONDS)

    async def stop(self, grace_seconds: float) -> None:
        """Close the stream's end; agents have so long to end theirs."""
        if self.server is not None:
            await self.server.stop(grace_seconds)

    def take(self, new: WatchdogSettings) -> None:
        """Work by new settings; what is bound stays as it is until a restart."""
        present = self.service.settings
        kept = {name: getattr(present, name) for name in FIXED}
        self.service.settings = replace(new.stream, **kept)
        self.access.gate.rule = new.stream.certificate_names
        self.liveness.settings = new.liveness
        self.sessions.silence_seconds = new.liveness.silence_seconds
        if self.pod_jobs is not None and new.recover.kubernetes is not None:
            self.pod_jobs.take(new.recover.kubernetes)


def build_intake(settings: WatchdogSettings, store: StoreParts, own: Instruments) -> IntakeParts:
    """Make the agents' end; nothing is served yet.

    Raises:
        ConfigError: a key or certificate cannot be read, made or used.
        ChipmedicError: the address for joins is taken.
    """
    database, lead = store.database, store.lead
    sessions = Sessions(own.clock, settings.liveness.silence_seconds)
    committer = Committer(
        database,
        own.metrics,
        own.health,
        committer_settings(settings),
        Place(watchdog=store.identity, is_shared=database.is_shared, leads=lead.leads),
    )
    liveness = Liveness(
        database,
        committer,
        sessions,
        own.metrics,
        settings.liveness,
        own.clock,
        alive=lambda: lead.alive,
        me=lead.me.id,
    )
    access = AccessParts(settings, database, sessions, own.metrics, own.health, own.clock)
    kubernetes = settings.recover.kubernetes
    pod_jobs = None if kubernetes is None else PodJobs(kubernetes)
    service = StreamService(
        committer,
        sessions,
        own.metrics,
        settings.stream,
        gate=access.gate,
        renewal=access.renewal,
        names=pod_jobs,
    )
    return IntakeParts(
        sessions=sessions, committer=committer, liveness=liveness, access=access, service=service,
        pod_jobs=pod_jobs,
    )  # fmt: skip
