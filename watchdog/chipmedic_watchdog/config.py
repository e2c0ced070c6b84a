"""The watchdog's configuration: `/etc/chipmedic/watchdog.toml`, one dataclass per section.

A missing file means the defaults: everything on loopback, SQLite under the state directory, notices
only where channels are configured, no action on the cluster.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chipmedic.address import is_loopback, split_address
from chipmedic.config import load
from chipmedic.section import (
    Check,
    Section,
    above_zero,
    address,
    at_least,
    at_most,
    both_or_none,
    checks,
    one_of,
)
from chipmedic.tls_files import TlsFiles
from chipmedic_watchdog.access.roles import ROLES
from chipmedic_watchdog.access.rules import RULES
from chipmedic_watchdog.notify.settings import NotifySettings
from chipmedic_watchdog.recover.settings import RecoverSettings

DEFAULT_PATH = Path("/etc/chipmedic/watchdog.toml")
DEFAULT_STATE_DIRECTORY = "/var/lib/chipmedic/watchdog"


def default_store_url() -> str:
    """Return the SQLite file under systemd's state directory."""
    return f"sqlite:///{_state_directory()}/watchdog.db"


def is_store_url(text: str) -> bool:
    """Whether it is the address of a database that can be used."""
    return text.startswith(("sqlite://", "postgresql://", "postgresql+psycopg://"))


