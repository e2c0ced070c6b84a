"""Plain columns under one header line: `npu-smi info -m` (mapping), `info watch` and `-t topo`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chipmedic.tool_report import ChipReport, ProblemKind, ToolReport
from chipmedic_collectors.ascend import cells
from chipmedic_collectors.values import integer

_NOT_A_CHIP = frozenset({"mcu", "3559"})
"""What the mapping lists beside the chips: the board's controller, the board's CPU."""
_WATCH_COLUMN = re.compile(r"\S[^()]*\([^)]*\)")
_TOPOLOGY_HEADER = re.compile(r"^\s*(?:NPU|Phy-ID)\d+\s+(?:(?:NPU|Phy-ID)\d+|CPU Affinity)", re.M)
_TOPOLOGY_ROW = re.compile(r"^\s*(?:NPU|Phy-ID)(\d{1,9})\s+(?!(?:NPU|Phy-ID)\d|CPU Aff)[A-Z]", re.M)
_MAPPING_COLUMN = re.compile(r"\S+(?: \S+)*")


@dataclass(frozen=True, slots=True)
class MappedChip:
    """One row of `npu-smi info -m`."""

    npu: int
    die: int
    name: str | None
    logic_id: int | None
    phy_id: int | None


def is_mapping(text: str) -> bool:
    """Say whether the text has the header of `npu-smi info -m`."""
    return any(_is_mapping_header(line) for line in text.splitlines())


def _is_mapping_header(line: str) -> bool:
    return "NPU ID" in line and "Chip ID" in line and ":" not in line and "|" not in line


def read_mapping(text: str) -> list[MappedChip]:
    """Return the chips of `npu-smi info -m`; rows of other parts and invalid rows are left out."""
    header: list[str] = []
    chips = []
    for line in text.splitlines():
        if _is_mapping_header(line):
            header = [name.lower() for name in _MAPPING_COLUMN.findall(line.strip())]
        elif header and line.strip():
            row = dict(zip(header, line.split(None, len(header) - 1), strict=False))
            if (chip := _mapped(row)) is not None:
                chips.append(chip)
    return chips


def _mapped(row: dict[str, str]) -> MappedChip | None:
    npu, die = integer(row.get("npu id", "")), integer(row.get("chip id", ""))
    name = row.get("chip name", "").strip()
    if npu is None or npu < 0 or die is None or name.lower() in _NOT_A_CHIP:
        return None
    return MappedChip(
        npu,
        die,
        cells.name(name),
        integer(row.get("chip logic id", "")),
        integer(row.get("chip phy-id", "")),
    )


def read_mapping_into(text: str, report: ToolReport) -> None:
    """Add the chips of `npu-smi info -m` to `report`."""
    for chip in read_mapping(text):
        report.chips.append(ChipReport(index=chip.npu, die=chip.die, name=chip.name))
    if not report.chips:
        report.add_problem(ProblemKind.NO_DEVICES, "the mapping lists no chip")


def is_topology(text: str) -> bool:
    """Say whether the text is the matrix of `npu-smi info -t topo`."""
    return _TOPOLOGY_HEADER.search(text) is not None


def read_topology(text: str, report: ToolReport) -> None:
    """Add the chips that the matrix names to `report`; it states nothing else of a chip."""
    for number in dict.fromkeys(_TOPOLOGY_ROW.findall(text)):
        report.chips.append(ChipReport(index=int(number)))
    if not report.chips:
        report.add_problem(ProblemKind.TRUNCATED, "the matrix has no rows")


def is_watch(text: str) -> bool:
    """Say whether the text has the header of `npu-smi info watch`."""
    return "NpuID(Idx)" in text


def read_watch(text: str, report: ToolReport) -> None:
    """Add the samples of `npu-smi info watch` to `report`; samples of one chip are one chip."""
    header: list[str] = []
    chips: dict[tuple[int, int], ChipReport] = {}
    for line in text.splitlines():
        words = line.split()
        if "NpuID(Idx)" in line:
            header = _WATCH_COLUMN.findall(line)
        elif header and words and integer(words[0]) is not None:
            if len(words) < len(header):
                report.add_problem(ProblemKind.TRUNCATED, f"a row is cut: {line.strip()}")
                words = words[:-1]  # its last number may have lost digits
            _add_sample(dict(zip(header, words, strict=False)), chips)
    report.chips.extend(chips.values())


def _add_sample(row: dict[str, str], chips: dict[tuple[int, int], ChipReport]) -> None:
    npu = integer(row.get("NpuID(Idx)", "")) or 0
    die = integer(row.get("ChipId(Idx)", "0")) or 0
    chip = chips.setdefault((npu, die), ChipReport(index=npu, die=die))
    sample = (
        ("power_watts", cells.measured(row.get("Pwr(W)", ""))),
        ("temperature_celsius", cells.measured(row.get("Temp(C)", ""))),
        ("utilization_ratio", cells.ratio(row.get("AI Core(%)", ""))),
        ("memory_used_ratio", cells.ratio(row.get("Memory(%)", ""))),
    )
    for field, value in sample:
        if value is not None:
            setattr(chip, field, value)
