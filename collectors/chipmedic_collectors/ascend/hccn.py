"""`hccn_tool`: the network port of a chip. `-i` is the physical device id, not the NPU id."""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, Health, LinkReport, ToolReport
from chipmedic_collectors.ascend.arguments import Arguments
from chipmedic_collectors.values import integer

_STATUS = re.compile(r"^\s*link status\s*:\s*(?P<state>\w+)", re.IGNORECASE | re.MULTILINE)
_RECORD = re.compile(
    r"^\s*(?:\[dev(?:ice|id)? ?(?P<device>\d{1,9})\])?.*\d{4}\s+LINK (?P<state>UP|DOWN)\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_DEVICE = re.compile(r"^\s*\[dev(?:ice|id)? ?(?P<device>\d{1,9})\]", re.MULTILINE)
_DOWNS = re.compile(r"link down count\s*:\s*(?P<count>\d{1,18})\b", re.IGNORECASE)
_NET_HEALTH = re.compile(
    r"net health status\s*:\s*(?P<state>.+?)\s*$", re.IGNORECASE | re.MULTILINE
)
UNHEALTHY = frozenset(
    {"fault", "socket fail", "receive timeout", "unreachable", "time exceeded", "thread error"}
)
"""`Init` (no address to detect is set) and `Detect ip set` are no faults."""
_ERRORS = re.compile(
    r"^\s*(?:mac_[tr]x_bad_pkt|roce_[tr]x_err_pkt|roce_verification_err|roce_err_qp_status"
    r"|roce_qp_status_err|roce_new_pkt_rty)_num\s*:\s*(?P<count>\d{1,20})\s*$",
    re.MULTILINE,
)
"""Packets that were bad or had to be sent again. Frames with a bad check sum are among the bad
ones; out-of-order packets and unexpected acknowledgements only accompany a loss."""
_ANSWER = re.compile(r"^\s*\[?[A-Za-z][\w \[\]().-]*\s*:", re.MULTILINE)


def read_hccn(text: str, arguments: Arguments, report: ToolReport) -> None:
    """Add what one run of hccn_tool states to `report`."""
    chip = ChipReport(index=arguments.card)
    if chip.index is None and (device := _DEVICE.search(text)):
        chip.index = int(device["device"])
    if tables := _port_rows(text):
        chip.links = [LinkReport(port, is_up) for port, is_up in tables]
    elif status := _STATUS.search(text):
        chip.links = [LinkReport(arguments.port, status["state"].upper() == "UP")]
    elif newest := _RECORD.search(text):  # the newest record stands first
        chip.links = [LinkReport(arguments.port, newest["state"].upper() == "UP")]
    if bad_network_state(text) is not None:
        chip.health = Health.WARNING
    if chip.links or _ANSWER.search(text):
        report.chips.append(chip)


def link_downs(text: str) -> int | None:
    """Return how often `-link_stat` says the port went down; None where it does not say."""
    found = _DOWNS.search(text)
    return int(found["count"]) if found else None


def bad_network_state(text: str) -> str | None:
    """Return what `-net_health` says is wrong, lower case; None where nothing is, or is said."""
    found = _NET_HEALTH.search(text)
    return found["state"].lower() if found and found["state"].lower() in UNHEALTHY else None


def errors(text: str) -> int | None:
    """Return how many errors `-stat` counts; None where it counts none of them."""
    counts = [int(found["count"]) for found in _ERRORS.finditer(text)]
    return sum(counts) if counts else None


def _port_rows(text: str) -> list[tuple[int, bool]]:
    """Return (port, up) of every table with the columns `Port ID` and `Link Status` (950)."""
    header: list[str] = []
    ports = []
    was_rule = False
    for line in map(str.strip, text.splitlines()):
        row = [cell.strip() for cell in line.strip("|").split("|")]
        is_rule = line.startswith("+")
        if not line.startswith("|"):
            header = header if is_rule and not was_rule else []  # two rules: the next table
        elif "Link Status" in row:
            header = row
        elif header and len(row) == len(header):
            cell = dict(zip(header, row, strict=True))
            port = integer(cell.get("Port ID", ""))
            if port is not None:
                ports.append((port, cell["Link Status"].upper() == "UP"))
        was_rule = is_rule
    return ports
