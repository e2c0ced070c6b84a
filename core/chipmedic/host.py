"""The one door to the machine: run a tool, read a file, list names, tell the time.

Collectors get a `Host` and touch the world through it alone, so that a test (or the simulator) can
give them another one. `LinuxHost` is the real one; `chipmedic.testing.FakeHost` is a table.
"""

from __future__ import annotations

import contextlib
import glob
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import IO, Protocol, cast

from chipmedic.errors import ToolBlocked, ToolFailed, ToolMissing

OUTPUT_BYTES_MAX = 8 << 20
"""What a tool may write to each of its outputs: eight GPUs in full XML take about 1 MiB.

A tool that prints for ever must not take the agent's memory.
"""
_PIECE_BYTES = 1 << 16
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
            ToolFailed: it cannot be started, or wrote more than `OUTPUT_BYTES_MAX` and was killed.
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
        self._root = str(Path(root))
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
        output = _Output(process)
        end = output.read(timeout_seconds)
        has_ended = process.poll() is not None
        if end is _End.DONE:
            _close(process)
            return output.answer()
        is_dead = _kill_group(process)
        if has_ended and end is _End.TIMED_OUT:  # what it left behind holds its output open
            return output.answer()
        if not is_dead:
            self._abandoned.append(process)  # waited for when it can die at last
        counter = self.stuck.killed if is_dead else self.stuck.abandoned
        counter[Path(argv[0]).name] += 1
        state = (
            "killed with its process group"
            if is_dead
            else f"abandoned, cannot be killed (pid {process.pid} is stuck in the kernel)"
        )
        if end is _End.TOO_MUCH and is_dead:
            raise ToolFailed(f"{argv[0]}: wrote more than {OUTPUT_BYTES_MAX >> 20} MiB; {state}")
        raise ToolBlocked(
            f"{argv[0]}: no answer in {timeout_seconds:g} s; {state}",
            abandoned_pid=None if is_dead else process.pid,
        )

    def which(self, program: str) -> str | None:
        """See `Host.which`."""
        return shutil.which(program, path=self._env.get("PATH"))

    def read(self, path: str) -> str:
        """See `Host.read`."""
        # Collectors read hundreds of small files: this costs a tenth of what a text file does.
        descriptor = os.open(self.path(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            text = b""
            while piece := os.read(descriptor, _PIECE_BYTES):
                text += piece
        finally:
            os.close(descriptor)
        return text.decode("utf-8", errors="replace")

    def glob(self, pattern: str) -> list[str]:
        """See `Host.glob`."""
        found = glob.iglob(pattern.lstrip("/"), root_dir=self._root)  # noqa: PTH207
        return sorted(f"/{path}" for path in found)

    def path(self, path: str) -> str:
        """See `Host.path`."""
        return f"{self._root.rstrip('/')}/{path.lstrip('/')}"

    def now(self) -> float:
        """See `Host.now`."""
        return time.time()


class _End(Enum):
    DONE = auto()
    TIMED_OUT = auto()
    TOO_MUCH = auto()


class _Output:
    """What a running tool writes, up to a bound."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        pipes = (process.stdout, process.stderr)
        self._parts = {pipe: bytearray() for pipe in pipes if pipe is not None}

    def read(self, timeout_seconds: float) -> _End:
        """Read until both outputs and the tool end, the deadline passes, or it is too much."""
        deadline = time.monotonic() + timeout_seconds
        with selectors.DefaultSelector() as selector:
            for pipe in self._parts:
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready and time.monotonic() >= deadline:
                    return _End.TIMED_OUT
                for key, _ in ready:
                    piece = os.read(key.fd, _PIECE_BYTES)
                    if not piece:
                        selector.unregister(key.fileobj)
                    part = self._parts[cast("IO[bytes]", key.fileobj)]
                    part += piece
                    if len(part) > OUTPUT_BYTES_MAX:
                        return _End.TOO_MUCH
                if time.monotonic() >= deadline and selector.get_map():
                    return _End.TIMED_OUT
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return _End.TIMED_OUT
        return _End.DONE

    def answer(self) -> Answer:
        """Return what was read and how the tool ended."""
        stdout, stderr = (part.decode(errors="replace") for part in self._parts.values())
        return Answer(stdout=stdout, stderr=stderr, exit_code=self._process.returncode)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _kill_group(process: subprocess.Popen[bytes]) -> bool:
    """Kill a process and all that it started; say whether it ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(REAP_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    finally:
        _close(process)
    return True
