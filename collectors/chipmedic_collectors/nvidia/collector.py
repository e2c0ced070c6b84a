"""NVIDIA GPUs through NVML: the collector. NVML itself lives in a child (child.py, worker.py)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar, Self

from chipmedic.collector import CallTiming, Collector
from chipmedic.errors import ToolBlocked, ToolFailed, ToolMissing
from chipmedic.host import Host
from chipmedic.model import HOST, Event, Scan
from chipmedic_collectors.nvidia.child import Child
from chipmedic_collectors.nvidia.nvml import SOURCE, Memory, translate
from chipmedic_collectors.nvidia.pci import gpu_addresses, has_driver_node
from chipmedic_collectors.nvidia.reply import SUCCESS, Reply, read_reply

WORKER = "chipmedic_collectors.nvidia.worker"
LIBRARY_VARIABLE = "CHIPMEDIC_NVML_LIBRARY"
"""Environment: path of the library where the loader does not find it; the child reads it."""
WORKER_VARIABLE = "CHIPMEDIC_NVML_WORKER"
"""Environment: another module to run as the child, where NVML must be reached otherwise."""

ANSWER_SECONDS = 8.0
"""A healthy node answers in milliseconds; the driver waits 6 s or more for its firmware."""
FIRST_ANSWER_SECONDS = 30.0
"""Without persistence mode the first answer initialises every chip: seconds for each."""
PROBE_SECONDS = 10.0

PERIOD_SECONDS = {"fast": 0.0, "medium": 30.0, "slow": 60.0, "processes": 15.0}
"""How often each group of calls is made, in their order; `fast` at each scan. `slow` lists the
slices of a chip that the processes are looked for in."""
EARLY_SECONDS = 1.0
"""So much before its time a group is made all the same, so that a beat that jitters skips none."""
PUSHED_ONLY_MAX = 3
"""After so many scans that only passed Xids on, one asks: a storm must not stop the polling."""
XID_EVENT = 0x8


class Nvidia(Collector):
    """Reads NVIDIA GPUs through NVML, in a child that may block, crash or die without harm."""

    vendor = "nvidia"
    period_seconds: ClassVar[float] = 5.0
    deadline_seconds: ClassVar[float] = FIRST_ANSWER_SECONDS + 5.0

    def __init__(
        self,
        host: Host,
        *,
        child: Child | None = None,
        answer_seconds: float = ANSWER_SECONDS,
        first_answer_seconds: float = FIRST_ANSWER_SECONDS,
    ) -> None:
        self._host = host
        self._child = child or Child(worker_argv(), worker_environment())
        self._answer_seconds = answer_seconds
        self._first_answer_seconds = first_answer_seconds
        self._memory = Memory()
        self._last = Scan(source=SOURCE, at=0.0)
        self._made_at: dict[str, float] = {}
        self._numbers = count(1)
        self._pushed: list[dict[str, Any]] = []
        self._pushed_only = 0
        self._pci_addresses: tuple[str, ...] = ()
        self.versions: dict[str, str] = {}
        """`driver_version` and `nvml_version`, once they are known."""

    @classmethod
    def discover(cls, host: Host) -> Self | None:
        """See `Collector.discover`: PCI shows a GPU, or NVML counts one (no PCI: Tegra, WSL).

        Costs a look at PCI where there is nothing; a process only where a driver is. NVML is asked
        in a child, because its library may hang as it is loaded; a child that hangs is a GPU that
        is here.
        """
        if gpu_addresses(host):
            return cls(host)
        if not has_driver_node(host) and not _is_led_elsewhere():
            return None
        try:
            answer = host.run(
                [*worker_argv(), "--probe"],
                timeout_seconds=PROBE_SECONDS,
                env=worker_environment(),
            )
        except ToolBlocked:
            return cls(host)
        except (ToolMissing, ToolFailed):
            return None
        return cls(host) if answer.exit_code == 0 else None

    def scan(self) -> Scan:
        """See `Collector.scan`.

        Xids that have been pushed are passed on first and alone: the chip that they are about may
        hang the next call.

        Raises:
            ToolBlocked: the driver does not answer; the child is abandoned.
            ToolFailed: the child died, or wrote nonsense; it is started again.
        """
        now = self._host.now()
        pushed = self._child.pushed()
        self._pushed += [event for event in pushed if event.get("type") == XID_EVENT]
        if self._pushed and self._pushed_only < PUSHED_ONLY_MAX:
            self._pushed_only += 1
            return replace(
                self._last,
                at=now,
                readings=(),
                gaps=(),
                events=self._take_pushed(),
                is_inventory=False,
            )
        self._pushed_only = 0
        reply = self._ask(now)
        scan, self._memory = translate(
            reply, self._memory, at=now, pci_addresses=self._pci_addresses
        )
        self._last = scan
        return replace(scan, events=(*self._take_pushed(), *scan.events))

    def wake_fd(self) -> int | None:
        """See `Collector.wake_fd`: readable when an Xid came, or when the child died."""
        return self._child.wake_fd()

    def close(self) -> None:
        """Let go of the driver, as a reset of a chip needs; the next scan opens it again."""
        self._child.close()

    def timings(self) -> dict[str, CallTiming]:
        """Return what each NVML call has cost since the child started; asks the child.

        Raises:
            ToolBlocked, ToolFailed: as `scan`.
        """
        reply = self._exchange([], with_timings=True)
        return {symbol: CallTiming(*row) for symbol, row in sorted(reply.timings.items())}

    def _ask(self, now: float) -> Reply:
        """Make the calls whose time has come."""
        calls = [
            group
            for group, period in PERIOD_SECONDS.items()
            if not 0 <= now - self._made_at.get(group, -1e18) < period - EARLY_SECONDS
        ]
        if "slow" in calls:
            self._pci_addresses = gpu_addresses(self._host)
        reply = self._exchange(calls)
        self._made_at |= dict.fromkeys(calls, now)
        self.versions |= {
            name: str(text) for name, (code, text) in reply.system.items() if code == SUCCESS
        }
        return reply

    def _exchange(self, calls: list[str], *, with_timings: bool = False) -> Reply:
        is_first = self._child.is_fresh
        request = {"id": next(self._numbers), "calls": calls, "timings": with_timings}
        deadline = self._first_answer_seconds if is_first else self._answer_seconds
        return read_reply(self._child.ask(request, deadline_seconds=deadline))

    def _take_pushed(self) -> tuple[Event, ...]:
        """Return the Xids that wait, as events of their chips."""
        pushed, self._pushed = self._pushed, []
        return tuple(self._xid(event) for event in pushed)

    def _xid(self, event: Mapping[str, Any]) -> Event:
        chip = self._memory.chip_at(event["index"])
        where = "" if chip is None else f" on GPU {chip.index} ({chip.pci}, {chip.uid})"
        if chip is not None and (words := self._memory.words_of(chip.uid, event["slice"])):
            where += f" in {words}"
        return Event(
            component=HOST if chip is None else chip.component,
            code=f"xid:{event['data']}",
            message=f"NVML: Xid {event['data']}{where}",
            at=event["at"],
        )


def _is_led_elsewhere() -> bool:
    """Say whether the environment names another library or worker, which is then believed."""
    return any(os.environ.get(name) for name in (LIBRARY_VARIABLE, WORKER_VARIABLE))


def worker_argv(module: str | None = None) -> tuple[str, ...]:
    """Return the command line of the child.

    `-P` keeps the working directory off the import path: a folder there must not become our code.
    """
    return (sys.executable, "-P", "-m", module or os.environ.get(WORKER_VARIABLE) or WORKER)


def worker_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the child's environment: this one, importing from where this process imports."""
    inherited = dict(os.environ if env is None else env)
    return inherited | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "MALLOC_ARENA_MAX": "1",  # glibc: one heap for its two threads, half a MiB less
    }
