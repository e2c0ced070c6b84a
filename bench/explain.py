"""What `chipmedic explain` costs on a large kernel log, beside `grep -E` over the same file.

    .venv/bin/python bench/explain.py [--megabytes 100] [--rounds 3]

Targets (docs/benchmarks.md): at least 50 MB/s on one core for lines that match nothing, under 50 MB
of memory for the whole process.

Three logs are made from one seed: `quiet`, as a healthy node writes it, with numbers, addresses and
names that vary, where no line matches; `worst`, in which the words of every line are made up, so
that no two lines are alike; `faults`, quiet with one line in a thousand that states a fault. Each
is read by the command itself, started anew, pinned to one core, by turns with grep, which searches
the same texts that explain looks for first. Rates are by CPU time of the whole process, start
included, so that what else runs on the machine counts little; memory is its peak (ru_maxrss).
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from measure import machine, print_table, spread

from chipmedic.faults.kernel_lines import NEEDLES, read_line
from chipmedic.faults.lines_training import NEEDLES as TRAINING_NEEDLES
from chipmedic.faults.lines_training import read_training_text

MEGABYTE = 1_000_000
SEED = 20_250
FAULT_EVERY = 1000

QUIET = (
    "IPv6: ADDRCONF(NETDEV_CHANGE): veth{hex7}: link becomes ready",
    "docker0: port {n}(veth{hex7}) entered forwarding state",
    "device veth{hex7} entered promiscuous mode",
    "cni0: port {n}(veth{hex8}) entered disabled state",
    "systemd[1]: Started Session {n} of User {word}.",
    "systemd[1]: run-docker-runtime\\x2drunc-moby-{hex12}.mount: Deactivated successfully.",
    'audit: type=1400 audit(17000{n}.{n}:{n}): apparmor="STATUS" profile="{word}-{word}"',
    "perf: interrupt took too long ({n} > {n}), lowering kernel.perf_event_max_sample_rate to {n}",
    "TCP: request_sock_TCP: Possible SYN flooding on port {n}. Sending cookies.",
    "nfs: server {word}{n} OK",
    "mlx5_core 0000:{hex2}:00.0 eth{n}: Link up",
    "usb {n}-{n}: new high-speed USB device number {n} using xhci_hcd",
    "sd {n}:0:0:0: [sd{word}] Attached SCSI removable disk",
    "cgroup: fork rejected by pids controller in /kubepods/burstable/pod{hex12}/{word}",
    "python[{n}]: {word} {word} {word} step {n} loss {n}.{n}",
    "nf_conntrack: default automatic helper assignment has been turned off for {word}",
    "kauditd_printk_skb: {n} callbacks suppressed",
    "overlayfs: upperdir is in-use by another mount, {word}/{hex12}",
    "hrtimer: interrupt took {n} ns",
    "CIFS: VFS: \\\\{word}\\{word} Send returned {n} for {word}",
)
FAULTS = (
    "NVRM: Xid (PCI:0000:{hex2}:00): 31, pid={n}, name=python, Ch 00000010, intr 0. MMU Fault",
    "NVRM: Xid (PCI:0000:{hex2}:00): 79, GPU has fallen off the bus.",
    "mlx5_core 0000:{hex2}:00.0 mlx5_{n}: Port: 1 Link DOWN",
    "EDAC MC{n}: 1 CE memory read error on DIMM_A{n}",
    "INFO: task python:{n} blocked for more than 120 seconds.",
)
_FIELD = re.compile(r"\{(\w+)\}")
_WORD = re.compile(r"[a-z]{4,}")
LETTERS = {
    "e": 127, "t": 91, "a": 82, "o": 75, "i": 70, "n": 67, "s": 63, "h": 61, "r": 60, "d": 43,
    "l": 40, "c": 28, "u": 28, "m": 24, "w": 24, "f": 22, "g": 20, "y": 20, "p": 19, "b": 15,
    "v": 10, "k": 8, "j": 2, "x": 2, "q": 1, "z": 1,
}  # fmt: skip
"""How often each letter comes in English, in thousandths."""
NAMES = 2000
"""How many users, servers and programs the quiet log names."""


@dataclass(frozen=True, slots=True)
class Run:
    """One process that read the file."""

    cpu_seconds: float
    peak_bytes: int
    lines: int
    """Lines that grep found; of explain, 0."""


def word(length: int, chance: random.Random) -> str:
    """Return a made-up word with the letters of English."""
    return "".join(chance.choices(tuple(LETTERS), tuple(LETTERS.values()), k=length))


@cache
def all_names() -> list[str]:
    """Return the names in the log."""
    chance = random.Random(SEED)
    return [word(chance.randrange(3, 10), chance) for _ in range(NAMES)]


def fill(template: str, chance: random.Random) -> str:
    """Return a template with its fields made up."""
    names = all_names()

    def field(match: re.Match[str]) -> str:
        kind = match[1]
        if kind == "n":
            return str(chance.randrange(10 ** chance.randrange(1, 6)))
        if kind == "word":
            return names[chance.randrange(NAMES)]
        digits = int(kind.removeprefix("hex"))
        return f"{chance.randrange(16**digits):0{digits}x}"

    return _FIELD.sub(field, template)


def fresh_words(line: str, chance: random.Random) -> str:
    """Return a line of the same shape whose words nobody has seen."""
    return _WORD.sub(lambda match: word(len(match[0]), chance), line)


def states_nothing(line: str) -> bool:
    """Say whether neither the kernel's nor a training job's rules find anything in a line."""
    return not read_line(line) and read_training_text(line) is None


def write_log(path: Path, size: int, make: Callable[[int, random.Random], str]) -> int:
    """Write a log of about `size` bytes; return its lines."""
    chance = random.Random(SEED)
    uptime, written, lines = 0.0, 0, 0
    with path.open("wb") as file:
        while written < size:
            uptime += chance.random() / 50
            line = f"[{uptime:13.6f}] {make(lines, chance)}\n".encode()
            written += file.write(line)
            lines += 1
    return lines


def quiet(number: int, chance: random.Random) -> str:
    """Return a line that states nothing."""
    del number
    return fill(chance.choice(QUIET), chance)


def worst(number: int, chance: random.Random) -> str:
    """Return a line that states nothing and is like no other."""
    return fresh_words(quiet(number, chance), chance)


def faults(number: int, chance: random.Random) -> str:
    """Return a quiet line, or a fault now and then."""
    if number % FAULT_EVERY:
        return quiet(number, chance)
    return fill(chance.choice(FAULTS), chance)


def run(argv: Sequence[str], *, env: dict[str, str]) -> Run:
    """Run a program on one core to its end."""
    core = min(os.sched_getaffinity(0))
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        env=env,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    output = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):  # grep: 1 when nothing was found
        raise SystemExit(f"{argv[0]} ended with {process.returncode}")
    text = output.decode().strip()
    return Run(
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * 1024,
        int(text) if text.isdecimal() else 0,
    )


def explain(path: Path) -> list[str]:
    """Return the command line under test."""
    return [str(Path(sys.executable).with_name("chipmedic")), "explain", str(path)]


def grep(path: Path) -> list[str]:
    """Return grep's: every text that a line must hold for any rule to look at it."""
    texts = sorted({*NEEDLES, *TRAINING_NEEDLES})
    return [
        "grep",
        "-c",
        "-E",
        "|".join(re.escape(text).replace(r"\ ", " ") for text in texts),
        str(path),
    ]


