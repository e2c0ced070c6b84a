"""`topo -m` of the tools that follow nvidia-smi: how the chips of a host reach each other."""

from __future__ import annotations

import re

from chipmedic.tool_report import ChipReport, ProblemKind, ToolReport
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.language import Layout


def matrix_of(word: str) -> Layout:
    """Return the layout of a matrix whose rows and columns are named `GPU0`, `XPU0`, ..."""
    header = re.compile(
        rf"^\s*{word}0(?:\s+{word}\d+)*(?:\s{{2,}}(?:CPU|NUMA|Node|NIC|mlx).*)?\s*$", re.MULTILINE
    )
    row = re.compile(rf"^\s*{word}(\d{{1,4}})\s+(?!{word}\d)[A-Z]", re.MULTILINE)

    def fits(text: str, command: CommandLine) -> bool:
        return header.search(text) is not None

    def read(text: str, command: CommandLine, report: ToolReport) -> None:
        """It names the chips; how they are connected is no state of theirs."""
        for number in dict.fromkeys(row.findall(text)):
            report.chips.append(ChipReport(index=int(number)))
        if not report.chips:
            report.add_problem(ProblemKind.TRUNCATED, "the matrix has no rows")

    return Layout(fits, read)
