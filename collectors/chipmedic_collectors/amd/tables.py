"""The tables of amd-smi with readings: `monitor`, the default view, and `ras --cper`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from chipmedic.tool_report import (
    ChipReport,
    Health,
    ProblemKind,
    ProcessReport,
    ToolReport,
)
from chipmedic_collectors.reading.cells import counter
from chipmedic_collectors.reading.judging import worsen
from chipmedic_collectors.reading.samples import Samples
from chipmedic_collectors.rocm_smi.keys import mark_silent, positive, share
from chipmedic_collectors.values import (
    identity,
    integer,
    is_placeholder,
    memory_bytes,
    normalise_pci,
    process_id,
)

_MONITOR = re.compile(r"^\s*(?:TIMESTAMP\s+)?GPU\s+(?!.*\bPID\b)(?!.*\bbdf\b)[A-Z]", re.MULTILINE)
_UNIT = re.compile(r"(?<=[\d/A])\s+(?=(?:m?W|\S?C|MHz|GHz|%|[KMGT]?B|[KMG]b/s|ns|us|m?V)(?=\s|$))")
_SLASH = re.compile(r"\s*/\s+|\s+/\s*")
_ROW = re.compile(r"\s*\d{1,12}\s")
_PROCESSES = re.compile(r"^[| ]*(?:PROCESS INFO|Processes):", re.MULTILINE)
_NO_PROCESS = re.compile(r"No running processes", re.IGNORECASE)
_DEFAULT = re.compile(r"^\| AMD-SMI (?P<tool>\S+)\s+amdgpu version: (?P<driver>\S+)", re.MULTILINE)
_CPER_ROW = re.compile(
    r"^\S+ \S+\s+(?P<index>\d{1,4})\s+(?P<severity>[A-Za-z][\w-]*)\s+\S*cper\S*(?P<afids>.*)$"
)
_CPER_PROSE = re.compile(
    r'entries for GPU (?P<index>\d{1,4})|"error_severity"\s*:\s*"(?P<severity>[\w-]+)"'
)
_PARTITIONED = re.compile(r"[DTQC]PX\b")

_MONITOR_NAMES = {
    "power_watts": ("POWER", "POWER_USAGE"),
    "power_limit_watts": ("PWR_CAP", "POWER_CAP"),
    "temperature_celsius": ("GPU_T", "GPU_TEMP"),
    "memory_temperature_celsius": ("MEM_T", "MEM_TEMP"),
}


# -- monitor


def is_monitor(text: str) -> bool:
    """Say whether the text has the header of `amd-smi monitor`."""
    return _MONITOR.search(text) is not None


def read_monitor(text: str, report: ToolReport) -> None:
    """Add the rows of `amd-smi monitor` and its process table; repeated samples are one chip."""
    top, below = _parts(text)
    cards = Samples(report)
    columns: list[str] = []
    lines = [line for line in top.splitlines() if line.strip()]
    for position, line in enumerate(lines):
        cells = _split(line)
        if _MONITOR.match(line):
            columns = cells
        elif columns and _ROW.match(line):
            if len(cells) != len(columns):
                is_cut = position == len(lines) - 1 and len(cells) < len(columns)
                kind = ProblemKind.TRUNCATED if is_cut else ProblemKind.MALFORMED
                words = f"{len(cells)} cells for {len(columns)} columns: {line.strip()}"
                report.add_problem(kind, words)
                cells = cells[:-1] if is_cut else cells[:1]
            row = dict(zip(columns, cells, strict=False))
            chip = _monitored(row)
            if chip.index is not None:
                chip = cards.add(chip.index, chip)
                _judge_monitored(chip, row, report)
    if columns and not report.chips:
        report.add_problem(ProblemKind.NO_DEVICES, "the table has no rows")
    _read_processes(below, report)


def _parts(text: str) -> tuple[str, str]:
    found = _PROCESSES.search(text)
    return (text[: found.start()], text[found.end() :]) if found else (text, "")


def _split(line: str) -> list[str]:
    return _UNIT.sub("", _SLASH.sub("/", line.replace("°", " "))).split()


def _cell(row: dict[str, str], *names: str) -> str:
    return next((row[name] for name in names if name in row), "")


def _monitored(row: dict[str, str]) -> ChipReport:
    chip = ChipReport(index=integer(_cell(row, "GPU")))
    for attribute, names in _MONITOR_NAMES.items():
        setattr(chip, attribute, positive(_cell(row, *names)))
    chip.utilization_ratio = share(_cell(row, "GFX%", "GFX_UTIL"))
    chip.ecc_corrected_total = counter(_cell(row, "SINGLE_ECC"))
    chip.ecc_uncorrected_total = counter(_cell(row, "DOUBLE_ECC"))
    chip.memory_used_bytes = memory_bytes(_cell(row, "VRAM_USED"))
    chip.memory_total_bytes = memory_bytes(_cell(row, "VRAM_TOTAL"))
    used, slash, total = _cell(row, "VRAM_USAGE").partition("/")
    if slash:
        unit = re.sub(r"[\d.]", "", total) or "GB"
        chip.memory_used_bytes = memory_bytes(used, unit)
        chip.memory_total_bytes = memory_bytes(total, unit)
    return chip


def _judge_monitored(chip: ChipReport, row: dict[str, str], report: ToolReport) -> None:
    """A first partition without sensors does not answer; the further ones never have any."""
    asked = [_cell(row, *_MONITOR_NAMES[name]) for name in ("power_watts", "temperature_celsius")]
    if integer(_cell(row, "XCP")) == 0 and all(text and is_placeholder(text) for text in asked):
        mark_silent(chip, report)


def _read_processes(text: str, report: ToolReport) -> None:
    """Read a process table; a name may hold blanks, so the cells are counted from both ends."""
    columns: list[str] = []
    for line in text.splitlines():
        bare = line.strip().strip("|").strip()
        if re.match(r"GPU\s+.*\bPID\b", bare):
            columns = _split(bare.replace("Process Name", "NAME").replace("CU %", "CU%"))
        elif _MONITOR.match(line):  # the next sample
            columns = []
        elif columns and re.match(r"\d{1,4}\s", bare):
            _add_process(columns, _split(bare), report)
    if _NO_PROCESS.search(text):
        for chip in report.chips:
            chip.processes = chip.processes or []


def _add_process(columns: list[str], cells: list[str], report: ToolReport) -> None:
    spare = len(cells) - len(columns)
    if spare < 0 or "PID" not in columns or "NAME" not in columns:
        report.add_problem(ProblemKind.TRUNCATED, f"a process row is cut: {' '.join(cells)}")
        return
    at = columns.index("NAME")
    cells = [*cells[:at], " ".join(cells[at : at + spare + 1]), *cells[at + spare + 1 :]]
    row = dict(zip(columns, cells, strict=True))
    index, pid = integer(row["GPU"]), process_id(row["PID"])
    chip = next((chip for chip in report.chips if chip.index == index), None)
    if chip is not None and pid is not None and pid > 0:
        memory = memory_bytes(_cell(row, "VRAM_MEM", "MEM_USAGE"), "B")
        process = ProcessReport(pid, identity(row["NAME"]), memory)
        chip.processes = [*(chip.processes or []), process]


# -- the default view


def is_default_view(text: str) -> bool:
    """Say whether the text is what `amd-smi` prints without arguments since 7.0."""
    return _DEFAULT.search(text) is not None


def read_default_view(text: str, report: ToolReport) -> None:
    """Add the GPUs of the default view: two lines each, named by the two lines of the header.

    Of several views in one text the last counts.
    """
    banners = list(_DEFAULT.finditer(text))
    top, below = _parts(text[banners[-1].start() :] if len(banners) > 1 else text)
    banner = _DEFAULT.search(top)
    if banner:
        report.tool_version = identity(banner["tool"])
        report.driver_version = identity(banner["driver"])
    is_guest = "guest" in top.lower()
    lines = [line.strip().strip("|").split("|") for line in top.splitlines() if "|" in line]
    rows = [
        (left.strip(), _split(right)) for left, right in (line for line in lines if len(line) == 2)
    ]
    headers = [right for left, right in rows if left.startswith(("BDF", "GPU"))]
    body = [row for row in rows if not row[0].startswith(("BDF", "GPU")) and not _is_rule(row[0])]
    for first, second in _pairs(body, report):
        _add_default(first, second, headers, report, is_guest=is_guest)
    if not top.rstrip().endswith("+") or (below and not below.rstrip().endswith("+")):
        report.add_problem(ProblemKind.TRUNCATED, "the table stops before its last rule")
    _read_processes(below, report)


Cells = tuple[str, list[str]]


def _pairs(body: list[Cells], report: ToolReport) -> Iterator[tuple[Cells, Cells]]:
    position = 0
    while position < len(body):
        first = body[position]
        if normalise_pci(first[0].split()[0] if first[0] else "") is None:
            position += 1
            continue
        if position + 1 == len(body):
            report.add_problem(ProblemKind.TRUNCATED, f"the second line of {first[0]} is missing")
            return
        yield first, body[position + 1]
        position += 2


def _is_rule(cell: str) -> bool:
    return not cell.strip("-=+ ")


def _add_default(
    first: Cells, second: Cells, headers: list[list[str]], report: ToolReport, *, is_guest: bool
) -> None:
    place, _, name = first[0].partition(" ")
    numbers = second[0].split()
    row: dict[str, str] = {}
    for names, cells in zip(headers, (first[1], second[1]), strict=False):
        row.update(zip(names, cells, strict=False))
    chip = ChipReport(
        index=integer(numbers[0]) if numbers else None,
        pci=normalise_pci(place),
        name=identity(name),
        temperature_celsius=positive(row.get("Temp", "")),
        utilization_ratio=share(row.get("GFX-Uti", "")),
        ecc_uncorrected_total=counter(row.get("UEC", "")),
    )
    power, _, cap = row.get("Power-Usage", "").partition("/")
    chip.power_watts, chip.power_limit_watts = positive(power), positive(cap)
    used, _, total = row.get("Mem-Usage", "").partition("/")
    unit = re.sub(r"[\d.]", "", total) or "MB"
    chip.memory_used_bytes = memory_bytes(used, unit)
    chip.memory_total_bytes = memory_bytes(total, unit)
    report.chips.append(chip)
    is_silent = chip.temperature_celsius is None and chip.power_watts is None
    if is_silent and not is_guest and not _PARTITIONED.search(second[0]):
        mark_silent(chip, report)


# -- records of hardware errors


def is_cper(text: str) -> bool:
    """Say whether the text lists CPER records."""
    return ("gpu_id" in text and "severity" in text) or "CPER file header entries" in text


def read_cper(text: str, report: ToolReport) -> None:
    """Add a chip for each GPU that has a record; the clock of a record may be bogus."""
    cards = Samples(report)
    index = 0
    for line in text.splitlines():
        if row := _CPER_ROW.match(line.strip()):
            index = int(row["index"])
            chip = cards.add(index, ChipReport(index=index))
            _record(chip, row["severity"])
            afids = [afid for afid in re.split(r"[\s,]+", row["afids"]) if afid.isdecimal()]
            if afids:
                chip.error_codes = list(dict.fromkeys([*(chip.error_codes or []), *afids]))
        elif prose := _CPER_PROSE.search(line):
            index = int(prose["index"]) if prose["index"] else index
            chip = cards.add(index, ChipReport(index=index))
            if prose["severity"]:
                _record(chip, prose["severity"])


def _record(chip: ChipReport, severity: str) -> None:
    word = severity.lower().replace("_", "-")
    if word == "fatal":
        worsen(chip, Health.CRITICAL)
    elif word.endswith("uncorrected"):
        worsen(chip, Health.WARNING)
