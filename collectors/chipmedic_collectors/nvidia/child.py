"""The parent's handle on the child that talks to NVML: asks with a deadline, abandons, restarts.

What it guarantees, whatever the driver does:

- `ask` returns or raises within its deadline. A child that did not answer is killed with its
  session and not waited for: one that is stuck in the kernel cannot die.
- A second child is never started while an abandoned one still exists, so pollers do not pile up
  behind a wedged chip.
- Restarts wait: not at all after a first crash, then 5, 10, 20 ... 300 s, until one has served for
  a minute.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, cast

from chipmedic.errors import CollectError, ToolBlocked, ToolFailed
from chipmedic_collectors.nvidia.trail import TRAIL_BYTES, TrailReader

RESTART_SECONDS = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
SETTLED_SECONDS = 60.0
"""A child that has served for so long starts the waiting times anew."""
DEATH_SECONDS = 1.0
"""How long a child that was killed, or that closed its output, may take to be gone."""
READ_BYTES = 65536


def kill_group(process_id: int) -> None:
    """Kill a child with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process_id, signal.SIGKILL)


class Child:
    """At most one worker process; started when it is asked something."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        kill: Callable[[int], None] = kill_group,
        restart_seconds: Sequence[float] = RESTART_SECONDS,
    ) -> None:
        self._argv = tuple(argv)
        self._env = {key: value for key, value in env.items() if key != "NOTIFY_SOCKET"}
        self._kill = kill
        self._restart_seconds = tuple(restart_seconds)
        self._running: _Running | None = None
        self._abandoned: subprocess.Popen[bytes] | None = None
        self._trouble = "the NVML process was closed"
        self._error: type[CollectError] = ToolFailed
        self._failures = 0
        self._next_start_at = 0.0
        self._left_over: list[dict[str, Any]] = []
        self._asking = threading.Lock()
        self.starts = 0
        """How often a child has been started."""

    @property
    def is_fresh(self) -> bool:
        """True: the next answer is the first of its child, which may have chips to initialise."""
        return self._running is None or not self._running.has_answered

    def ask(self, request: Mapping[str, Any], *, deadline_seconds: float) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            ToolBlocked: no answer in time, now or before, and it is not tried again yet.
            ToolFailed: the child died or wrote nonsense; another one is started later.
        """
        with self._asking:
            running = self._running or self._start()
            line = self._exchange(running, request, deadline_seconds)
            try:
                answer = json.loads(line)
            except ValueError as e:
                raise self._spoilt(running) from e
            if not isinstance(answer, dict) or answer.get("id") != request.get("id"):
                raise self._spoilt(running)
        if time.monotonic() - running.started_at >= SETTLED_SECONDS:
            self._failures = 0
        return answer

    def _exchange(
        self, running: _Running, request: Mapping[str, Any], deadline_seconds: float
    ) -> bytes:
        try:
            return running.exchange(json.dumps(request).encode() + b"\n", deadline_seconds)
        except TimeoutError:
            trouble = f"NVML gave no answer in {deadline_seconds:g} s{running.where()}"
            self._fail(trouble, ToolBlocked)
            self._let_go(running)
            raise ToolBlocked(
                f"{self._trouble}; process {running.process.pid} is abandoned: "
                "the driver is unresponsive"
            ) from None
        except EOFError:
            raise self._died(running) from None

    def pushed(self) -> list[dict[str, Any]]:
        """Return what the child has pushed since the last time; never blocks."""
        pushed, self._left_over = self._left_over, []
        return pushed if self._running is None else pushed + self._running.pushed()

    def wake_fd(self) -> int | None:
        """Return the descriptor that turns readable when the child pushes something, or dies."""
        return None if self._running is None else self._running.events

    def close(self) -> None:
        """End the child and let go of the driver; never blocks. A later `ask` starts another one.

        Called while an `ask` waits in another thread, it kills the child, which ends that `ask`.
        """
        running = self._running
        if running is None:
            return
        if self._asking.acquire(blocking=False):
            try:
                self._let_go(running)
            finally:
                self._asking.release()
        else:
            self._kill(running.process.pid)

    def _start(self) -> _Running:
        """Start a child, if none is stuck and none failed a moment ago."""
        if self._abandoned is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._abandoned.wait(DEATH_SECONDS)
            if self._abandoned.poll() is None:
                raise ToolBlocked(
                    f"{self._trouble}; process {self._abandoned.pid} is stuck in the kernel and "
                    "no second one is started; reboot the node if it stays"
                )
            self._abandoned = None
        wait = self._next_start_at - time.monotonic()
        if wait > 0:
            raise self._error(f"{self._trouble}; tried again in {wait:.0f} s")
        try:
            self._running = _Running(self._argv, self._env)
        except OSError as e:
            self._fail(f"the NVML process cannot be started: {e.strerror}")
            raise ToolFailed(self._trouble) from e
        self.starts += 1
        return self._running

    def _fail(self, trouble: str, error: type[CollectError] = ToolFailed) -> None:
        wait = self._restart_seconds[min(self._failures, len(self._restart_seconds) - 1)]
        self._failures += 1
        self._trouble, self._error = trouble, error
        self._next_start_at = time.monotonic() + wait

    def _died(self, running: _Running) -> ToolFailed:
        """Say how a child ended that closed its output."""
        where = running.where()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(DEATH_SECONDS)
        code = running.process.poll()
        self._let_go(running)
        self._fail(f"the NVML process died ({_ending(code)}){where}")
        return ToolFailed(f"{self._trouble}; it is started again")

    def _spoilt(self, running: _Running) -> ToolFailed:
        self._let_go(running)
        self._fail("the NVML process wrote no answer that can be read")
        return ToolFailed(self._trouble)

    def _let_go(self, running: _Running) -> None:
        """Kill the child without waiting: a thread does that, and gets rid of it when it dies."""
        self._running = None
        self._left_over += running.pushed()
        running.close()
        if running.process.poll() is not None:
            return
        self._abandoned = running.process
        self._kill(running.process.pid)
        threading.Thread(target=running.process.wait, name="nvml-reaper", daemon=True).start()


