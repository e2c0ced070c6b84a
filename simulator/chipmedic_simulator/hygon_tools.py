"""A fake `hy-smi` (driver 6.3), which the DTK also ships as `rocm-smi`: layouts and lies.

It reads the state anew at each call (`tool_state`) and needs Python and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from chipmedic_simulator.tool_state import ToolChip, ToolHost, install, load_named

_TARGET = "chipmedic_simulator.hygon_tools:hy_smi"
_WIDTH = 96

Numbered = list[tuple[int, ToolChip]]


def install_tools(bin_dir: Path, *names: str) -> None:
    """Write the tool under these names (`hy-smi` where none is given) into a folder for PATH."""
    install(bin_dir, dict.fromkeys(names or ("hy-smi",), _TARGET))


def hy_smi(
    argv: Sequence[str] | None = None,
    *,
    host: ToolHost | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run hy-smi; it ends with 0 whatever happened."""
    words = list(sys.argv[1:] if argv is None else argv)
    host = load_named() if host is None else host
    if host.driver != "up":
        sys.stdout.write("Open mkfd failed\n")
        if host.driver == "gone":
            sys.stdout.write(
                "Error: No device available, no device found or initialization failed, exiting.\n"
            )
        else:
            sys.stderr.write("ERROR:root:Driver not initialized (hycu not found in modules)\n")
        return 0
    if host.prints_nothing:
        return 0
    chips = host.shown()
    if "-d" in words:
        chosen = words[words.index("-d") + 1]
        chips = [(number, chip) for number, chip in chips if str(number) == chosen]
    sleep(max((chip.hang_seconds for _, chip in chips), default=0.0))
    text = _json(words, chips) if "--json" in words else _text(words, chips, host)
    sys.stdout.write(text[: host.cut_after])
    return 0


def _json(words: list[str], chips: Numbered) -> str:
    """Print pairs; those of the power lack their commas, as the real tool's do."""
    cards = []
    for number, chip in chips:
        pairs = {}
        if "--showbus" in words:
            pairs["PCI Bus"] = f"{chip.pci} --> SN: {chip.serial} --> OAM ID: {number + 1}"
        if "--showuniqueid" in words:
            pairs["Unique ID"] = chip.uuid
        if "--showproductname" in words:
            pairs |= {"Card Series": chip.name, "Card Vendor": "C-3000 IC Design Co., Ltd."}
        if "--showmeminfo" in words:
            pairs["vram Total Memory (MiB)"] = str(chip.total_mib)
            pairs["vram Total Used Memory (MiB)"] = str(chip.used_mib)
        body = ", ".join(f"{json.dumps(key)}: {json.dumps(text)}" for key, text in pairs.items())
        cards.append(f'"card{number}": {{{body}}}')
    return "{" + ", ".join(cards) + "}\n"


def _text(words: list[str], chips: Numbered, host: ToolHost) -> str:
    lines = ["", " System Management Interface ".center(_WIDTH, "=")]
    if "--showdriverversion" in words:
        lines += [f"Driver Version: {host.driver_version}"]
    elif "--showpids" in words:
        lines += _pids(chips)
    elif "--showrasinfo" in words:
        for number, chip in chips:
            lines += ["", f"HCU[{number}]: \tRAS INFO"]
            lines += ["         Block       Status    Correctable Error  Uncorrectable Error  "]
            lines += [
                f"           UMC        ENABLED  {chip.corrected:17}  {chip.uncorrected:19}  "
            ]
    elif "--showpagesinfo" not in words:
        lines += _table(chips)
    return "\n".join([*lines, "=" * _WIDTH, " End of SMI Log ".center(_WIDTH, "="), ""])


def _pids(chips: Numbered) -> list[str]:
    pids = sorted({pid for _, chip in chips for pid in chip.pids})
    if not pids:
        return ["No KFD PIDs currently running"]
    lines = ["PIDs for KFD processes:", ""]
    for pid in pids:
        cards = " ".join(f"['{number}']" for number, chip in chips if pid in chip.pids)
        lines += [
            f"PID: {pid}",
            "\tPASID: 32771",
            f"\tHCU Index: {cards} ",
            "\tVRAM USED(MiB): 512",
        ]
    return lines


def _table(chips: Numbered) -> list[str]:
    header = ("HCU", "Temp", "AvgPwr", "Perf", "PwrCap", "VRAM%", "HCU%", "Dec%", "Enc%", "Mode")
    widths = (8, 9, 11, 9, 11, 11, 10, 10, 10, 6)
    rows = [header]
    for number, chip in chips:
        share = f"{100 * chip.used_mib // chip.total_mib}%"
        sensors = (
            ("N/A", "N/A", "unknown", "N/A", "0%", "N/A")
            if chip.is_dead
            else (
                f"{chip.temperature_celsius:.1f}C",
                f"{chip.power_watts:.1f}W",
                "auto",
                f"{chip.power_cap_watts:.1f}W",
                share,
                f"{chip.use_percent:.1f}%",
            )
        )
        rows.append((str(number), *sensors, "0.0%", "0.0%", "Normal"))
    return ["=" * _WIDTH] + [
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    ]
