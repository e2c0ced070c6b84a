"""The agent's configuration: `/etc/chipmedic/agent.toml`, one dataclass per section.

A missing file means the defaults: every source that is found, no watchdog, everything on loopback.
Every path can be set, so that several agents can run on one host.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chipmedic.config import load
from chipmedic.job_files import DEFAULT_DIRECTORY
from chipmedic.section import (
    Check,
    Section,
    above_zero,
    address,
    at_least,
    both_or_none,
    checks,
    not_empty,
)
from chipmedic_agent.detectors.settings import DetectorSettings

DEFAULT_PATH = Path("/etc/chipmedic/agent.toml")
DEFAULT_STATE_DIRECTORY = "/var/lib/chipmedic/agent"
DEFAULT_PROGRESS_SOCKET = "/run/chipmedic/progress.sock"
BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
MIB = 1048576
JOIN_PORT = 7444
"""Where a watchdog lets nodes join, unless another is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorSettings(Section):
    """[collectors.NAME]: one source; what is not set is the collector's own choice."""

    enabled: bool = True
    period_seconds: float | None = None
    deadline_seconds: float | None = None

    CHECKS = above_zero("period_seconds", "deadline_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSettings(Section):
    """[spool]: events that the watchdog has not acknowledged yet."""

    bytes_max: int = 64 * MIB
    """Above it repeats and infos are dropped first; the loss is reported with counts."""

    CHECKS = at_least(MIB, "bytes_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings(Section):
    """[tls]: a node that has joined by hand needs nothing; files are for a site's own authority."""

    token_file: str | None = None
    """A join token: the agent joins by itself when it has no certificate."""
    join: str | None = None
    """`host:port` where it joins; None: the first watchdog's host, port 7444."""
    ca_file: str | None = None
    """Set: the stream is encrypted, and the watchdog's certificate must be this authority's."""
    certificate_file: str | None = None
    """Set with `key_file`: what the agent shows (mutual TLS)."""
    key_file: str | None = None

    def _fits(self) -> Iterator[str]:
        if self.certificate_file is not None and self.ca_file is None:
            yield "certificate_file: needs ca_file"

    def _one_way(self) -> Iterator[str]:
        if self.token_file is not None and self.ca_file is not None:
            yield "token_file: leave out ca_file, or join with neither"

    CHECKS = checks(both_or_none("certificate_file", "key_file"), _fits, _one_way, address("join"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings(Section):
    """[stream]: how often the watchdog hears of this node; it may ask for other times."""

    heartbeat_seconds: float = 5.0
    snapshot_seconds: float = 60.0

    CHECKS = above_zero("heartbeat_seconds", "snapshot_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings(Section):
    """[http]: /metrics and /healthz."""

    enabled: bool = True
    listen: str = "127.0.0.1:9480"

    CHECKS = address("listen")


@dataclass(frozen=True, slots=True, kw_only=True)
class InventorySettings(Section):
    """[inventory]: which chips this node should have is learnt and kept."""

    forget: tuple[str, ...] = ()
    """Uids of chips that were taken out for good; their absence is no fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings(Section):
    """[gate]: the check before this node is given back after an isolation."""

    command: tuple[str, ...] = ()
    """The load: a program that exercises the chips and ends with 0 where they are well, its last
    line saying what it did. Unset: a short load of the host alone."""
    timeout_seconds: float = 600.0
    """After this the load is killed, and the check has failed."""
    host_load_seconds: float = 5.0
    """Of the load of the host, where there is no command."""
    ignore_checks: tuple[str, ...] = ()
    """Names of checks that need not be ok: what this host can never read."""

    CHECKS = above_zero("timeout_seconds", "host_load_seconds")


ACTS = ("checkpoint", "leave", "restart")
"""What may be done to jobs here, if it is allowed."""
SIGNALS = ("", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGURG", "SIGWINCH")
"""By which a job may be asked for a checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings(Section):
    """[jobs]: what the watchdog may have done to jobs of this node."""

    allow: tuple[str, ...] = ()
    """Of `checkpoint` (ask for one), `leave` (end a job's processes and keep launchers out) and
    `restart` (end a job's workers, which its launcher starts again). None: nothing."""
    checkpoint_signal: str = "SIGUSR1"
    """Sent to a job's processes that have a handler for it, beside the file; empty: the file
    alone."""
    grace_seconds: float = 10.0
    """From SIGTERM to SIGKILL."""

    def _acts(self) -> Iterator[str]:
        for word in self.allow:
            if word not in ACTS:
                yield f"allow: {word!r}: allowed are {', '.join(ACTS)}"

    def _signal(self) -> Iterator[str]:
        if self.checkpoint_signal not in SIGNALS:
            known = ", ".join(filter(None, SIGNALS))
            yield (
                f"checkpoint_signal: {self.checkpoint_signal!r}: allowed are {known}, "
                "or empty for none"
            )

    CHECKS = checks(_acts, _signal, above_zero("grace_seconds"))


def _state_directory() -> str:
    return os.environ.get("STATE_DIRECTORY", DEFAULT_STATE_DIRECTORY).split(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings(Section):
    """The whole file."""

    node: str = field(default_factory=socket.gethostname)
    """The name by which the scheduler knows this node."""
    labels: dict[str, str] = field(default_factory=dict)
    """Topology and site: rack, switch, power_feed, cluster, partition, ..."""
    watchdogs: tuple[str, ...] = ()
    """`host:port` of each watchdog; a node has an order of its own in them, so that they spread.
    None: the agent works alone."""
    state_directory: str = field(default_factory=_state_directory)
    progress_socket: str = DEFAULT_PROGRESS_SOCKET
    """Where training jobs send their beats."""
    jobs_directory: str = DEFAULT_DIRECTORY
    """Where the agent leaves files for jobs: who may start here, who is asked for a checkpoint."""
    host_root: str = "/"
    """Another root for everything that collectors read: a captured or simulated machine."""
    boot_id_file: str = BOOT_ID_FILE
    """Below `host_root`."""
    collectors: dict[str, CollectorSettings] = field(default_factory=dict)
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    stream: StreamSettings = field(default_factory=StreamSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    inventory: InventorySettings = field(default_factory=InventorySettings)
    gate: GateSettings = field(default_factory=GateSettings)
    jobs: JobSettings = field(default_factory=JobSettings)
    detectors: DetectorSettings = field(default_factory=DetectorSettings)

    def _apart(self) -> Iterator[str]:
        if len(set(self.watchdogs)) < len(self.watchdogs):
            yield "watchdogs: one is named twice"

    CHECKS = checks(not_empty("node", "must not be empty"), address("watchdogs"), _apart)

    def for_collector(self, name: str) -> CollectorSettings:
        """Return what is set for one source."""
        return self.collectors.get(name, CollectorSettings())


NEED_RESTART = (
    "node",
    "state_directory",
    "progress_socket",
    "jobs_directory",
    "host_root",
    "boot_id_file",
    "http",
)
"""What a reload cannot change."""


def changed(old: AgentSettings, new: AgentSettings) -> list[str]:
    """Return the names of the top keys and sections that differ."""
    return [
        entry.name
        for entry in dataclasses.fields(AgentSettings)
        if getattr(old, entry.name) != getattr(new, entry.name)
    ]


def load_settings(
    path: Path | None, known_collectors: Iterable[str] = (), further: Iterable[Check] = ()
) -> AgentSettings:
    """Read the configuration; without a path the default one, which may be missing.

    `further` are more checks of the whole file.

    Raises:
        ConfigError: the file cannot be read, or any key is wrong; all problems at once.
    """
    if path is None:
        if not DEFAULT_PATH.exists():
            return AgentSettings()
        path = DEFAULT_PATH
    installed = set(known_collectors)

    def misspelt(settings: AgentSettings) -> Iterator[str]:
        yield from _misspelt(settings.collectors, installed)

    return load(path, AgentSettings, further=(misspelt, *further))


def _misspelt(given: Iterable[str], known: set[str]) -> Iterable[str]:
    """Yield a line for each collector that is not installed and looks like one that is.

    One file serves a fleet, so a section for a collector that this host lacks is allowed.
    """
    from difflib import get_close_matches  # only where something is wrong

    for name in sorted(set(given) - known):
        if near := get_close_matches(name, known, n=1):
            yield f"collectors.{name}: no such collector; did you mean {near[0]}?"
