"""The tables of amd-smi of GPUs and what lies between them: `xgmi`, `topology`, `partition`."""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, LinkReport, ProblemKind, ToolReport
from chipmedic_collectors.reading.samples import Samples
from chipmedic_collectors.values import normalise_pci

_TITLE = re.compile(
    r"^\s*(?:[A-Z][A-Z -]*TABLE|(?:XGMI|GPU) LINK (?:PORT )?STATUS|CURRENT_PARTITION)\s*:",
    re.MULTILINE,
)
_NUMBERED = re.compile(r"^\s*GPU(?P<index>\d{1,4})\s+(?P<pci>\S+:\S+)\s*(?P<cells>.*?)\s*$")
_ADDRESSED = re.compile(r"^\s*(?P<pci>[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:\S+)\s+\S")
_PARTITION = re.compile(r"^\s*(?P<index>\d{1,4})\s+NPS\d")
_STATES = frozenset({"U", "D", "X", "N/A", "SELF"})


def is_matrix(text: str) -> bool:
    """Say whether the text is one of these tables."""
    return _TITLE.search(text) is not None


def read_matrix(text: str, report: ToolReport) -> None:
    """Add each GPU that the tables name, once, with its links where their states are printed.

    U is up, D down; X is disabled on purpose and N/A no port. Newer versions print a table of the
    ports and one by peer; the ports count.
    """
    cards = Samples(report)
    has_ports = "LINK PORT STATUS" in text
    title = ""
    for line in text.splitlines():
        if found := _TITLE.match(line):
            title = found[0]
        elif row := _NUMBERED.match(line):
            chip = ChipReport(index=int(row["index"]), pci=normalise_pci(row["pci"]))
            if chip.pci is not None:
                if ("PORT" in title) == has_ports:
                    chip.links = _links(row["cells"])
                cards.add(chip.index, chip)
        elif row := _PARTITION.match(line):
            cards.add(int(row["index"]), ChipReport(index=int(row["index"])))
        elif (row := _ADDRESSED.match(line)) and (pci := normalise_pci(row["pci"])):
            cards.add(pci, ChipReport(pci=pci))
    if not report.chips:
        report.add_problem(ProblemKind.TRUNCATED, "the table has no rows")


def _links(cells: str) -> list[LinkReport] | None:
    states = cells.split()
    if not states or not set(states) <= _STATES:
        return None
    return [LinkReport(i, is_up=state == "U") for i, state in enumerate(states) if state in "UD"]
