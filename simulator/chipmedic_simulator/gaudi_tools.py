"""A fake `hl-smi` (1.22, Gaudi 2): layouts and lies of the real one.

It reads the state anew at each call (`tool_state`) and needs Python and nothing else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from chipmedic_simulator.tool_state import ToolChip, ToolHost, install, load_named, value_of

_FIELDS: dict[str, Callable[[int, ToolChip], object]] = {
    "index": lambda number, chip: number,
    "uuid": lambda number, chip: chip.uuid,
    "bus_id": lambda number, chip: chip.pci,
    "serial": lambda number, chip: chip.serial,
    "name": lambda number, chip: "HL-225",
    "driver_version": lambda number, chip: "1.22.9-ab12cd3",
    "memory.total": lambda number, chip: f"{chip.total_mib} MiB",
    "memory.used": lambda number, chip: f"{chip.used_mib} MiB",
    "power.draw": lambda number, chip: f"{chip.power_watts} W",
    "temperature.aip": lambda number, chip: f"{chip.temperature_celsius} C",
    "utilization.aip": lambda number, chip: f"{chip.use_percent} %",
    "ecc.errors.corrected.aggregate.total": lambda number, chip: chip.corrected,
    "ecc.errors.uncorrected.aggregate.total": lambda number, chip: chip.uncorrected,
}
_IDENTITIES = ("index", "uuid", "bus_id", "serial", "name", "driver_version")
_EXTERNAL = (8, 22, 23)
_PORTS = range(24)
_RULE = "|-------------------------------+----------------------+----------------------+"
_HEADER = f"""\
+-----------------------------------------------------------------------------+
| HL-SMI Version:                              hl-1.22.9-fw-61.4.9.1          |
| Driver Version:                                     1.22.9-ab12cd3          |
| Nic Driver Version:                                 1.22.9-1234abc          |
{_RULE}
| AIP  Name        Persistence-M| Bus-Id        Disp.A | Volatile Uncor-Events|
| Fan  Temp  Perf  Pwr:Usage/Cap|         Memory-Usage | AIP-Util  Compute M. |
|===============================+======================+======================|"""
_PROCESSES = """\
| Compute Processes:                                               AIP Memory |
|  AIP       PID   Type   Process name                             Usage      |
|=============================================================================|"""
_IDLE_EVENTS = 2
"""What an idle and healthy card shows in the column of volatile events."""


def install_tools(bin_dir: Path, *names: str) -> None:
    """Write the tool under these names (`hl-smi` where none is given) into a folder for PATH."""
    target = "chipmedic_simulator.gaudi_tools:hl_smi"
    install(bin_dir, dict.fromkeys(names or ("hl-smi",), target))


def hl_smi(
    argv: Sequence[str] | None = None,
    *,
    host: ToolHost | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run hl-smi; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    host = load_named() if host is None else host
    if host.driver == "down":
        sys.stderr.write("hl-smi: failed to initialize hlml: driver not loaded\n")
        return 1
    if host.driver == "gone":
        sys.stdout.write("No AIP devices found\n")
        return 1
    if host.prints_nothing:
        return 0
    chips = host.shown(value_of(words, "-i"))
    sleep(host.waiting_seconds(chips))
    names = (value_of(words, "-Q") or "").split(",")
    if unknown := [name for name in names if name in host.unknown_words]:
        sys.stderr.write(f"Unknown query field: {unknown[0]}\n")
        return 1
    if "-Q" in words:
        text = _query(names, chips)
    elif "-n" in words:
        text = _ports(value_of(words, "-n") or "", chips)
    else:
        text = _table(chips)
    sys.stdout.write(text[: host.cut_after])
    return 0


def _query(names: list[str], chips: list[tuple[int, ToolChip]]) -> str:
    rows = []
    for number, chip in chips:
        cells = [
            "N/A" if chip.is_dead and name not in _IDENTITIES else str(_FIELDS[name](number, chip))
            for name in names
        ]
        rows.append(", ".join(cells))
    return "\n".join([*rows, ""])


def _ports(topic: str, chips: list[tuple[int, ToolChip]]) -> str:
    lines = []
    for _, chip in chips:
        for port in _PORTS:
            is_external = port in _EXTERNAL
            if topic == "ports":
                lines.append(f"port {port:2}:        {'external' if is_external else 'internal'}")
            else:
                is_down = is_external or port in chip.down_ports  # scale-out is not cabled here
                lines.append(f"port {port:2}:        {'DOWN' if is_down else 'UP'}")
    return "\n".join([*lines, ""])


def _table(chips: list[tuple[int, ToolChip]]) -> str:
    lines = [_HEADER]
    for number, chip in chips:
        identity = f"{number:3}  HL-225              N/A  | {chip.pci}     N/A "
        lines += [f"| {identity}|                   {_IDLE_EVENTS}  |", _load(chip), _RULE]
    lines.append(_PROCESSES)
    for number, chip in chips:
        rows = [f"{pid:6}   C    python{'':35}512MiB" for pid in chip.pids]
        rows = rows or [f"   N/A   N/A  N/A{'':38}N/A"]
        lines += [f"| {number:3}     {row}".ljust(78) + "|" for row in rows]
    return "\n".join([*lines, f"+{'=' * 77}+", ""])


def _load(chip: ToolChip) -> str:
    if chip.is_dead:
        cells = ["N/A   N/A   N/A   N/A /   N/A", "N/A   /      N/A", "N/A           N/A"]
    else:
        cells = [
            f"N/A   {chip.temperature_celsius:2}C   P0  {chip.power_watts:3}W /  600W",
            f"{chip.used_mib:5}MiB / {chip.total_mib:6}MiB",
            f"{chip.use_percent:5}%            0%",
        ]
    return f"| {cells[0]}  | {cells[1]}  | {cells[2]} |"
