"""The agent's configuration: `/etc/chipmedic/agent.toml`, one dataclass per section.

A missing file means the defaults: every source that is found, no watchdog, everything on loopback.
Every path can be set, so that several agents can run on one host.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from chipmedic.config import load
from chipmedic.errors import ConfigError
from chipmedic.job_files import DEFAULT_DIRECTORY
from chipmedic_agent.detectors.settings import DetectorSettings

DEFAULT_PATH = Path("/etc/chipmedic/agent.toml")
DEFAULT_STATE_DIRECTORY = "/var/lib/chipmedic/agent"
DEFAULT_PROGRESS_SOCKET = "/run/chipmedic/progress.sock"
BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
MIB = 1048576
JOIN_PORT = 7444
"""Where a watchdog lets nodes join, unless another is named."""


def split_address(text: str) -> tuple[str, int]:
    """Take `host:port` or `[v6]:port` apart.

    Raises:
        ValueError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not is_bracketed:
        raise ValueError(f"{text!r} is not host:port; an IPv6 address stands in brackets")
    return (host[1:-1] if is_bracketed else host), int(port)


def is_loopback(host: str) -> bool:
    """Tell whether this name leads to this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refuse(problems: Iterable[str]) -> None:
    """Report every problem of a section at once."""
    if found := [problem for problem in problems if problem]:
        raise ValueError("; ".join(found))


def _positive(name: str, value: float | None) -> str:
    if value is None or value > 0:
        return ""
    return f"{name}: {value:g} is not a positive number"


def _not_an_address(name: str, value: str | None) -> str:
    try:
        split_address(value or "localhost:0")
    except ValueError as e:
        return f"{name}: {e}"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorSettings:
    """[collectors.NAME]: one source; what is not set is the collector's own choice."""

    enabled: bool = True
    period_seconds: float | None = None
    deadline_seconds: float | None = None

    def __post_init__(self) -> None:
        _refuse(
            (
                _positive("period_seconds", self.period_seconds),
                _positive("deadline_seconds", self.deadline_seconds),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSettings:
    """[spool]: events that the watchdog has not acknowledged yet."""

    bytes_max: int = 64 * MIB
    """Above it repeats and infos are dropped first; the loss is reported with counts."""

    def __post_init__(self) -> None:
        if self.bytes_max < MIB:
            raise ValueError(f"bytes_max: {self.bytes_max}: allowed are {MIB} and more")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
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

    def __post_init__(self) -> None:
        pair = (self.certificate_file is None) == (self.key_file is None)
        needs_ca = self.certificate_file is not None and self.ca_file is None
        is_both = self.token_file is not None and self.ca_file is not None
        _refuse(
            (
                "" if pair else "certificate_file and key_file: give both or none",
                "certificate_file: needs ca_file" if needs_ca else "",
                "token_file: leave out ca_file, or join with neither" if is_both else "",
                _not_an_address("join", self.join),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """[stream]: how often the watchdog hears of this node; it may ask for other times."""

    heartbeat_seconds: float = 5.0
    snapshot_seconds: float = 60.0

    def __post_init__(self) -> None:
        _refuse(
            (
                _positive("heartbeat_seconds", self.heartbeat_seconds),
                _positive("snapshot_seconds", self.snapshot_seconds),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """[http]: /metrics and /healthz."""

    enabled: bool = True
    listen: str = "127.0.0.1:9480"

    def __post_init__(self) -> None:
        try:
            split_address(self.listen)
        except ValueError as e:
            raise ValueError(f"listen: {e}") from e


@dataclass(frozen=True, slots=True, kw_only=True)
class InventorySettings:
    """[inventory]: which chips this node should have is learnt and kept."""

    forget: tuple[str, ...] = ()
    """Uids of chips that were taken out for good; their absence is no fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
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

    def __post_init__(self) -> None:
        _refuse(
            (
                _positive("timeout_seconds", self.timeout_seconds),
                _positive("host_load_seconds", self.host_load_seconds),
            )
        )


ACTS = ("checkpoint", "leave", "restart")
"""What may be done to jobs here, if it is allowed."""
SIGNALS = ("", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGURG", "SIGWINCH")
"""By which a job may be asked for a checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """[jobs]: what the watchdog may have done to jobs of this node."""

    allow: tuple[str, ...] = ()
    """Of `checkpoint` (ask for one), `leave` (end a job's processes and keep launchers out) and
    `restart` (end a job's workers, which its launcher starts again). None: nothing."""
    checkpoint_signal: str = "SIGUSR1"
    """Sent to a job's processes that have a handler for it, beside the file; empty: the file
    alone."""
    grace_seconds: float = 10.0
    """From SIGTERM to SIGKILL."""

    def __post_init__(self) -> None:
        unknown = [word for word in self.allow if word not in ACTS]
        is_signal = self.checkpoint_signal in SIGNALS
        _refuse(
            (
                *(f"allow: {word!r}: allowed are {', '.join(ACTS)}" for word in unknown),
                "" if is_signal else
                f"checkpoint_signal: {self.checkpoint_signal!r}: allowed are "
                f"{', '.join(filter(None, SIGNALS))}, or empty for none",
                _positive("grace_seconds", self.grace_seconds),
            )
        )  # fmt: skip


def _state_directory() -> str:
    return os.environ.get("STATE_DIRECTORY", DEFAULT_STATE_DIRECTORY).split(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
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

    def __post_init__(self) -> None:
        problems = ["" if self.node else "node: must not be empty"]
        for address in self.watchdogs:
            try:
                split_address(address)
            except ValueError as e:
                problems.append(f"watchdogs: {e}")
        if len(set(self.watchdogs)) < len(self.watchdogs):
            problems.append("watchdogs: one is named twice")
        _refuse(problems)

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


def load_settings(path: Path | None, known_collectors: Iterable[str] = ()) -> AgentSettings:
    """Read the configuration; without a path the default one, which may be missing.

    Raises:
        ConfigError: the file cannot be read, or any key is wrong; all problems at once.
    """
    if path is None:
        if not DEFAULT_PATH.exists():
            return AgentSettings()
        path = DEFAULT_PATH
    settings = load(path, AgentSettings)
    problems = list(_misspelt(settings.collectors, set(known_collectors)))
    if problems:
        raise ConfigError(str(path), problems)
    return settings


def _misspelt(given: Iterable[str], known: set[str]) -> Iterable[str]:
    """Yield a line for each collector that is not installed and looks like one that is.

    One file serves a fleet, so a section for a collector that this host lacks is allowed.
    """
    from difflib import get_close_matches  # only where something is wrong

    for name in sorted(set(given) - known):
        if near := get_close_matches(name, known, n=1):
            yield f"collectors.{name}: no such collector; did you mean {near[0]}?"
