"""How the real tools lay out what they print (captures of 25.x; key names of the 26.x source)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chipmedic_simulator.ascend_tools.state import AscendChip, AscendHost

_PROCESSES_SHOWN = 8


@dataclass(frozen=True)
class Box:
    """The widths of one family's table."""

    cells: tuple[int, int, int]
    first: str
    second: str
    process: str
    power_width: int
    die_rule: str
    """What stands between the dies of one NPU."""

    @property
    def width(self) -> int:
        """Characters between the outer bars."""
        return sum(self.cells) + 2

    def rule(self, fill: str) -> str:
        """Return a rule with crossings."""
        return "+" + "+".join(fill * cell for cell in self.cells) + "+"


def _box(family: str) -> Box:
    if family == "310P":
        return Box(
            (31, 17, 54),
            "| NPU     Name                  | Health          "
            "| Power(W)     Temp(C)           Hugepages-Usage(page) |",
            "| Chip    Device                | Bus-Id          "
            "| AICore(%)    Memory-Usage(MB)                        |",
            "| NPU     Chip                  | Process id      "
            "| Process name             | Process memory(MB)        |",
            12,
            "crossed",
        )
    second = "Chip  Phy-ID              " if family == "A3" else "Chip                      "
    return Box(
        (27, 15, 52),
        "| NPU   Name                | Health        "
        "| Power(W)    Temp(C)           Hugepages-Usage(page)|",
        f"| {second}| Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |",
        "| NPU     Chip              | Process id    "
        "| Process name             | Process memory(MB)      |",
        11,
        "plain",
    )


def summary(host: AscendHost) -> list[str]:
    """Return the lines of `npu-smi info`."""
    box = _box(host.family)
    versions = f" npu-smi {host.tool_version:<{40 if host.family == '310P' else 24}} "
    lines = [
        "+" + "-" * box.width + "+",
        f"|{versions + 'Version: ' + host.driver_version:<{box.width}}|",
        box.rule("-"),
        box.first,
        box.second,
        box.rule("="),
    ]
    shown = [chip for chip in host.chips if not chip.is_lost]
    npus = list(dict.fromkeys(chip.npu for chip in shown))
    for npu in npus:
        for place, chip in enumerate(chip for chip in shown if chip.npu == npu):
            if place:
                plain = "+" + "-" * box.width + "+"
                lines.append(plain if box.die_rule == "plain" else box.rule("-"))
            lines += _chip_rows(host, box, chip)
        lines.append(box.rule("="))
    return lines + _process_table(box, shown, npus)


def _chip_rows(host: AscendHost, box: Box, chip: AscendChip) -> list[str]:
    left, middle, right = box.cells
    dead = chip.has_no_values
    power = f"{0.0 if dead else chip.power_watts:.1f}"
    if host.family == "A3" and chip.die:
        power = "-"  # die 0 shows the power of the pair
    elif host.family == "310P":
        power = "NA"
    temperature = 0 if dead else chip.temperature_celsius
    usage = 0 if dead else chip.utilization_percent
    used, total = (0, 0) if dead else (chip.hbm_used_mb, chip.hbm_total_mb)
    number = 7 if host.family == "310P" else 5
    first = f" {power:<{box.power_width}} {temperature:<17} {'0':<5}/ 0"
    if host.family == "310P":
        ident = f" {chip.die:<{number}} {chip.phy_id}"
        second = f" {usage:<{box.power_width}} {used:<5}/ {total}"
    else:
        ident = f" {chip.die:<{number}} {chip.phy_id if host.family == 'A3' else ''}"
        second = f" {usage:<{box.power_width}} {'0':<5}/ {'0':<10} {used:<5}/ {total}"
    return [
        f"|{f' {chip.npu:<{number}} {chip.name}':<{left}}|{f' {chip.health}':<{middle}}"
        f"|{first:<{right}}|",
        f"|{ident:<{left}}|{f' {chip.pci}':<{middle}}|{second:<{right}}|",
    ]


def _process_table(box: Box, shown: list[AscendChip], npus: list[int]) -> list[str]:
    left, middle, right = box.cells
    lines = [box.rule("-"), box.process, box.rule("=")]
    for npu in npus:
        rows = [
            f"|{f' {npu:<7} {chip.die}':<{left}}|{f' {process.pid}':<{middle}}"
            f"| {process.name[:15]:<25}| {process.memory_mb:<{right - 28}}|"
            for chip in shown
            if chip.npu == npu
            for process in chip.processes[:_PROCESSES_SHOWN]
        ]
        idle = f"|{f' No running processes found in NPU {npu}':<{box.width}}|"
        lines += [*(rows or [idle]), box.rule("=")]
    return lines


def pairs(values: Iterable[tuple[str, object]], *, width: int = 30) -> list[str]:
    """Return lines of `key : value`."""
    return [f"\t{key:<{width}} : {value}" for key, value in values]


def mapping(host: AscendHost) -> list[str]:
    """Return the lines of `npu-smi info -m`."""
    has_phy = host.family == "A3"
    names = [
        "NPU ID",
        "Chip ID",
        "Chip Logic ID",
        *(["Chip Phy-ID"] if has_phy else []),
        "Chip Name",
    ]
    lines = ["\t" + " ".join(f"{name:<30}" for name in names)]
    shown = [chip for chip in host.chips if not chip.is_lost]
    for number, chip in enumerate(shown):
        ids = [chip.npu, chip.die, number if has_phy else chip.phy_id]
        ids += [chip.phy_id] if has_phy else []
        name = chip.name if has_phy else f"Ascend {chip.name}"
        lines.append("\t" + " ".join(f"{value:<30}" for value in ids) + f" {name}")
        last_of_card = number + 1 == len(shown) or shown[number + 1].npu != chip.npu
        if last_of_card:
            dashes = ["-"] * (len(names) - 3)
            rest = " ".join(f"{word:<30}" for word in (*dashes, "Mcu"))
            lines.append(f"\t{chip.npu:<30} {chip.die + 1:<30} {rest}")
    return lines


def listing(host: AscendHost) -> list[str]:
    """Return the lines of `npu-smi info -l`."""
    npus: dict[int, int] = {}
    for chip in host.chips:
        if not chip.is_lost:
            npus[chip.npu] = npus.get(chip.npu, 0) + 1
    lines = [*pairs([("Total Count", len(npus))]), ""]
    for npu, count in npus.items():
        lines += [*pairs([("NPU ID", npu), ("Chip Count", count)]), ""]
    return lines
