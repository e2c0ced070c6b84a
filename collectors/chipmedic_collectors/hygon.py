"""Hygon DCU and HCU, through `hy-smi` or the `rocm-smi` that the DTK ships (a fork of AMD's)."""

from __future__ import annotations

import contextlib
from typing import ClassVar

from chipmedic import Metric
from chipmedic.tool_report import Problem, ProblemKind, ToolReader
from chipmedic_collectors.pci_bus import ACCELERATORS, PciPattern
from chipmedic_collectors.reading.language import Language, sentence
from chipmedic_collectors.rocm_smi.layouts import HYGON, LAYOUTS, SENTENCES
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector
from chipmedic_collectors.usual_metrics import ECC

VENDOR = "hygon"

LANGUAGE = Language(
    vendor=VENDOR,
    tools=frozenset({"hy-smi", "hy_smi"}),
    mark=HYGON,
    layouts=LAYOUTS,
    sentences=(
        *SENTENCES,
        # "Open mkfd failed" alone is the noise of a container; the table follows it.
        sentence(ProblemKind.NO_DEVICES, r"No device available|no device found"),
    ),
)
READER: ToolReader = LANGUAGE.reader()

_TABLE = frozenset({Metric.TEMPERATURE, Metric.POWER, Metric.POWER_LIMIT, Metric.UTILIZATION})
_MEMORY = frozenset({Metric.MEMORY_USED, Metric.MEMORY_TOTAL})
_MODULES = ("hycu", "hydcu")
"""The kernel modules of driver 6.3 and 6.2."""


def _questions(tool: str) -> tuple[Question, ...]:
    """Return what to ask: the table, and one option a call, since two of them break the JSON.

    `--showxgmierr` is never asked: the read clears the errors for everybody.
    """
    return (
        Question(argv=(tool,), states=_TABLE),
        Question(argv=(tool, "--showbus", "--json"), every_seconds=600.0, names_chips=True),
        Question(argv=(tool, "--showuniqueid", "--json"), every_seconds=600.0, names_chips=True),
        Question(
            argv=(tool, "--showproductname", "--json"), every_seconds=3600.0, names_chips=True
        ),
        Question(argv=(tool, "--showmeminfo", "vram", "--json"), states=_MEMORY),
        Question(argv=(tool, "--showpids"), every_seconds=30.0),
        Question(argv=(tool, "--showrasinfo", "all"), every_seconds=300.0, states=ECC),
        Question(argv=(tool, "--showpagesinfo"), every_seconds=600.0),
    )


class Hygon(ToolCollector):
    """Reads Hygon DCU and HCU chips."""

    vendor: ClassVar[str] = VENDOR
    reader: ClassVar[ToolReader] = READER
    plans: ClassVar[tuple[Plan, ...]] = (
        Plan(questions=_questions("hy-smi"), one_chip=("hy-smi", "-d", "{index}")),
        Plan(
            questions=_questions("rocm-smi"),
            is_own_name=False,
            one_chip=("rocm-smi", "-d", "{index}"),
        ),
    )
    pci: ClassVar[PciPattern] = PciPattern(
        vendors=frozenset({"0x1d94"}),
        classes=ACCELERATORS,  # Z100: display; K100, BW: co-processor
    )
    folders: ClassVar[tuple[str, ...]] = (
        "/opt/hyhal/bin",
        "/usr/local/hyhal/bin",
        "/opt/dtk/bin",
        "/opt/dtk/.hyhal/bin",
    )
    trusts_serial: ClassVar[bool] = False

    def explain(self, problem: Problem) -> Problem:
        """See `ToolCollector.explain`: the driver is alive when its module says `live`."""
        if problem.kind not in (ProblemKind.DRIVER_DOWN, ProblemKind.NO_DEVICES):
            return problem
        states = {}
        for module in _MODULES:
            with contextlib.suppress(OSError):
                states[module] = self._host.read(f"/sys/module/{module}/initstate").strip()
        words = ", ".join(f"module {name} is {state}" for name, state in states.items())
        words = words or "neither module hycu nor hydcu is loaded"
        return Problem(problem.kind, f"{problem.message} ({words})")
