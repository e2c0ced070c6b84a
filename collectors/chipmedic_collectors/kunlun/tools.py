"""The reader of Kunlunxin's `xpu_smi` and `xpu-smi`: table, `-q -x`, `-m`, and the old tables.

Intel ships a tool called `xpu-smi` too: the text decides, then the arguments.
"""

from __future__ import annotations

import re
import shlex

from chipmedic.tool_report import (
    ChipReport,
    Health,
    ProblemKind,
    ProcessReport,
    ToolReport,
)
from chipmedic_collectors.kunlun import text_forms
from chipmedic_collectors.kunlun.text_forms import note_count
from chipmedic_collectors.reading import box, cells
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.judging import note_silence, worsen
from chipmedic_collectors.reading.language import Language, Layout, sentence
from chipmedic_collectors.reading.samples import Samples
from chipmedic_collectors.reading.topology import matrix_of
from chipmedic_collectors.reading.tree import Node, read_xml
from chipmedic_collectors.reading.xpu_smi import INTEL_WORDS
from chipmedic_collectors.values import (
    identity,
    integer,
    memory_bytes,
    normalise_pci,
    number,
    process_id,
)

VENDOR = "kunlun"
_BANNER = re.compile(r"Driver Version:\s*(?P<driver>[^\s|]+)(?:.*XPU-RT Version:\s*(?P<rt>\S+))?")
_CONTAINER_DRIVER = "515.58"
"""What the tool prints inside a container, whatever driver the host has."""
_MILLIWATTS_FROM = 5000.0
"""K200 (XRE 4) prints milliwatts in `-m`, P800 watts; no card draws so many watts."""
_INDEX_FIELD = 2
_MONITOR_FIELDS = 22
"""Fields of `-m` up to the model; 22 to 32 are printed."""


def _is_xml(text: str, command: CommandLine) -> bool:
    return "<xpu_smi_log" in text or "<xpu " in text


def _read_xml(text: str, command: CommandLine, report: ToolReport) -> None:
    tree = read_xml(text)
    log = tree.child("xpu_smi_log") or tree
    report.driver_version = identity(log.value("driver_version"))
    devices = [node for node in log.named("xpu") if node.children]
    for node in devices:
        chip = _device(node)
        report.chips.append(chip)
        note_silence(report, chip)
    attached = integer(log.value("attached_xpus"))
    if not log.is_closed or any(not node.is_closed for node in devices):
        report.add_problem(ProblemKind.TRUNCATED, "the XML ends before </xpu_smi_log>")
    note_count(attached, command, report)


def _device(node: Node) -> ChipReport:
    chip = ChipReport(
        index=integer(node.value("minor_number")),
        name=identity(node.value("product_name")),
        uuid=identity(node.value("uuid")),
        serial=identity(node.value("serial")),
        pci=normalise_pci(node.id) or normalise_pci(_section(node, "pci").value("pci_bus_id")),
    )
    memory, power = _section(node, "fb_memory_usage"), _section(node, "power_readings")
    total = memory_bytes(memory.value("total"))
    if total:
        chip.memory_total_bytes = total
        chip.memory_used_bytes = memory_bytes(memory.value("used"))
    chip.utilization_ratio = cells.ratio(_section(node, "utilization").value("xpu_util"))
    temperature = _section(node, "temperature")
    chip.temperature_celsius = cells.measured(temperature.value("xpu_temp"))
    chip.memory_temperature_celsius = cells.measured(temperature.value("memory_temp"))
    chip.power_watts = cells.measured(power.value("power_draw"))
    chip.power_limit_watts = cells.measured(power.value("enforced_power_limit", "power_limit"))
    errors = _section(node, "ecc_errors")
    counts = errors.child("aggregate", "volatile") or Node("")
    chip.ecc_corrected_total = cells.counter(counts.value("dram_correctable"))
    chip.ecc_uncorrected_total = cells.counter(counts.value("dram_uncorrectable"))
    processes = node.child("processes")
    if processes is not None and processes.is_closed:
        chip.processes = _processes(processes)
    return chip


def _section(node: Node, key: str) -> Node:
    return node.child(key) or Node(key)


