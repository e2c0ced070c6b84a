"""A fake `xpu_smi` (XRE 5, P800): layouts and lies of the real one.

It reads the state anew at each call (`tool_state`) and needs Python and nothing else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from chipmedic_simulator.tool_state import ToolChip, ToolHost, install, load_named, value_of

_RULE = "+-------------------------------+----------------------+----------------------+"
_HEADER = """\
+-----------------------------------------------------------------------------+
| XPU-SMI               Driver Version: 5.21.0.0     XPU-RT Version: 5.21.0   |
|-------------------------------+----------------------+----------------------+
| XPU  Name        Persistence-M| Bus-Id        Disp.A | Volatile Uncorr. ECC |
| Fan  Temp  Perf  Pwr:Usage/Cap|         Memory-Usage | XPU-Util  Compute M. |
|                               |             L3-Usage |            SR-IOV M. |
|===============================+======================+======================|"""


def install_tools(bin_dir: Path, *names: str) -> None:
    """Write the tool under these names (`xpu_smi` where none is given) into a folder for PATH."""
    target = "chipmedic_simulator.kunlun_tools:xpu_smi"
    install(bin_dir, dict.fromkeys(names or ("xpu_smi",), target))


def xpu_smi(
    argv: Sequence[str] | None = None,
    *,
    host: ToolHost | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run xpu_smi; returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    host = load_named() if host is None else host
    if host.driver == "down":
        sys.stderr.write("open /dev/xpuctrl failed: No such file or directory\n")
        return 255
    if host.driver == "gone":
        sys.stdout.write("Initialize default context for dev -1 fail\n")
        return 255
    if host.prints_nothing:
        return 0
    device = value_of(words, "-d", "--id")
    chips = host.shown(device.rpartition("xpu")[2] if device else None)
    sleep(host.waiting_seconds(chips))
    if "-m" in words:
        text = "".join(f"{_machine_row(number, chip)}\n" for number, chip in chips)
    elif "-x" in words:
        text = _xml(host, chips)
    else:
        text = _table(chips)
    sys.stdout.write(text[: host.cut_after])
    return 0


def _address(chip: ToolChip) -> str:
    return f"0000{chip.pci}".upper()


def _machine_row(number: int, chip: ToolChip) -> str:
    """Positions are the format; a chip that does not answer prints zeroes."""
    if chip.is_dead:
        values = f"0 0 0 0 0 {'0 ' * 6}0 0 0 0 0 0"
    else:
        values = (
            f"{chip.temperature_celsius} 0 0 0 {chip.power_watts} {'1450 ' * 6}2 96 "
            f"{chip.used_mib} {chip.total_mib} {chip.use_percent} 1.0:2.6:1.41.1.7"
        )
    return f'{_address(chip)} {number} {number} {chip.serial} {values} "P800 OAM" 0 0 0 0'


def _xml(host: ToolHost, chips: list[tuple[int, ToolChip]]) -> str:
    lines = ['<?xml version="1.0" ?>', "<xpu_smi_log>"]
    lines += ["\t<driver_version>5.21.0.0</driver_version>"]
    lines += [f"\t<attached_xpus>{len(host.chips)}</attached_xpus>"]
    for number, chip in chips:
        word = "Invalid Argument"
        temperature = word if chip.is_dead else f"{chip.temperature_celsius} C"
        corrected, uncorrected = (
            (word, word) if chip.is_dead else (str(chip.corrected), str(chip.uncorrected))
        )
        lines += [
            f'\t<xpu id="{_address(chip)}">',
            "\t\t<product_name>P800 OAM</product_name>",
            f"\t\t<serial>{chip.serial}</serial>",
            f"\t\t<uuid>GPU-{chip.uuid}</uuid>",
            f"\t\t<minor_number>{number}</minor_number>",
            "\t\t<ecc_errors><aggregate>",
            f"\t\t\t<dram_correctable>{corrected}</dram_correctable>",
            f"\t\t\t<dram_uncorrectable>{uncorrected}</dram_uncorrectable>",
            "\t\t</aggregate></ecc_errors>",
            f"\t\t<temperature><xpu_temp>{temperature}</xpu_temp></temperature>",
            "\t\t<processes>",
            *(
                f"\t\t\t<process_info><pid>{pid}</pid><process_name>python</process_name>"
                "<used_memory>512 MiB</used_memory></process_info>"
                for pid in chip.pids
            ),
            "\t\t</processes>",
            "\t</xpu>",
        ]
    return "\n".join([*lines, "</xpu_smi_log>", ""])


def _table(chips: list[tuple[int, ToolChip]]) -> str:
    lines = [time.asctime(), _HEADER]
    for number, chip in chips:
        lines += [
            f"| {number:3}  P800 OAM           N/A   | {_address(chip)} N/A |"
            f" {chip.uncorrected:20} |",
            f"| N/A   {chip.temperature_celsius:2}C  N/A   {chip.power_watts:4}W / 400W |"
            f" {chip.used_mib:6}MiB / {chip.total_mib:5}MiB |"
            f" {chip.use_percent:6}%      Default |",
            "|                               |      0MiB /    96MiB |             Disabled |",
            _RULE,
        ]
    return "\n".join([*lines, ""])
