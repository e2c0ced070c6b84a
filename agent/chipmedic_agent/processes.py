"""Who a process is: its job, rank, user and owner, from `/proc`.

What the kernel says goes before what the process says of itself: a Slurm or Kubernetes cgroup
cannot be forged by its user, an environment can. The outer scheduler names the job (a Kubernetes
or Slurm job that starts torchrun is Slurm's), the other names become labels. `environ` of a
process in D state is not read: that read can block with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from chipmedic.beat import job_of, rank_of, small_number, torchrun_of
from chipmedic.host import Host

_SLURM_CGROUP = re.compile(r"slurm[^\n]*/job_(\d+)(?:/|$)", re.MULTILINE)
_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")
_CONTAINER = re.compile(r"[-/]([0-9a-f]{64})(?:\.scope)?$", re.MULTILINE)
_SESSION = "local:session-"


@dataclass(frozen=True, slots=True)
class Stat:
    """What `/proc/<pid>/stat` says."""

    command: str
    state: str
    parent: int
    session: int
    started: int
    """Clock ticks after boot: with the pid it names one process for ever."""

    @property
    def is_alive(self) -> bool:
        """False for a zombie: it holds nothing any more."""
        return self.state not in "ZX"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """One process and the job that it belongs to."""

    pid: int
    started: int
    parent: int
    session: int
    uid: int | None
    job: str
    rank: int | None = None
    attempt: int = 0
    name: str | None = None
    log: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    is_whole: bool = True
    """False: the process slept in D state, so its environment was left alone; ask again."""

    @property
    def is_marked(self) -> bool:
        """Say whether a scheduler, a launcher or the user named the job."""
        return not self.job.startswith(_SESSION)


def read_stat(host: Host, pid: int) -> Stat | None:
    """Return what the kernel says of a process, or None if there is none."""
    try:
        text = host.read(f"/proc/{pid}/stat")
    except OSError:
        return None
    head, _, tail = text.rpartition(")")  # the command may hold blanks and brackets itself
    fields = tail.split()
    try:
        return Stat(
            command=head.partition("(")[2],
            state=fields[0],
            parent=int(fields[1]),
            session=int(fields[3]),
            started=int(fields[19]),
        )
    except (IndexError, ValueError):
        return None


def identify(host: Host, pid: int) -> ProcessIdentity | None:
    """Return who a process is; None if it is gone."""
    stat = read_stat(host, pid)
    if stat is None or not stat.is_alive:
        return None
    is_stuck = stat.state == "D"
    environ = {} if is_stuck else read_environ(host, pid)
    cgroup = _read(host, f"/proc/{pid}/cgroup")
    labels: dict[str, str] = {}
    if environ is None:
        labels["environment"] = "not readable"
        environ = {}
    job = _job(environ, cgroup, labels)
    return ProcessIdentity(
        pid=pid,
        started=stat.started,
        parent=stat.parent,
        session=stat.session,
        uid=read_uid(host, pid),
        job=job or f"{_SESSION}{stat.session}",
        rank=rank_of(environ),
        attempt=_attempt(environ, job),
        name=environ.get("SLURM_JOB_NAME") or environ.get("CHIPMEDIC_JOB") or stat.command,
        log=environ.get("CHIPMEDIC_LOG"),
        labels=labels,
        is_whole=not is_stuck,
    )


def _job(environ: Mapping[str, str], cgroup: str, labels: dict[str, str]) -> str | None:
    """Return the job by the outermost mark, and put the others into the labels."""
    in_slurm = _SLURM_CGROUP.search(cgroup)
    pod = _POD.search(cgroup)
    container = _CONTAINER.search(cgroup)
    if container is not None:
        labels["container"] = container[1][:12]
    if torchrun := torchrun_of(environ):
        labels["torchrun"] = torchrun.removeprefix("torchrun:")
        labels["torchrun_restart"] = environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if name := environ.get("CHIPMEDIC_JOB"):
        labels["chipmedic_job"] = name
    array, task = (environ.get(f"SLURM_ARRAY_{part}_ID", "") for part in ("JOB", "TASK"))
    if small_number(array) is not None and small_number(task) is not None:
        labels["array_task"] = f"{array}_{task}"
    if in_slurm is not None:
        return f"slurm:{in_slurm[1]}"
    if pod is not None and "SLURM_JOB_ID" not in environ:
        return f"kubernetes:{pod[1].replace('_', '-')}"
    return job_of(environ)


def _attempt(environ: Mapping[str, str], job: str | None) -> int:
    """Return which start of the job this is, as its own scheduler or launcher counts."""
    is_torchrun = job is not None and job.startswith("torchrun:")
    name = "TORCHELASTIC_RESTART_COUNT" if is_torchrun else "SLURM_RESTART_COUNT"
    return small_number(environ.get(name, "")) or 0


def read_environ(host: Host, pid: int) -> dict[str, str] | None:
    """Return the environment that a process was started with, or None where it may not be read."""
    try:
        text = host.read(f"/proc/{pid}/environ")
    except OSError:
        return None
    pairs = (entry.partition("=") for entry in text.split("\0"))
    return {name: value for name, sign, value in pairs if sign}


def read_uid(host: Host, pid: int) -> int | None:
    """Return the user that a process runs as, None when it is gone."""
    match = re.search(r"^Uid:\s+(\d+)", _read(host, f"/proc/{pid}/status"), re.MULTILINE)
    return None if match is None else int(match[1])


def _read(host: Host, path: str) -> str:
    """Return a file of `/proc`, empty when the process is gone or it may not be read."""
    try:
        return host.read(path)
    except OSError:
        return ""


def wait_channel(host: Host, pid: int) -> str:
    """Return the kernel function in which a process sleeps, empty if unknown."""
    return _read(host, f"/proc/{pid}/wchan").strip("0 \n")


def uptime(host: Host) -> float | None:
    """Return how many seconds ago the kernel began to count the starts of processes."""
    try:
        return float(_read(host, "/proc/uptime").split()[0])
    except (IndexError, ValueError):
        return None


def user_name(host: Host, uid: int | None) -> str | None:
    """Return the name of a user from `/etc/passwd` alone: a directory service can block."""
    if uid is None:
        return None
    for line in _read(host, "/etc/passwd").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(uid):
            return fields[0]
    return str(uid)