def _processes(section: Node) -> list[ProcessReport]:
    found = []
    for node in section.named("process_info"):
        if (pid := process_id(node.value("pid"))) is not None:
            name = identity(node.value("process_name"))
            found.append(ProcessReport(pid, name, memory_bytes(node.value("used_memory"))))
    return found


def _is_monitor(text: str, command: CommandLine) -> bool:
    return any(_is_monitored(line.split()) for line in text.splitlines())


def _is_monitored(row: list[str]) -> bool:
    return len(row) > _INDEX_FIELD and normalise_pci(row[0]) is not None and row[1].isdecimal()


def _read_monitor(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read `-m`: no header, so the positions are the format; the model ends what is known.

    Nothing marks the end; but a whole row ends its line, and has as many fields as the others.
    """
    samples = Samples(report)
    lines = [line for line in text.splitlines() if line.strip()]
    while lines and not _is_monitored(lines[0].split()):
        lines.pop(0)  # a warning
    rows = [_split_row(line) for line in lines]
    for row, line in zip(rows, lines, strict=True):
        is_device = bool(row) and normalise_pci(row[0]) is not None
        is_last = row is rows[-1] and not text.endswith("\n")
        is_cut = is_last and is_device and len(row) < max(len(rows[0]), _MONITOR_FIELDS)
        if is_cut:
            report.add_problem(ProblemKind.TRUNCATED, f"the last row is cut: {line.strip()}")
        elif not is_device or len(row) < _MONITOR_FIELDS:
            report.add_problem(
                ProblemKind.MALFORMED, f"{len(row)} of {_MONITOR_FIELDS} fields: {line.strip()}"
            )
            continue
        if len(row) > _INDEX_FIELD:
            chip = samples.add(integer(row[_INDEX_FIELD]), _monitored(row))
            if not is_cut:
                note_silence(report, chip)


def _split_row(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()[: _MONITOR_FIELDS - 1]  # cut inside the quoted model


def _monitored(row: list[str]) -> ChipReport:
    row = [*row, *[""] * (_MONITOR_FIELDS - len(row))]
    chip = ChipReport(
        index=integer(row[_INDEX_FIELD]), pci=normalise_pci(row[0]), serial=identity(row[3])
    )
    chip.name = identity(row[21])
    total = memory_bytes(row[18])
    if not total:  # a failed query prints zeroes
        return chip
    chip.memory_used_bytes, chip.memory_total_bytes = memory_bytes(row[17]), total
    chip.utilization_ratio = cells.ratio(row[19])
    chip.temperature_celsius = number(row[4]) or None
    power = cells.measured(row[8]) or None
    if power is not None and power > _MILLIWATTS_FROM:
        power /= 1000
    chip.power_watts = power
    return chip


def _is_box(text: str, command: CommandLine) -> bool:
    return box.is_box(text, "XPU-SMI", "XPU-Util", "L3-Usage")


_BOX_HEADER = [
    ["XPU  Name        Persistence-M", "Bus-Id        Disp.A", "Volatile Uncorr. ECC"],
    ["Fan  Temp  Perf  Pwr:Usage/Cap", "Memory-Usage", "XPU-Util  Compute M."],
    ["", "L3-Usage", "SR-IOV M."],
]


def _read_box(text: str, command: CommandLine, report: ToolReport) -> None:
    table = box.read_box(text, _BOX_HEADER)
    for line in table.banner:
        if banner := _BANNER.search(line):
            is_placeholder = banner["driver"] == _CONTAINER_DRIVER
            report.driver_version = None if is_placeholder else identity(banner["driver"])
    chips = []
    for record in table.records:
        chip = ChipReport()
        chip.index, chip.name = box.split_name(record)
        box.fill_common(chip, record, "XPU-Util")
        chip.ecc_uncorrected_total = cells.counter(record.cell("ECC"))
        chips.append(chip)
    box.finish(table, chips, report)


_LEGACY_STATES = {"N": Health.OK, "E": Health.CRITICAL}


def _is_legacy(text: str, command: CommandLine) -> bool:
    return re.search(r"^\s*\|\s*DevID\s*\|", text, re.MULTILINE) is not None


def _read_legacy(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read the tables of XRE 4: one line per device; a section's header names its columns.

    A section is a title, a rule, a header, a rule, rows and a rule.
    """
    header: list[str] = []
    by_index: dict[int | None, ChipReport] = {}
    has_processes, rules = False, 0
    for line in map(str.strip, text.splitlines()):
        if version := re.match(r"Driver Version:\s*(\S+)", line):
            report.driver_version = version[1]
        elif re.fullmatch(r"-{10,}", line):
            rules += 1
        elif line.startswith("|"):
            row = [cell.strip() for cell in line.strip("|").split("|")]
            if row[0] == "DevID":
                header, rules = row, 0
                has_processes = has_processes or "PID" in header
            else:
                _read_legacy_row(dict(zip(header, row, strict=False)), by_index, report)
    is_whole = rules > 1
    _finish_legacy(report, has_processes=has_processes, is_closed=is_whole)


def _read_legacy_row(
    values: dict[str, str], by_index: dict[int | None, ChipReport], report: ToolReport
) -> None:
    index = integer(values.get("DevID", ""))
    if "PCI Addr" in values:
        by_index[index] = chip = _legacy_device(index, values)
        report.chips.append(chip)
        note_silence(report, chip)
    elif "PID" in values and index in by_index:
        _add_legacy_process(by_index[index], values)


def _finish_legacy(report: ToolReport, *, has_processes: bool, is_closed: bool) -> None:
    if not is_closed:
        report.add_problem(ProblemKind.TRUNCATED, "the table stops before its closing line")
    elif not report.chips:
        report.add_problem(ProblemKind.NO_DEVICES, "the table of devices is empty")
    elif not has_processes:
        report.add_problem(ProblemKind.PARTIAL, "the table of processes is missing")
    else:
        for chip in report.chips:
            chip.processes = chip.processes or []


def _legacy_device(index: int | None, values: dict[str, str]) -> ChipReport:
    chip = ChipReport(
        index=index,
        pci=normalise_pci(values["PCI Addr"]),
        name=identity(values.get("Model", "")),
        serial=identity(values.get("SN", "")),
    )
    chip.utilization_ratio = cells.percent(values.get("UseRate", ""))
    chip.memory_used_bytes, chip.memory_total_bytes = cells.usage(values.get("Memory", ""))
    chip.power_watts = cells.measured(values.get("Power(W)", ""))
    chip.temperature_celsius = cells.measured(values.get("Temp", ""))
    if state := values.get("State", ""):
        worsen(chip, _LEGACY_STATES.get(state.upper(), Health.UNKNOWN))
    return chip


def _add_legacy_process(chip: ChipReport, values: dict[str, str]) -> None:
    pid = process_id(values["PID"])
    if pid is not None:
        name, memory = identity(values.get("Command", "")), values.get("Memory", "")
        process = ProcessReport(pid, name, memory_bytes(memory, "MB"))
        chip.processes = [*(chip.processes or []), process]


READER = Language(
    vendor=VENDOR,
    tools=frozenset({"xpu_smi", "xpu-smi"}),
    mark=re.compile(
        r"XPU-SMI\s+Driver Version|<xpu_smi_log|XPUSMI LOG|XPU-RT Version|KUNLUNXIN|/dev/xpu\d"
    ),
    layouts=(
        Layout(_is_xml, _read_xml),
        Layout(_is_box, _read_box),
        Layout(_is_legacy, _read_legacy),
        Layout(_is_monitor, _read_monitor),
        Layout(text_forms.is_log, text_forms.read_log),
        Layout(text_forms.is_list, text_forms.read_list),
        matrix_of("XPU"),
    ),
    sentences=(
        sentence(ProblemKind.NO_DEVICES, r"Initialize default context for dev -1 fail"),
        sentence(ProblemKind.CHIP_LOST, r"\(713\) Device abnormal"),
        sentence(ProblemKind.DRIVER_DOWN, r"/dev/xpu(?:ctrl|\d+).*(?:no such|fail)|xpu_driver"),
    ),
    is_ours=lambda command: command.tool == "xpu_smi" or not command.has(*INTEL_WORDS),
).reader()
