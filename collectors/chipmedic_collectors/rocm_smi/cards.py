"""`rocm-smi --json` and `--csv`: one flat object or row for each card.

Both come after warnings on the same stream. The JSON of Hygon's tool lacks commas and repeats empty
keys where power is asked, so pairs are found one by one and no document is demanded.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator

from chipmedic.tool_report import ChipReport, ProblemKind, ProcessReport, ToolReport
from chipmedic_collectors.rocm_smi.keys import fill_card, judge_card
from chipmedic_collectors.values import identity, integer

Pairs = list[tuple[str, str]]

_JSON = re.compile(r'^\s*\{\s*"(?:card\d+|system)"\s*:', re.MULTILINE)
_CSV = re.compile(r"^\s*device,", re.MULTILINE)
_TOKEN = re.compile(
    r'"(?P<device>card\d{1,4}|system)"\s*:\s*\{'
    r'|"(?P<key>(?:[^"\\]|\\.)*)"\s*:\s*(?:"(?P<text>(?:[^"\\]|\\.)*)"|(?P<bare>[-+.\w]+)(?=\s*[,}]))'
    r"|(?P<open>\{)|(?P<close>\})"
)
_PROCESS = re.compile(r"PID(\d{1,9})")


def is_json(text: str) -> bool:
    """Say whether the text has a JSON object of cards."""
    return _JSON.search(text) is not None


def is_csv(text: str) -> bool:
    """Say whether the text has a CSV table of devices."""
    return _CSV.search(text) is not None


def read_json(text: str, report: ToolReport) -> None:
    """Add the cards of a JSON answer to `report`."""
    start = _JSON.search(text)
    devices: dict[str, Pairs] = {}
    device, depth = "", 0
    for token in _TOKEN.finditer(text, start.start() if start else 0):
        if token["device"] is not None:
            device, depth = token["device"], depth + 1
            devices.setdefault(device, [])
        elif token["key"] and device:
            devices[device].append((token["key"], token["text"] or token["bare"] or ""))
        elif token["open"]:
            depth += 1
        elif token["close"]:
            depth -= 1
    _enter(devices, report)
    if depth > 0:
        report.add_problem(ProblemKind.TRUNCATED, "the JSON stops before its last bracket")


def read_csv(text: str, report: ToolReport) -> None:
    """Add the cards of a CSV answer to `report`."""
    devices: dict[str, Pairs] = {}
    columns: list[str] = []
    lines = [line for line in text.splitlines() if line.strip()]
    for position, line in enumerate(lines):
        cells = _cells(line)
        if cells[0] == "device":
            columns = cells
        elif columns and re.fullmatch(r"card\d{1,4}|system", cells[0]):
            if len(cells) != len(columns):
                is_cut = position == len(lines) - 1 and len(cells) < len(columns)
                kind = ProblemKind.TRUNCATED if is_cut else ProblemKind.MALFORMED
                report.add_problem(kind, f"{len(cells)} cells for {len(columns)} columns: {line}")
                cells = cells[:-1] if is_cut else []  # its last number may have lost digits
            devices.setdefault(cells[0] if cells else "", []).extend(
                list(zip(columns, cells, strict=False))[1:]
            )
    devices.pop("", None)
    _enter(devices, report)
    if columns and not devices:
        report.add_problem(ProblemKind.NO_DEVICES, "the CSV has a header and no device")


def _cells(line: str) -> list[str]:
    try:
        rows = list(csv.reader([line]))
    except csv.Error:
        rows = [line.split(",")]
    return [cell.strip() for cell in rows[0]] if rows and rows[0] else [""]


def _enter(devices: dict[str, Pairs], report: ToolReport) -> None:
    for device, pairs in devices.items():
        if device == "system":
            continue
        chip = ChipReport(index=integer(device.removeprefix("card")))
        fill_card(chip, pairs)
        judge_card(chip, pairs, report)
        report.chips.append(chip)
    system = dict(devices.get("system", []))
    for key, text in system.items():
        if key.lower() == "driver version":
            report.driver_version = identity(text)
    if len(report.chips) == 1 and any(_PROCESS.fullmatch(key) for key in system):
        report.chips[0].processes = list(_processes(system))


def _processes(system: dict[str, str]) -> Iterator[ProcessReport]:
    """Read `PID123: name, number of GPUs, VRAM in bytes, SDMA, CU`.

    It says of how many cards, not of which: so it is read where there is one. A process of 0 cards
    only holds the driver's node open.
    """
    for key, text in system.items():
        found = _PROCESS.fullmatch(key)
        cells = [cell.strip() for cell in text.rsplit(",", 4)]
        if found and len(cells) == 5 and integer(cells[1]):
            yield ProcessReport(int(found[1]), identity(cells[0]), integer(cells[2]))
