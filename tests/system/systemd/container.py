"""A real systemd in a container: systemd-nspawn over a Debian root that is built once and cached.

The root is never changed: what a boot writes lies in memory and goes with it. The container has a
network of its own (loopback alone), so that the ports of the daemons never meet those of the host.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waiting import PATIENCE_SECONDS

CGROUPS = Path("/sys/fs/cgroup")
LEFT_CGROUPS = ("payload", "supervisor")
"""What nspawn names the groups that it makes below its caller's; it leaves them behind."""
POWER_OFF = signal.SIGRTMIN + 4
"""What systemd(1) takes as the order to power off."""
_GET = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=60)
except urllib.error.HTTPError as e:
    answer = e
except OSError as e:
    sys.exit(str(e))
print(answer.read().decode())
"""
PROGRAMS = ("systemd-nspawn", "debootstrap", "nsenter", "setpriv", "unshare")


def why_not() -> str | None:
    """Return why no container can be booted here, or None."""
    if os.geteuid() != 0:
        return "a systemd of its own needs root"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: systemd-container debootstrap)"
    return None


@dataclass(frozen=True)
class Ended:
    """How a command in the container ended."""

    code: int
    output: str


class Container:
    """One boot."""

    def __init__(self, root: Path, console: Path, binds: dict[Path, str]) -> None:
        self._root = root
        self._console = console
        self._binds = binds
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0

    def start(self) -> None:
        """Boot, and wait until systemd says that it is done."""
        binds = [f"--bind-ro={source}:{target}" for source, target in self._binds.items()]
        with self._console.open("wb") as console:
            self._nspawn = subprocess.Popen(
                [
                    # All of it ends with this process, however that ends: the kernel ends a
                    # namespace of processes with its first one.
                    *("setpriv", "--pdeathsig=KILL"),
                    *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
                    "systemd-nspawn",
                    "--quiet",
                    "--register=no",
                    "--keep-unit",
                    "--private-network",
                    "--console=pipe",
                    "--volatile=overlay",
                    # The kernel log of this machine is the container's as well.
                    "--capability=CAP_SYSLOG",
                    "--bind=/dev/kmsg",
                    *binds,
                    f"--directory={self._root}",
                    "--boot",
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self.wait("the container's init", self._find_init)
        self.wait("the end of the boot", self._has_booted)

    def run(self, *argv: str, seconds: float = PATIENCE_SECONDS) -> Ended:
        """Run a command as root in the container; whatever its end."""
        enter = ["nsenter", "--target", str(self._init), "--all", "--", *argv]
        ended = subprocess.run(
            enter,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "PAGER": "cat"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout)

    def command(self, *argv: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Run a command that must succeed, and return what it printed."""
        ended = self.run(*argv, seconds=seconds)
        assert ended.code == 0, f"{' '.join(argv)}: exit status {ended.code}\n{ended.output}"
        return ended.output

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.command("systemctl", "show", "--property", name, "--value", unit).strip()

    def is_active(self, unit: str) -> bool:
        """Tell whether a unit is up: for Type=notify, whether it has said that it is ready."""
        return self.show(unit, "ActiveState") == "active"

    def journal(self, unit: str, since: str = "") -> str:
        """Return what a unit has logged, from a cursor of `journal_cursor` on."""
        # Not --after-cursor: where the cursor is at another unit's line, that skips one of ours.
        options = [f"--cursor={since}"] if since else []
        return self.command("journalctl", "--no-pager", "-o", "cat", "-u", unit, *options)

    def journal_cursor(self) -> str:
        """Return the present end of the journal."""
        out = self.command("journalctl", "--no-pager", "-n", "1", "-o", "cat", "--show-cursor")
        return out.rpartition("-- cursor: ")[2].strip()

    def get(self, url: str) -> Any:
        """Ask a daemon's HTTP port for JSON, whatever the status; None if nobody answers."""
        ended = self.run("/usr/bin/python3", "-c", _GET, url)
        return json.loads(ended.output) if ended.code == 0 else None

    def write(self, path: str, text: str) -> None:
        """Write a file of the container."""
        (Path(f"/proc/{self._init}/root") / path.lstrip("/")).write_text(text)

    def read(self, path: str) -> str:
        """Read a file of the container."""
        return (Path(f"/proc/{self._init}/root") / path.lstrip("/")).read_text()

    def wait(
        self, what: str, is_so: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS
    ) -> float:
        """Wait until something is so, and return how long it took."""
        start = time.monotonic()
        while not is_so():
            elapsed = time.monotonic() - start
            assert elapsed < seconds, f"not within {seconds:g} s: {what}\n{self._last_words()}"
            time.sleep(0.2)
        return time.monotonic() - start

    def stop(self) -> None:
        """Power off, and leave nothing behind."""
        if self._nspawn is None:
            return
        if self._init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init, POWER_OFF)
        try:
            self._nspawn.wait(timeout=60 if self._init else 0)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait(timeout=10)
        for group in sorted(_left_groups(), reverse=True):
            with contextlib.suppress(OSError):  # another container is in it
                group.rmdir()

    def _find_init(self) -> bool:
        """Find the one process below nspawn that is init of a namespace of its own."""
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, f"nspawn ended: {self._last_words()}"
        for pid in _below(self._nspawn.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                    self._init = pid
        return self._init != 0

    def _has_booted(self) -> bool:
        state = self.run("systemctl", "is-system-running").output.strip()
        return state in ("running", "degraded")

    def _last_words(self) -> str:
        return self._console.read_text(errors="replace")[-2000:]


def _below(pid: int) -> Iterator[int]:
    """The processes that a process has started, and those that they have."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _below(int(child))


def _left_groups() -> Iterator[Path]:
    for name in LEFT_CGROUPS:
        for top in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")):
            if top.is_dir():
                yield top
                yield from (path for path in top.rglob("*") if path.is_dir())