def _state_directory() -> str:
    return os.environ.get("STATE_DIRECTORY", DEFAULT_STATE_DIRECTORY).split(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings(Section):
    """[store]: where everything is remembered."""

    url: str = field(default_factory=default_store_url)
    """`sqlite:///FILE` or `postgresql+psycopg://USER@HOST/DATABASE`. A password belongs into
    `url_file`, or where libpq looks for it (PGPASSFILE)."""
    url_file: str | None = None
    """A file whose first line is the address."""
    group_commit_seconds: float = 0.02
    """How long the first event of a group waits for others to share its commit."""
    group_commit_events: int = 4096
    """Events after which a group is committed without waiting longer."""
    queue_events: int = 50_000
    """Events held in memory before the streams are read no further (flow control)."""
    keep_incidents_days: float = 730.0
    """Incidents that ended longer ago are purged with their faults, notices and recoveries, and so
    are faults that were in none; 0 keeps them for ever. The audit is never purged."""
    keep_events_days: float = 90.0
    """Older events and places of jobs are purged in small batches; 0 keeps them for ever."""
    keep_jobs_days: float = 400.0
    """Of jobs that ended longer ago only the sums of their ledger are kept, by phase and cause; 0
    keeps everything. Not shorter than the time for which a report should show each loss."""

    def _known(self) -> Iterator[str]:
        if not is_store_url(self.url):
            yield "url: allowed are sqlite:///FILE and postgresql+psycopg://USER@HOST/DATABASE"

    CHECKS = checks(
        _known,
        at_least(0, "group_commit_seconds", "keep_events_days", "keep_jobs_days"),
        at_least(0, "keep_incidents_days"),
        at_most(1, "group_commit_seconds"),
        at_least(1, "group_commit_events"),
        at_least(1024, "queue_events"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings(Section):
    """[stream]: the agents' end."""

    listen: str = "127.0.0.1:7443"
    certificate_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None
    """Set: agents must show a certificate that this authority signed."""
    certificate_names: str = "exact"
    """How an agent's certificate must name its node: `exact` (one of its names is the node's),
    `first_label` (n17.example.org speaks for n17) or `any` (every certificate for every node)."""
    heartbeat_seconds: float = 5.0
    snapshot_seconds: float = 60.0
    hello_timeout_seconds: float = 10.0
    events_per_second: float = 2_000.0
    """Per agent, sustained; above it the agent is told to come back later."""
    events_burst: int = 50_000
    streams_per_address: int = 1024
    """Of one other machine; nodes behind one address (NAT) may need more."""

    def _own_certificate(self) -> Iterator[str]:
        if self.client_ca_file is not None and self.certificate_file is None:
            yield "client_ca_file: needs certificate_file and key_file"

    CHECKS = checks(
        address("listen"),
        both_or_none("certificate_file", "key_file"),
        one_of("certificate_names", RULES),
        _own_certificate,
        above_zero("heartbeat_seconds", "snapshot_seconds", "hello_timeout_seconds"),
        above_zero("events_per_second"),
        at_least(512, "events_burst"),
        at_least(1, "streams_per_address"),
    )

    @property
    def tls_files(self) -> TlsFiles:
        """The files of its certificates."""
        return TlsFiles(
            section="stream",
            certificate_file=self.certificate_file,
            key_file=self.key_file,
            ca_file=self.client_ca_file,
            ca_name="client_ca_file",
        )

    @property
    def is_exposed(self) -> bool:
        """Whether other machines can reach it while nothing is encrypted."""
        return self.certificate_file is None and not is_loopback(split_address(self.listen)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings(Section):
    """[http]: API, metrics, health and the status page."""

    listen: str = "127.0.0.1:7480"
    token_file: str | None = None
    """A file whose first line is one more bearer token, of the role admin."""
    loopback_role: str = "admin"
    """What a caller from this machine is without a token: `none`, `view`, `operate` or `admin`."""
    certificate_file: str | None = None
    """Set with `key_file`: HTTPS."""
    key_file: str | None = None
    own_certificate: bool = False
    """HTTPS with a certificate of the watchdog's own authority ([join])."""
    connections_per_address: int = 64
    """Of one other machine at once; a proxy before many people may need more."""

    def _one_certificate(self) -> Iterator[str]:
        if self.own_certificate and self.certificate_file:
            yield "own_certificate: leave out certificate_file and key_file"

    CHECKS = checks(
        address("listen"),
        both_or_none("certificate_file", "key_file"),
        at_least(1, "connections_per_address"),
        _one_certificate,
        one_of("loopback_role", ("none", *ROLES)),
    )

    @property
    def tls_files(self) -> TlsFiles:
        """The files of its certificate."""
        return TlsFiles(
            section="http", certificate_file=self.certificate_file, key_file=self.key_file
        )

    @property
    def is_encrypted(self) -> bool:
        """Whether it speaks HTTPS."""
        return self.own_certificate or self.certificate_file is not None

    @property
    def is_exposed(self) -> bool:
        """Whether tokens come over the network while nothing is encrypted."""
        return not self.is_encrypted and not is_loopback(split_address(self.listen)[0])


def default_authority_directory() -> str:
    """Return the authority's folder under systemd's state directory."""
    return f"{_state_directory()}/authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinSettings(Section):
    """[join]: the watchdog signs the certificates of its agents, and its own."""

    listen: str = "127.0.0.1:7444"
    """Where nodes that have no certificate yet come with their token; HTTPS."""
    directory: str = field(default_factory=default_authority_directory)
    """The authority's key and certificate, made at the first start; the same for all watchdogs."""
    names: tuple[str, ...] = ()
    """Names and addresses by which agents call the watchdog, besides those that the host has."""
    certificate_lifetime_seconds: float = 30 * 86400.0
    """Of an agent's certificate; it is renewed at two thirds."""

    def _names(self) -> Iterator[str]:
        for name in self.names:
            if not name or not name.isascii() or set(name) & set(" /@[]"):
                yield f"names: {name!r} is no name of a host, nor an address"

    CHECKS = checks(address("listen"), at_least(10, "certificate_lifetime_seconds"), _names)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivenessSettings(Section):
    """[liveness]: when a silent node is called unreachable."""

    quiet_seconds: float = 2.25
    """From the last sign of life to the verdict, where the connection stays open; an agent pings
    once a second."""
    silence_seconds: float = 1.0
    """From the loss of the stream to the verdict, where the host answers no ping any more."""
    restart_seconds: float = 6.0
    """The same where the host has closed the connection itself: its agent has ended, and systemd
    starts it again after 2 s."""
    many_seconds: float = 6.0
    """The same where a tenth of all nodes, three at least, are lost in one moment: a pause of the
    network ends by itself."""
    startup_grace_seconds: float = 45.0
    """How long agents may take to come back after the watchdog itself was away or stalled; more
    than the longest pause between their attempts (30 s)."""
    stall_seconds: float = 5.0
    """After a longer pause of its own loop the watchdog distrusts its clock for the grace time."""
    rebooted_expiry_seconds: float = 600.0
    """How long `node.rebooted` stays open."""

    CHECKS = checks(
        at_least(0, "silence_seconds", "restart_seconds", "many_seconds", "startup_grace_seconds"),
        at_least(1.5, "quiet_seconds"),
        above_zero("stall_seconds"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentSettings(Section):
    """[incidents]: how faults become incidents."""

    settle_seconds: float = 0.2
    """How long a warning waits for a better explanation; a critical fault never waits."""
    reopen_seconds: float = 600.0
    """A fault that returns this soon reopens its incident."""
    rules_file: str | None = None
    """Rules of the site about which faults belong together; unset: those that ship."""

    CHECKS = at_least(0, "settle_seconds", "reopen_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogSettings(Section):
    """The whole file."""

    store: StoreSettings = field(default_factory=StoreSettings)
    stream: StreamSettings = field(default_factory=StreamSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    join: JoinSettings | None = None
    liveness: LivenessSettings = field(default_factory=LivenessSettings)
    incidents: IncidentSettings = field(default_factory=IncidentSettings)
    notify: NotifySettings = field(default_factory=NotifySettings)
    recover: RecoverSettings = field(default_factory=RecoverSettings)

    def _certificates(self) -> Iterator[str]:
        if self.join is not None and self.stream.certificate_file is not None:
            yield (
                "join: the watchdog shows certificates of its own; leave out "
                "stream.certificate_file"
            )

    def _authority(self) -> Iterator[str]:
        if self.join is None and self.http.own_certificate:
            yield "http.own_certificate: needs [join]"

    CHECKS = (_certificates, _authority)


def load_settings(path: Path | None, further: Iterable[Check] = ()) -> WatchdogSettings:
    """Read the configuration; None means the usual place, which need not exist.

    `further` are more checks of the whole file.

    Raises:
        ConfigError: with every problem of the file.
    """
    if path is None:
        if not DEFAULT_PATH.exists():
            return WatchdogSettings()
        path = DEFAULT_PATH
    return load(path, WatchdogSettings, further=further)
