"""The one door to the machine: run a tool, read a file, list names, tell the time.

Collectors get a `Host` and touch the world through it alone, so that a test (or the simulator) can
give them another one. `LinuxHost` is the real one; `chipmedic.testing.FakeHost` is a table.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from chipmedic.errors import ToolBlocked, ToolFailed, ToolMissing

REAP_SECONDS = 2.0
"""How long a killed process group may take to die before it is abandoned (D state)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool wrote and how it ended; vendor tools lie in each of the three."""

    stdout: str
    stderr: str
    exit_code: int


class Host(Protocol):
    """The seam between collectors and the machine."""

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None = None
    ) -> Answer:
        """Run a tool in its own process group, without a terminal and without NOTIFY_SOCKET.

        Raises:
            ToolMissing: there is no such program.
            ToolFailed: it is there and cannot be started.
            ToolBlocked: no end within the deadline; the group was killed, or abandoned in D state.
        """
        ...

    def which(self, program: str) -> str | None:
        """Return the path of a program, or None."""
        ...

    def read(self, path: str) -> str:
        """Return the text of a file under this host's root.

        Raises:
            OSError: as `open` and `read` do.
        """
        ...

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that match an absolute pattern, sorted; they are valid for `read`."""
        ...

    def path(self, path: str) -> str:
        """Return where an absolute path of this host really is, for sockets and devices."""
        ...

    def now(self) -> float:
        """Return UNIX seconds."""
        ...


@dataclass(frozen=True, slots=True)
class StuckTools:
    """Tools that missed their deadline since the start, by program."""

    killed: Counter[str] = field(default_factory=Counter)
    abandoned: Counter[str] = field(default_factory=Counter)
    """Those that could not be killed (D state)."""


class LinuxHost:
    """The real machine, or the part of it below `root` (a captured or simulated root)."""

    def __init__(self, root: str = "/", env: Mapping[str, str] | None = None) -> None:
        self._root = Path(root)
        self._env = dict(os.environ if env is None else env)
        self._env.pop("NOTIFY_SOCKET", None)  # a child must not speak to systemd in our name
        self.stuck = StuckTools()
        self._abandoned: list[subprocess.Popen[bytes]] = []

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None = None
    ) -> Answer:
        """See `Host.run`."""
        self._abandoned = [each for each in self._abandoned if each.poll() is None]
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**self._env, "LC_ALL": "C", **(env or {})},
                start_new_session=True,
            )
        except FileNotFoundError as e:
            raise ToolMissing(f"{argv[0]}: not installed") from e
        except OSError as e:
            raise ToolFailed(f"{argv[0]}: cannot be started: {e.strerror}") from e
        try:
            stdout, stderr = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired as e:
            has_ended = process.poll() is not None
            is_dead = _kill_group(process)
            if has_ended:  # what it left behind holds its output open
                return _answer(e.output, e.stderr, process.returncode)
            if not is_dead:
                self._abandoned.append(process)  # waited for when it can die at last
            counter = self.stuck.killed if is_dead else self.stuck.abandoned
            counter[Path(argv[0]).name] += 1
            state = (
                "killed with its process group"
                if is_dead
                else f"abandoned, cannot be killed (pid {process.pid} is stuck in the kernel)"
            )
            raise ToolBlocked(
                f"{argv[0]}: no answer in {timeout_seconds:g} s; {state}",
                abandoned_pid=None if is_dead else process.pid,
            ) from e
        return _answer(stdout, stderr, process.returncode)

    def which(self, program: str) -> str | None:
        """See `Host.which`."""
        return shutil.which(program, path=self._env.get("PATH"))

    def read(self, path: str) -> str:
        """See `Host.read`."""
        return Path(self.path(path)).read_text(encoding="utf-8", errors="replace")

    def glob(self, pattern: str) -> list[str]:
        """See `Host.glob`."""
        found = self._root.glob(pattern.lstrip("/"))
        return sorted("/" + str(path.relative_to(self._root)) for path in found)

    def path(self, path: str) -> str:
        """See `Host.path`."""
        return str(self._root / path.lstrip("/"))

    def now(self) -> float:
        """See `Host.now`."""
        return time.time()


def _kill_group(process: subprocess.Popen[bytes]) -> bool:
    """Kill a process and all that it started; say whether it ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(REAP_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    finally:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return True


def _answer(stdout: bytes | None, stderr: bytes | None, exit_code: int) -> Answer:
    return Answer(
        stdout=(stdout or b"").decode(errors="replace"),
        stderr=(stderr or b"").decode(errors="replace"),
        exit_code=exit_code,
    )
