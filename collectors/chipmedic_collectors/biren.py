"""Biren: the reader of `brsmi`, and the collector that polls it.

No public capture of a chip is known; the columns of its query are those of nvidia-smi.
"""

from __future__ import annotations

import re
from typing import ClassVar

from chipmedic import Metric
from chipmedic.tool_report import ToolReader, ToolReport
from chipmedic_collectors.pci_bus import ACCELERATORS, PciPattern
from chipmedic_collectors.reading import fields
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.csv_rows import read_query
from chipmedic_collectors.reading.language import Language, Layout
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector
from chipmedic_collectors.usual_metrics import LOAD

VENDOR = "biren"
_COLUMNS = "index,name,uuid,pci.bus_id,utilization.gpu,memory.used,memory.total,temperature.gpu"
_QUERY = ("brsmi", "gpu", f"--query-gpu={_COLUMNS}", "--format=csv,noheader,nounits")


def _is_query(text: str, command: CommandLine) -> bool:
    return command.has("--query-gpu") and bool(text.strip())


def _read_query(text: str, command: CommandLine, report: ToolReport) -> None:
    asked = (command.value("--query-gpu") or "").split(",")
    read_query(text, asked, fields.NVIDIA_LIKE, report)


READER = Language(
    vendor=VENDOR,
    tools=frozenset({"brsmi"}),
    mark=re.compile(r"\bBiren ?(?:tech|BR)?\s?\d{3}|BRSMI\s"),
    layouts=(Layout(_is_query, _read_query),),
).reader()


class Biren(ToolCollector):
    """Reads Biren GPUs."""

    vendor: ClassVar[str] = VENDOR
    reader: ClassVar[ToolReader] = READER
    plans: ClassVar[tuple[Plan, ...]] = (
        Plan(questions=(Question(argv=_QUERY, states=LOAD - {Metric.POWER}),)),
    )
    pci: ClassVar[PciPattern] = PciPattern(vendors=frozenset({"0x1ee0"}), classes=ACCELERATORS)
