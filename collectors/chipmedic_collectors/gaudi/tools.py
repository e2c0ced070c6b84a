"""The reader of Intel Gaudi's `hl-smi`: table, CSV queries, `-L` and `-q`, ports, version."""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, Health, LinkReport, ProblemKind, ToolReport
from chipmedic_collectors.reading import box, cells, fields
from chipmedic_collectors.reading.blocks import Block, read_blocks
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.csv_rows import is_csv, read_query
from chipmedic_collectors.reading.fields import FieldMap
from chipmedic_collectors.reading.judging import worsen
from chipmedic_collectors.reading.language import Language, Layout, sentence
from chipmedic_collectors.values import identity, integer, normalise_pci

VENDOR = "gaudi"
_QUERY = ("-Q", "--query-aip")
_COLUMNS: FieldMap = {
    **fields.NVIDIA_LIKE,
    "temperature.aip": fields.TEMPERATURE,
    "temperature.hbm": fields.MEMORY_TEMPERATURE,
    "utilization.aip": fields.UTILIZATION,
    "power.limit": fields.POWER_LIMIT,
}
_KEYS: FieldMap = {
    "product name": fields.NAME,
    "serial number": fields.SERIAL,
    "aip uuid": fields.UUID,
    "uuid": fields.UUID,
    "bus id": fields.PCI,
    "power draw": fields.POWER,
    "power limit": fields.POWER_LIMIT,
    "temperature/aip current temp": fields.TEMPERATURE,
    "aip current temp": fields.TEMPERATURE,
    "temperature/on-die": fields.TEMPERATURE,
    "utilization/aip": fields.UTILIZATION,
    "memory usage/used": fields.MEMORY_USED,
    "memory usage/total": fields.MEMORY_TOTAL,
    "used": fields.MEMORY_USED,
}
_HEADING = re.compile(
    r"\s*(?:\[(?P<index>\d{1,4})\]\s*)?AIP\b\s*(?:\(\w+\))?\s*(?P<pci>[0-9A-Fa-f:]+\.[0-7])\s*$"
)
_SENSOR = re.compile(r"\[\s*\d{1,3}\]\s*(?P<part>.+)")
_REPLACED = ("single", "double")
_ANSWERS = {"yes": True, "no": False}
_PORT = re.compile(r"\s*port\s+(?P<port>\d{1,4})\s*:\s*(?P<state>\w+)\s*$", re.IGNORECASE)
_LINK_STATES = {"up": True, "down": False}
_PORT_KINDS = ("internal", "external")
_BANNER = re.compile(
    r"(?<!Nic )(?P<whose>HL-SMI|Driver) Version:\s*(?P<version>[^\s|]+)", re.IGNORECASE
)


def _is_box(text: str, command: CommandLine) -> bool:
    return box.is_box(text, "HL-SMI", "AIP-Util", "AIP")


_BOX_HEADER = [
    ["AIP  Name        Persistence-M", "Bus-Id        Disp.A", "Volatile Uncorr. ECC"],
    ["Fan  Temp  Perf  Pwr:Usage/Cap", "Memory-Usage", "AIP-Util  Compute M."],
]


def _read_box(text: str, command: CommandLine, report: ToolReport) -> None:
    table = box.read_box(text, _BOX_HEADER)
    for line in table.banner:
        if banner := _BANNER.search(line):
            version = identity(banner["version"])
            if banner["whose"].lower() == "driver":
                report.driver_version = version
            else:
                report.tool_version = version
    chips = []
    for record in table.records:
        chip = ChipReport()
        chip.index, chip.name = box.split_name(record)
        box.fill_common(chip, record, "AIP-Util")
        # The column was renamed from "Volatile Uncorr. ECC" to "Volatile Uncor-Events" at 1.22.
        chip.ecc_uncorrected_total = cells.counter(record.cell("Volatile"))
        chips.append(chip)
    box.finish(table, chips, report)


def _is_query(text: str, command: CommandLine) -> bool:
    return (command.has(*_QUERY) and bool(text.strip())) or is_csv(text, _COLUMNS)


def _read_query(text: str, command: CommandLine, report: ToolReport) -> None:
    asked = (command.value(*_QUERY) or "").split(",")
    read_query(text, asked, _COLUMNS, report)