def main() -> int:
    """Measure, print the table; the exit status says whether the targets were reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(machine())
    rows, is_reached = [], True
    with tempfile.TemporaryDirectory() as name:
        for log, make in (("quiet", quiet), ("worst", worst), ("faults", faults)):
            path = Path(name) / log
            lines = write_log(path, given.megabytes * MEGABYTE, make)
            row, rate, peak = measure(log, path, lines, given.rounds)
            rows.append(row)
            is_reached &= peak < 50 * MEGABYTE and (log != "quiet" or rate >= 50)
            path.unlink()
    print_table(
        ("log", "lines", "explain MB/s", "grep -E MB/s", "explain / grep", "peak MB"),
        rows,
    )
    return 0 if is_reached else 1


def measure(
    log: str, path: Path, lines: int, rounds: int
) -> tuple[tuple[object, ...], float, float]:
    """Return the row of one log, the median rate of explain and its highest peak."""
    environment = {**os.environ, "LC_ALL": "C", "NO_COLOR": "1"}
    megabytes = path.stat().st_size / MEGABYTE
    if log != "faults":
        sample = path.read_bytes()[:2_000_000].decode().splitlines()
        assert all(map(states_nothing, sample)), "a line that should match nothing does"
    run(["cat", str(path)], env=environment)  # both find it in memory
    ours: list[Run] = []
    theirs: list[Run] = []
    for _ in range(rounds):
        theirs.append(run(grep(path), env=environment))
        ours.append(run(explain(path), env=environment))
    our_rates = [megabytes / one.cpu_seconds for one in ours]
    their_rates = [megabytes / one.cpu_seconds for one in theirs]
    ratios = [mine / other for mine, other in zip(our_rates, their_rates, strict=True)]
    peak = max(one.peak_bytes for one in ours)
    row = (
        log,
        f"{lines:,}",
        spread(our_rates),
        spread(their_rates),
        spread(ratios),
        f"{peak / MEGABYTE:.1f}",
    )
    return row, sorted(our_rates)[len(our_rates) // 2], peak


if __name__ == "__main__":
    raise SystemExit(main())
