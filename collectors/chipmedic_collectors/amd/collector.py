"""The collector of AMD GPUs: one summary each scan, slow questions spread over minutes."""

from __future__ import annotations

import math
from typing import ClassVar

from chipmedic import Chip, Host, Metric
from chipmedic.tool_report import ChipReport, Health, Problem, ProblemKind, ToolReader
from chipmedic_collectors import pci_bus
from chipmedic_collectors.amd.documents import Tree, read_json, text_of, walk
from chipmedic_collectors.amd.facts import fill_chip
from chipmedic_collectors.amd.tools import READER, VENDOR
from chipmedic_collectors.pci_bus import PciPattern
from chipmedic_collectors.reading.cells import counter
from chipmedic_collectors.report_scan import ScanDraft, has_values
from chipmedic_collectors.tool_asking import Asked
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector
from chipmedic_collectors.usual_metrics import ECC

_SENSORS = frozenset({Metric.TEMPERATURE, Metric.POWER, Metric.UTILIZATION})
_MEMORY = frozenset({Metric.MEMORY_USED, Metric.MEMORY_TOTAL})
_THROTTLE = ("amd-smi", "metric", "--throttle", "--json")
_ECC = ("amd-smi", "metric", "--ecc", "--json")
_PAGES = ("amd-smi", "bad-pages", "--json")
_LIMITS = ("amd-smi", "static", "-l", "-r", "--json")
_THERMAL = frozenset(f"{part}_thermal_violation_status" for part in ("socket", "vr", "hbm"))
_BRAKE = "prochot_violation_status"

_AMD_SMI = Plan(
    questions=(
        Question(
            argv=("amd-smi", "metric", "-m", "-u", "-p", "-t", "--json"), states=_SENSORS | _MEMORY
        ),
        Question(argv=("amd-smi", "list", "--json"), every_seconds=600.0, names_chips=True),
        Question(
            argv=("amd-smi", "static", "-a", "-d", "-B", "--json"),
            every_seconds=3600.0,
            names_chips=True,
        ),
        Question(argv=("amd-smi", "process", "--json"), every_seconds=30.0),
        Question(argv=("amd-smi", "xgmi", "--link-status"), every_seconds=60.0),
        Question(argv=_THROTTLE, every_seconds=60.0),
        # Asking for the counters can itself make the driver log errors of disabled blocks.
        Question(argv=_ECC, every_seconds=300.0, states=ECC),
        Question(argv=_PAGES, every_seconds=600.0, states=frozenset({Metric.RETIRED_PAGES})),
        Question(argv=_LIMITS, every_seconds=600.0, states=frozenset({Metric.POWER_LIMIT})),
    ),
    one_chip=("amd-smi", "metric", "-g", "{index}", "-m", "-u", "-p", "-t", "--json"),
)
_ROCM_SMI = Plan(
    questions=(
        Question(
            argv=(
                *("rocm-smi", "--showtemp", "--showpower", "--showuse"),
                *("--showmeminfo", "vram", "--json"),
            ),
            states=_SENSORS | _MEMORY,
        ),
        Question(
            argv=("rocm-smi", "--showbus", "--showuniqueid", "--showserial", "--json"),
            every_seconds=600.0,
            names_chips=True,
        ),
        Question(
            argv=("rocm-smi", "--showproductname", "--json"), every_seconds=3600.0, names_chips=True
        ),
        Question(argv=("rocm-smi", "--showpidgpus"), every_seconds=30.0),
        Question(argv=("rocm-smi", "--showrasinfo"), every_seconds=300.0, states=ECC),
        Question(argv=("rocm-smi", "--showretiredpages"), every_seconds=600.0),
        Question(
            argv=("rocm-smi", "--showmaxpower", "--json"),
            every_seconds=600.0,
            states=frozenset({Metric.POWER_LIMIT}),
        ),
    ),
    is_own_name=False,
    one_chip=(
        *("rocm-smi", "-d", "{index}", "--showtemp", "--showpower", "--showuse"),
        *("--showmeminfo", "vram", "--json"),
    ),
)


class _BadPages:
    """Holds the pages out of use against the limit; the tool tells the two in separate answers.

    The driver refuses a GPU at its next start once the pages reach the limit (128 on MI300), and
    AMD takes it back; up to amd-smi 6.2 no `BAD_PAGE_THRESHOLD_EXCEEDED` says so.
    """

    def __init__(self) -> None:
        self._pages: dict[str, int] = {}
        self._limits: dict[str, int] = {}

    def read_pages(self, tree: Tree, chip: Chip, draft: ScanDraft) -> None:
        row = ChipReport()
        fill_chip(row, tree)
        if row.retired_pages is not None:
            self._pages[chip.uid] = row.retired_pages
            self._judge(chip, draft)

    def read_limit(self, tree: Tree, chip: Chip, draft: ScanDraft) -> None:
        limit = _count(tree, "bad_page_threshold")
        if limit:  # 0 turns the limit off
            self._limits[chip.uid] = limit
            self._judge(chip, draft)

    def _judge(self, chip: Chip, draft: ScanDraft) -> None:
        pages, limit = self._pages.get(chip.uid), self._limits.get(chip.uid)
        if pages is not None and limit is not None and pages >= limit:
            draft.read(chip.component, Metric.REMAP_FAILED, True)