def _is_ports(text: str, command: CommandLine) -> bool:
    return any(_PORT.match(line) for line in text.splitlines())


def _read_ports(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read `-n link`; `-n ports` prints internal or external instead and states no link."""
    chosen = command.value("-i", "--id") or ""
    chip = ChipReport(pci=normalise_pci(chosen), index=integer(chosen))
    links = []
    for port in filter(None, map(_PORT.match, text.splitlines())):
        is_up = _LINK_STATES.get(port["state"].lower())
        if is_up is not None:
            links.append(LinkReport(int(port["port"]), is_up))
        elif port["state"].lower() not in _PORT_KINDS:
            report.add_problem(ProblemKind.PARTIAL, f"state of port not known: {port[0].strip()}")
    chip.links = links or None
    report.chips.append(chip)


def port_kinds(text: str) -> dict[int, bool]:
    """Return which ports `-n ports` names, and whether each is internal."""
    rows = filter(None, map(_PORT.match, text.splitlines()))
    kinds = {int(row["port"]): row["state"].lower() for row in rows}
    return {port: kind == "internal" for port, kind in kinds.items() if kind in _PORT_KINDS}


def _is_log(text: str, command: CommandLine) -> bool:
    return "HL-SMI LOG" in text or any(_HEADING.match(line) for line in text.splitlines())


def _read_log(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read `-L` and `-q`."""
    attached = None
    for block in read_blocks(text, _HEADING):
        if block.heading is None:
            report.driver_version = identity(block.value("driver version"))
            version = block.value("hl-smi version").split()
            report.tool_version = version[0] if version else None
            attached = integer(block.value("attached aips"))
            continue
        report.chips.append(_device(block, block.heading))
    if attached and attached > len(report.chips) and not command.has("-i", "--id"):
        report.add_problem(
            ProblemKind.PARTIAL, f"{attached} AIPs attached, {len(report.chips)} listed"
        )
    elif attached == 0:
        report.add_problem(ProblemKind.NO_DEVICES, "0 AIPs attached")


def _device(block: Block, heading: re.Match[str]) -> ChipReport:
    index, pci = integer(heading["index"] or ""), normalise_pci(heading["pci"])
    chip = ChipReport(index=index, pci=pci)
    fields.fill(chip, block.pairs, _KEYS)
    if chip.temperature_celsius is None:
        chip.temperature_celsius = _hottest(block, "on chip")
    if chip.memory_temperature_celsius is None:
        chip.memory_temperature_celsius = _hottest(block, "hbm")
    rows = [cells.counter(block.value(f"replaced rows/{kind} bit ecc")) for kind in _REPLACED]
    chip.retired_pages = sum(filter(None, rows)) if any(n is not None for n in rows) else None
    chip.remap_pending = _ANSWERS.get(block.value("replaced rows/pending").lower())
    if status := block.value("module status"):
        worsen(chip, Health.OK if status.lower() == "operational" else Health.CRITICAL)
    return chip


def _hottest(block: Block, part: str) -> float | None:
    """Return the highest of the sensors of a part: `[ 1] On Chip 0 : 29 C`."""
    rows = ((_SENSOR.match(key), value) for key, value in block.pairs)
    found = [cells.measured(value) for row, value in rows if row and row["part"].startswith(part)]
    return max((value for value in found if value is not None), default=None)


READER = Language(
    vendor=VENDOR,
    tools=frozenset({"hl-smi"}),
    mark=re.compile(r"HL-SMI (?:Version|LOG)|hl-smi/hlml version|\| AIP  Name|[Hh]abanalabs"),
    version=re.compile(r"hl-smi/hlml version\s+(\S+)"),
    layouts=(
        Layout(_is_box, _read_box),
        Layout(_is_ports, _read_ports),
        Layout(_is_log, _read_log),
        Layout(_is_query, _read_query),
    ),
    sentences=(
        sentence(ProblemKind.NO_DEVICES, r"no habana|no aip"),
        sentence(ProblemKind.DRIVER_DOWN, r"habanalabs.*not loaded|hlml.*(?:fail|error)"),
    ),
).reader()
