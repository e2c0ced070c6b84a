"""What every benchmark needs: the machine described, process trees measured, quantiles, a table."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process tree has used so far."""

    cpu_seconds: float
    pss_bytes: int
    alone_bytes: int
    """What it would be if no process outside the tree mapped the same files (libraries, Python)."""
    processes: int


def cost_of_tree(pid: int) -> Cost:
    """Return what a process and all below it used; ended children count in the CPU time."""
    root = psutil.Process(pid)
    cpu, pss, anonymous, count = 0.0, 0, 0, 0
    files: dict[str, int] = {}
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
            text = Path(f"/proc/{process.pid}/smaps").read_text(encoding="utf-8")
        except (psutil.NoSuchProcess, OSError):
            continue
        for file, sizes in _mappings(text):
            pss += sizes["Pss"]
            anonymous += sizes["Anonymous"]
            files[file] = max(files.get(file, 0), sizes["Rss"] - sizes["Anonymous"])
        cpu += times.user + times.system + times.children_user + times.children_system
        count += 1
    return Cost(cpu, pss, anonymous + sum(files.values()), count)


def _mappings(smaps: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield what is mapped, by offset, device and inode, with its sizes in bytes."""
    file, sizes = "", dict[str, int]()
    for line in smaps.splitlines():
        head, _, rest = line.partition(" ")
        if not head.endswith(":"):
            file, sizes = " ".join(rest.split()[1:4]), {}
        elif rest.strip().endswith("kB"):
            sizes[head[:-1]] = int(rest.split()[0]) * 1024
            if head == "Anonymous:":
                yield file, sizes


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> str:
    """Return median and the half of the interquartile range, `1.23 ± 0.04`."""
    if len(values) < 4:
        return f"{statistics.median(values):.3g}"
    low, _, high = statistics.quantiles(values, n=4)
    return f"{statistics.median(values):.3g} ± {(high - low) / 2:.2g}"


def machine() -> str:
    """Return this machine in one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores {model}, {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {load:.2f} at the start"
    )


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown, as docs/benchmarks.md holds it."""
    text = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in [list(head), *text]) for n in range(len(head))]
    for row in [list(head), ["-" * width for width in widths], *text]:
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")
