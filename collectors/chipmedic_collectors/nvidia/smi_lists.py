"""The short answers of `nvidia-smi`: `-L`, `nvlink`, `c2c`, `topo`, `mig` and `--version`."""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, LinkReport, ProblemKind, ToolReport
from chipmedic_collectors.nvidia import smi_facts as facts
from chipmedic_collectors.nvidia.smi_chips import Chips
from chipmedic_collectors.values import identity, integer, number

_GPU = re.compile(
    r"GPU (?P<index>\d{1,4}):\s*(?P<name>.*?)\s*"
    r"\((?:UUID|S/N|Serial):?\s*(?P<uuid>[^)\s]*)\)(?:\s*\(S/N:\s*(?P<serial>[^)]*)\))?(?P<rest>.*)"
)
_LINK = re.compile(r"(?:C2C )?Link\s+(?P<index>\d{1,4}):\s*(?P<state>.*)")
_NO_LINK = re.compile(r"all links are inactive", re.IGNORECASE)
_SPEED = re.compile(r"[\d.]+\s*[GMT]i?[Bb]/s")
_TOPOLOGY_ROW = re.compile(
    r"GPU(\d{1,4})\s+(?:X|NV\d+|C2C|SYS|SOC|NODE|PHB|PXB|PIX|PSB|N/A|OK|CNS|GNS|TNS|NS|DR|U)\b"
)
"""How GPUs are connected (`-m`), or what each may do with another (`-p2p`)."""
_SLICES_TITLE = re.compile(r"\|\s*(?:GPU|Compute) instances?(?: profiles)?:", re.IGNORECASE)
_SLICE_ROW = re.compile(r"(?:\|\s+(\d{1,4})\s+(?:\d+\s+)?MIG\s|GPU\s+(\d{1,4})\s+Profile ID\b)")
_VERSION = re.compile(
    r"(?P<what>NVIDIA-SMI|DRIVER|KMD)\s+version\s*:\s*(?P<version>\S+)", re.IGNORECASE
)


def is_list(text: str) -> bool:
    """Say whether this is a list of GPUs by name, with or without their links."""
    return any(_GPU.match(line.strip()) for line in text.splitlines())


def has_no_link(text: str) -> bool:
    """Say whether the tool states of nobody in particular that no link is active."""
    return _NO_LINK.search(text) is not None


def read_list(text: str, report: ToolReport) -> None:
    """Read `GPU 0: name (UUID: ...)` lines and the links below each.

    A link whose line tells its speed is up; `<inactive>` and a speed of 0 are not. Other lines of a
    link (error counters, capabilities) tell no state. MIG devices are parts of the chip above them.
    """
    chips = Chips(report)
    chip: ChipReport | None = None
    for line in map(str.strip, text.splitlines()):
        if found := _GPU.match(line):
            chip = chips.add(
                ChipReport(
                    index=int(found["index"]),
                    name=identity(found["name"]),
                    uuid=identity(found["uuid"].removesuffix("GPU-")),  # some print no more of it
                    serial=identity(found["serial"] or ""),
                )
            )
            line = found["rest"]
        elif line.startswith("GPU "):
            chip = _cut_gpu(line, chips, report) or chip
        if chip is not None:
            _read_below(line, chip, report)
    first, last = report.chips[0], report.chips[-1]
    if first.links and first.name == last.name and _lacks_links(last, len(first.links)):
        report.add_problem(
            ProblemKind.TRUNCATED, f"{facts.label(last)} has fewer links than others"
        )


def _lacks_links(chip: ChipReport, expected: int) -> bool:
    return chip.links is None or 0 < len(chip.links) < expected


def _cut_gpu(line: str, chips: Chips, report: ToolReport) -> ChipReport | None:
    head = re.match(r"GPU (\d{1,4}):", line)
    if head is None:
        return None
    report.add_problem(ProblemKind.TRUNCATED, f"no UUID: {line}")
    return chips.add(ChipReport(index=int(head[1])))


def _read_below(line: str, chip: ChipReport, report: ToolReport) -> None:
    if link := _LINK.fullmatch(line):
        is_up = _is_up(link["state"])
        if is_up is not None:
            links = [one for one in chip.links or [] if one.index != int(link["index"])]
            chip.links = [*links, LinkReport(int(link["index"]), is_up)]
    elif _NO_LINK.search(line):
        chip.links = []
    elif (trouble := facts.trouble_of([line])) is not None:
        facts.note_trouble(report, chip, trouble, is_silent=True)


def _is_up(state: str) -> bool | None:
    if "inactive" in state.lower() or "down" in state.lower():
        return False
    if _SPEED.fullmatch(state.strip()):
        return bool(number(state.split()[0]) if " " in state else True)
    return True if state.strip().lower() in {"active", "up", "<active>"} else None


def is_topology(text: str) -> bool:
    """Say whether this is a matrix of `topo`."""
    return any(_TOPOLOGY_ROW.match(line.strip()) for line in text.splitlines())


def read_topology(text: str, report: ToolReport) -> None:
    """Read which GPUs the matrix of `topo -m` has; how they are connected is no state of a chip."""
    chips = Chips(report)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    for line in plain.splitlines():
        if row := _TOPOLOGY_ROW.match(line.strip()):
            chips.add(ChipReport(index=integer(row[1])))
    columns = {int(one) for one in re.findall(r"\bGPU(\d{1,4})\b", plain.partition("Legend")[0])}
    missing = sorted(columns - {chip.index for chip in report.chips})
    if missing:
        report.add_problem(ProblemKind.TRUNCATED, f"no row of GPU {missing[0]}")


def is_slices(text: str) -> bool:
    """Say whether this is an answer of `mig`: the slices of a GPU, or what it may be cut into."""
    lines = [line.strip() for line in text.splitlines()]
    return any(_SLICES_TITLE.match(line) or _SLICE_ROW.match(line) for line in lines)


def read_slices(text: str, report: ToolReport) -> None:
    """Read which GPUs are named; how they are cut is no state of a chip."""
    chips = Chips(report)
    for line in text.splitlines():
        if row := _SLICE_ROW.match(line.strip()):
            chips.add(ChipReport(index=integer(row[1] or row[2])))


def is_version(text: str) -> bool:
    """Say whether this is the answer to `--version`."""
    return _VERSION.search(text) is not None


def read_version(text: str, report: ToolReport) -> None:
    """Read the versions of the tool and the driver."""
    for found in _VERSION.finditer(text):
        version = identity(found["version"])
        if found["what"].upper() == "NVIDIA-SMI":
            report.tool_version = version
        else:
            report.driver_version = version
