"""What this process costs, under the names that every Prometheus dashboard knows.

Source: proc(5) of the kernel; prometheus.io/docs/instrumenting/writing_clientlibs.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from chipmedic_agent.exposition import Family

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_USER, _SYSTEM, _STARTED, _VIRTUAL, _RESIDENT = 11, 12, 19, 20, 21
"""Places in /proc/self/stat behind the name of the command."""


def own_process(boot_time: float) -> Iterator[Family]:
    """Yield the usual families; none where there is no /proc."""
    try:
        stat = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        open_files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone
    except OSError:
        return
    seconds = (int(stat[_USER]) + int(stat[_SYSTEM])) / _TICKS
    for name, help_text, value in (
        ("cpu_seconds_total", "CPU time of the process, user and system.", seconds),
        ("resident_memory_bytes", "Memory in RAM.", int(stat[_RESIDENT]) * _PAGE_BYTES),
        ("virtual_memory_bytes", "Address space.", int(stat[_VIRTUAL])),
        ("open_fds", "Open file descriptors.", open_files),
        ("max_fds", "The most that may be open.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        (
            "start_time_seconds",
            "When the process was started.",
            boot_time + int(stat[_STARTED]) / _TICKS,
        ),
    ):
        yield Family(f"process_{name}", help_text, float(value))