class _Running:
    """A live child with its pipes."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self.events, events_child = os.pipe()
        trail_descriptor = os.memfd_create("nvml-trail")
        try:
            os.ftruncate(trail_descriptor, TRAIL_BYTES)
            self._trail = TrailReader(trail_descriptor)
            self.process = subprocess.Popen(
                [*argv, str(events_child), str(trail_descriptor)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=env,
                pass_fds=(events_child, trail_descriptor),
                start_new_session=True,
                bufsize=0,
            )
        except OSError:
            os.close(self.events)
            raise
        finally:
            os.close(events_child)
            os.close(trail_descriptor)
        self._stdin = cast("IO[bytes]", self.process.stdin)
        self._stdout = cast("IO[bytes]", self.process.stdout)
        os.set_blocking(self.events, False)
        self.started_at = time.monotonic()
        self.has_answered = False
        self._events_read = b""

    def exchange(self, line: bytes, deadline_seconds: float) -> bytes:
        """Write a line and return the line that answers it.

        Raises:
            TimeoutError: no whole line within the deadline.
            EOFError: the child has closed its end.
        """
        until = time.monotonic() + deadline_seconds
        try:
            self._stdin.write(line)
        except BrokenPipeError as e:
            raise EOFError from e
        answer = b""
        poller = select.poll()
        poller.register(self._stdout, select.POLLIN)
        while not answer.endswith(b"\n"):
            if not poller.poll(max(0.0, until - time.monotonic()) * 1e3):
                raise TimeoutError
            part = self._stdout.read(READ_BYTES)
            if not part:
                raise EOFError
            answer += part
        self.has_answered = True
        return answer

    def pushed(self) -> list[dict[str, Any]]:
        """Return the lines that have come through the pipe of events."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.events, READ_BYTES):
                self._events_read += part
        *lines, self._events_read = self._events_read.split(b"\n")
        found = [json.loads(line) for line in lines]
        return [event for event in found if isinstance(event, dict)]

    def where(self) -> str:
        """Return ", in <call> of GPU <index>" when the child is inside a call."""
        text = self._trail.read()
        return f", in {text}" if text else ""

    def close(self) -> None:
        """Close the pipes; the process is the caller's matter."""
        self._stdin.close()
        self._stdout.close()
        os.close(self.events)
        self._trail.close()


def _ending(code: int | None) -> str:
    if code is None:
        return "it closed its output"
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