class Amd(ToolCollector):
    """Reads AMD GPUs through `amd-smi`, or `rocm-smi` where that is all there is.

    `--xgmi-err` and `--showxgmierr` are never asked: the read clears them for everybody. Nor is
    `ras --cper`, which writes files; its records reach us through the kernel log.
    """

    vendor: ClassVar[str] = VENDOR
    reader: ClassVar[ToolReader] = READER
    plans: ClassVar[tuple[Plan, ...]] = (_AMD_SMI, _ROCM_SMI)
    pci: ClassVar[PciPattern] = PciPattern(
        vendors=frozenset({"0x1002"}),
        classes=("0x0300", "0x0380", "0x1200"),
        foreign_drivers=frozenset({"radeon"}),
    )
    folders: ClassVar[tuple[str, ...]] = ("/opt/rocm/bin",)

    def __init__(self, host: Host, *, limit_seconds: float = math.inf) -> None:
        """See `ToolCollector`."""
        super().__init__(host, limit_seconds=limit_seconds)
        self._pages = _BadPages()

    def prepare_row(self, row: ChipReport, chip: Chip) -> None:
        """See `ToolCollector.prepare_row`: a dead GPU still prints 0 bytes of memory in use."""
        sensors = (row.temperature_celsius, row.power_watts, row.utilization_ratio)
        if any(value is not None for value in sensors) or row.lost:
            return
        if self._is_further_partition(chip):
            row.health = None
        else:
            row.health = Health.UNKNOWN
            row.memory_used_bytes = row.memory_total_bytes = None

    def is_silent_by_design(self, row: ChipReport, chip: Chip) -> bool:
        """See `ToolCollector.is_silent_by_design`: only the first partition prints sensors."""
        return not has_values(row) and self._is_further_partition(chip)

    def explain(self, problem: Problem) -> Problem:
        """See `ToolCollector.explain`: the tools look for a module, amdgpu may be built in."""
        bound = [device for device in self.devices if device.driver == "amdgpu"]
        if problem.kind is ProblemKind.DRIVER_DOWN and bound:
            words = f"amdgpu holds {len(bound)} chips on the PCI bus all the same"
            return Problem(problem.kind, f"{problem.message} ({words})")
        return problem

    def read_more(self, question: Question, asked: Asked, draft: ScanDraft) -> None:
        """See `ToolCollector.read_more`: throttling (MI300 and newer), deferred errors, pages."""
        read = {
            _THROTTLE: _read_throttle,
            _ECC: _read_deferred,
            _PAGES: self._pages.read_pages,
            _LIMITS: self._pages.read_limit,
        }.get(tuple(question.argv))
        if read is None:
            return
        for tree in read_json(asked.text, asked.report):
            chip = self.chip_at(tree.get("gpu"))
            if chip is not None and draft.shows(chip):
                read(tree, chip, draft)

    def _is_further_partition(self, chip: Chip) -> bool:
        if chip.pci is None:
            return False
        place = pci_bus.without_function(chip.pci)
        return any(
            other.pci is not None
            and pci_bus.without_function(other.pci) == place
            and other.index < chip.index
            for other in self.chips
        )


def _count(tree: Tree, name: str) -> int | None:
    found = (counter(text_of(value)) for path, value in walk(tree) if path and path[-1] == name)
    return next((value for value in found if value is not None), None)


def _read_deferred(tree: Tree, chip: Chip, draft: ScanDraft) -> None:
    if (count := _count(tree, "total_deferred_count")) is not None:
        draft.read(chip.component, Metric.ECC_DEFERRED, count)


def _read_throttle(tree: Tree, chip: Chip, draft: ScanDraft) -> None:
    """Note the states that are told; the set power cap (PPT) is no fault."""
    states = {
        path[-1]: text_of(value) == "ACTIVE"
        for path, value in walk(tree)
        if path and text_of(value) in ("ACTIVE", "NOT ACTIVE")
    }
    hot = [is_active for name, is_active in states.items() if name in _THERMAL]
    if hot:
        draft.read(chip.component, Metric.THROTTLE_THERMAL, any(hot))
    if _BRAKE in states:
        draft.read(chip.component, Metric.THROTTLE_POWER, states[_BRAKE])
