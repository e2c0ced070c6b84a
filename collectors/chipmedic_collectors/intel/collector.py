"""The collector of Intel Data Center GPUs: readings by `dump`, states by `health`."""

from __future__ import annotations

from typing import ClassVar

from chipmedic import Metric
from chipmedic.tool_report import ToolReader
from chipmedic_collectors.intel.tools import READER
from chipmedic_collectors.pci_bus import PciPattern
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector
from chipmedic_collectors.usual_metrics import ECC, LOAD

_READINGS = "0,1,3,4,18"
"""Utilisation, power, temperatures, memory used: the numbers below 21 are the same in 1.x and 2.0,
and columns are read by name in any case."""
_ERRORS = "29,30"
"""Memory errors of 1.x; other columns in 2.0, which are then not read as errors."""
_PAGES_SECONDS = 600.0
"""Pages out of use; 1.x does not know the question, and is asked no more for a while."""
_IDENTITY = "1,2,4,5,11,16"
"""Id, name, UUID, serial, address, memory size."""


def _plan(tool: str, *, is_own_name: bool) -> Plan:
    dump = (tool, "dump", "-d", "-1", "-n", "1", "-m")
    questions = (
        Question(
            argv=(*dump, _READINGS),
            timeout_seconds=15.0,  # it samples for a second or more
            states=LOAD - {Metric.MEMORY_TOTAL},
        ),
        Question(argv=(tool, "discovery", "-j"), every_seconds=600.0, names_chips=True),
        Question(
            argv=(tool, "health", "-l", "-j"),
            every_seconds=60.0,
            states=frozenset({Metric.HEALTH}),
        ),
        Question(
            argv=(*dump, _ERRORS),
            every_seconds=60.0,
            timeout_seconds=15.0,
            states=ECC,
        ),
        Question(
            # As JSON: the first 2.x print the placeholders of their text instead of the values.
            argv=(tool, "stats", "--list-offline-pages", "-j"),
            every_seconds=_PAGES_SECONDS,
            states=frozenset({Metric.RETIRED_PAGES}),
        ),
        Question(argv=(tool, "ps", "-j"), every_seconds=30.0),
        Question(
            argv=(tool, "discovery", "--dump", _IDENTITY),
            every_seconds=60.0,
            states=frozenset({Metric.MEMORY_TOTAL}),
        ),
    )
    one_chip = (tool, "dump", "-d", "{index}", "-n", "1", "-m", _READINGS)
    return Plan(questions=questions, one_chip=one_chip, is_own_name=is_own_name)


class IntelGpu(ToolCollector):
    """Reads Intel Data Center GPU Max and Flex, and Arc Pro B.

    `xpumcli` speaks with the daemon of XPU Manager and goes first: `xpu-smi` must not run beside
    it.
    """

    vendor: ClassVar[str] = "intel"
    reader: ClassVar[ToolReader] = READER
    plans: ClassVar[tuple[Plan, ...]] = (
        _plan("xpumcli", is_own_name=True),
        _plan("xpu-smi", is_own_name=False),
    )
    pci: ClassVar[PciPattern] = PciPattern(
        vendors=frozenset({"0x8086"}),
        classes=("0x0380", "0x0300", "0x0302", "0x1200"),
        # Max, Flex, Arc Pro B. Not every display of Intel: a processor's own is no accelerator.
        devices=frozenset(
            {
                *("0bd0", "0bd4", "0bd5", "0bd6", "0bd7", "0bd8", "0bd9", "0bda", "0bdb"),
                *("0b69", "0b6e", "56c0", "56c1", "56c2"),
                *("e20b", "e20c", "e210", "e211", "e212", "e215", "e216", "e222", "e223"),
            }
        ),
    )
