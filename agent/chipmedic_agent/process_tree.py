"""Which processes belong together, and how they are ended: by what the kernel says alone.

A process is named by its pid and its start; before every signal both are compared, through a
handle of the kernel (pidfd), so that a pid which was used again is never hit.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from chipmedic.host import Host
from chipmedic_agent.processes import read_environ, read_stat, read_uid

LOOK_SECONDS = 0.05
ORPHAN_SECONDS = 2.0
"""From SIGTERM to SIGKILL for what a launcher has left behind."""
DEPTH_MAX = 64
MARK = "TORCHELASTIC_RUN_ID"


@dataclass(frozen=True, slots=True)
class Process:
    """One process for ever."""

    pid: int
    started: int
    """Clock ticks after boot."""

    def is_alive(self, host: Host) -> bool:
        """Whether it lives; a zombie does not."""
        stat = read_stat(host, self.pid)
        return stat is not None and stat.is_alive and stat.started == self.started


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What came of ending processes."""

    killed: int
    """How many needed SIGKILL."""
    left: tuple[Process, ...]
    """Those that live even so: in D state, or not ours to signal."""
    denied: bool
    """The agent may not signal one of them."""
    seconds: float


def launcher_of(host: Host, pid: int) -> Process | None:
    """Return the elastic launcher of a worker: its nearest ancestor without the worker's mark.

    torchrun, and every launcher that is built on it, marks the environment of its workers; their
    children inherit it, the launcher itself does not have it. It must be the worker's own user's.
    """
    owner, mark = read_uid(host, pid), _mark(host, pid)
    if mark is None or owner is None:
        return None
    for _ in range(DEPTH_MAX):
        stat = read_stat(host, pid)
        parent = None if stat is None or stat.parent <= 1 else read_stat(host, stat.parent)
        if stat is None or parent is None or read_uid(host, stat.parent) != owner:
            return None
        pid = stat.parent
        if _mark(host, pid) != mark:
            return Process(pid, parent.started)
    return None


def _mark(host: Host, pid: int) -> str | None:
    """Return the run that a launcher marked a process with.

    The environment of a process in D state is not read: that can block with it.
    """
    stat = read_stat(host, pid)
    if stat is None or stat.state == "D":
        return None
    return (read_environ(host, pid) or {}).get(MARK)


def with_descendants(host: Host, roots: Collection[Process]) -> list[Process]:
    """Return the processes and their descendants of the same users, parents first."""
    parents: dict[int, list[Process]] = {}
    for path in host.glob("/proc/[0-9]*"):
        pid = int(path.rpartition("/")[2])
        stat = read_stat(host, pid)
        if stat is not None and stat.is_alive:
            parents.setdefault(stat.parent, []).append(Process(pid, stat.started))
    users = {read_uid(host, root.pid) for root in roots}
    found = list(dict.fromkeys(root for root in roots if root.is_alive(host)))
    for process in found:  # it grows while it is walked
        for child in parents.get(process.pid, ()):
            if child not in found and read_uid(host, child.pid) in users:
                found.append(child)
    return found


def end(
    host: Host, first: Sequence[Process], all_of_them: Collection[Process], *,
    grace_seconds: float, kill_seconds: float,
) -> Ended:  # fmt: skip
    """End processes: SIGTERM to the first, then to what they left behind, then SIGKILL; blocks.

    The first have the whole grace; what outlives them has nobody left to do anything for.
    """
    begun = time.monotonic()
    until = begun + grace_seconds
    denied = not _send_all(host, first, signal.SIGTERM)
    if not denied and _wait(host, first, until):
        orphans = [each for each in all_of_them if each not in first]
        denied = not _send_all(host, orphans, signal.SIGTERM)
        _wait(host, orphans, min(until, time.monotonic() + ORPHAN_SECONDS))
    late = [] if denied else [process for process in all_of_them if process.is_alive(host)]
    denied = not _send_all(host, late, signal.SIGKILL) or denied
    _wait(host, late, time.monotonic() + kill_seconds)
    return Ended(
        killed=len(late),
        left=tuple(process for process in late if process.is_alive(host)),
        denied=denied,
        seconds=time.monotonic() - begun,
    )


def _send_all(host: Host, processes: Iterable[Process], number: signal.Signals) -> bool:
    """Signal each of them, also after one that is not ours; True where all were."""
    sent = [send(host, process, number) for process in processes]
    return all(sent)


def send(host: Host, process: Process, number: signal.Signals) -> bool:
    """Send a signal to this very process; False: the kernel does not let us. Gone is True."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        # The handle holds whoever has the pid now; the start tells whether that is the one.
        if process.is_alive(host):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
    except PermissionError:
        return False
    finally:
        os.close(handle)
    return True


def catches(host: Host, pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal; without one most signals end it."""
    try:
        text = host.read(f"/proc/{pid}/status")
    except OSError:
        return False
    mask = re.search(r"^SigCgt:\s*([0-9a-fA-F]+)", text, re.MULTILINE)
    return mask is not None and bool(int(mask[1], 16) >> (number - 1) & 1)


def _wait(host: Host, processes: Collection[Process], until: float) -> bool:
    """Wait until none of them lives, or the time is over; True: none lives."""
    while any(process.is_alive(host) for process in processes):
        if time.monotonic() >= until:
            return False
        time.sleep(LOOK_SECONDS)
    return True
