"""The collector of Intel Gaudi: one CSV query each scan, ports in turn, the driver's own word."""

from __future__ import annotations

import math
from typing import ClassVar

from chipmedic import Chip, Component, ComponentKind, Event, GapReason, Host, Metric, Severity
from chipmedic.errors import ToolBlocked
from chipmedic.tool_report import Health, ProblemKind, ToolReader, ToolReport, ToolRun
from chipmedic_collectors.gaudi import driver_files
from chipmedic_collectors.gaudi.tools import READER, port_kinds
from chipmedic_collectors.pci_bus import PciPattern
from chipmedic_collectors.report_scan import ScanDraft
from chipmedic_collectors.tool_asking import Asked
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector
from chipmedic_collectors.usual_metrics import ECC, LOAD

_CSV = ("-f", "csv,noheader")
_READINGS = (
    "index,uuid,bus_id,serial,name,driver_version,memory.total,memory.used,power.draw,"
    "temperature.aip,utilization.aip"
)
_ERRORS = "index,bus_id,ecc.errors.corrected.aggregate.total,ecc.errors.uncorrected.aggregate.total"
_PORTS_SECONDS = 60.0
_PORT_TIMEOUT_SECONDS = 5.0
_TABLE = Question(
    argv=("hl-smi",),
    every_seconds=30.0,
    states=frozenset({Metric.POWER_LIMIT}),
)
_SUMMARY = Question(
    argv=("hl-smi", "-Q", _READINGS, *_CSV),
    states=LOAD,
)
_ECC = Question(
    argv=("hl-smi", "-Q", _ERRORS, *_CSV),
    every_seconds=60.0,
    states=ECC,
)
_NOT_UNDERSTOOD = (ProblemKind.UNSUPPORTED, ProblemKind.MALFORMED)
_STATES = {
    "operational": Health.OK,
    "in reset": Health.WARNING,
    "in reset after device release": Health.WARNING,
    "in device creation": Health.WARNING,
    "needs reset": Health.CRITICAL,
    "disabled": Health.CRITICAL,
    "malfunction": Health.CRITICAL,
}


def _read(run: ToolRun) -> ToolReport:
    """Leave out the volatile count of the table: it is another counter than the aggregate one."""
    report = READER.read(run)
    if len(run.argv) == 1:
        for chip in report.chips:
            chip.ecc_uncorrected_total = None
    return report


class Gaudi(ToolCollector):
    """Reads Intel Gaudi accelerators."""

    vendor: ClassVar[str] = "gaudi"
    reader: ClassVar[ToolReader] = ToolReader(READER.vendor, READER.recognises, _read)
    plans: ClassVar[tuple[Plan, ...]] = (
        Plan(questions=(_SUMMARY, _ECC, _TABLE), one_chip=(*_SUMMARY.argv, "-i", "{pci}")),
    )
    pci: ClassVar[PciPattern] = PciPattern(vendors=frozenset({"0x1da3"}), classes=("0x1200",))

    def __init__(self, host: Host, *, limit_seconds: float = math.inf) -> None:
        super().__init__(host, limit_seconds=limit_seconds)
        self._knows_query = True
        self._ports_at: dict[str, float] = {}
        self._internal: dict[str, frozenset[int]] = {}
        self._resets: dict[str, int] = {}
        self._names: dict[str, str] = {}

    def kernel_names(self, chip: Chip) -> tuple[str, ...]:
        """See `ToolCollector.kernel_names`: as sysfs said last time."""
        return tuple(name for pci, name in self._names.items() if pci == chip.pci)

    def read_more(self, question: Question, asked: Asked, draft: ScanDraft) -> None:
        """See `ToolCollector.read_more`: after the summary, the driver's word and some ports."""
        if question == _SUMMARY:
            self._read_driver(draft)
            self._ask_ports(draft)

    def _ask_summary(self, summary: Question, at: float) -> Asked:
        """One name that this version does not know fails the whole query: then the table serves."""
        if self._knows_query:
            asked = super()._ask_summary(summary, at)
            if asked.report.chips or not asked.has(*_NOT_UNDERSTOOD):
                return asked
            table = super()._ask_summary(_TABLE, at)
            self._knows_query = not table.report.chips
            return table if table.report.chips else asked
        return super()._ask_summary(_TABLE, at)

    def _report_silence(self, reason: GapReason, words: str, draft: ScanDraft) -> None:
        super()._report_silence(reason, words, draft)
        self._read_driver(draft)

    def _ask_singly(self, plan: Plan, draft: ScanDraft, stop_at: float) -> bool:
        has_answer = super()._ask_singly(plan, draft, stop_at)
        if has_answer:
            self._read_driver(draft)
        return has_answer

    # -- the driver

    def _read_driver(self, draft: ScanDraft) -> None:
        """Read the states in sysfs: during a reset the tool omits the chip, or waits for it."""
        devices = driver_files.read_devices(self._host)
        self._names |= {pci: device.name for pci, device in devices.items()}
        for chip in self.chips:
            device = devices.get(chip.pci or "")
            if device is None:
                continue
            draft.health(chip.component, _STATES.get(device.status, Health.UNKNOWN))
            before = self._resets.get(chip.uid, device.resets)
            self._resets[chip.uid] = device.resets
            if device.resets > before:
                draft.event(
                    Event(
                        component=chip.component,
                        code="gaudi:reset",
                        message=f"hard resets {before} -> {device.resets}, now {device.status}",
                        at=draft.at,
                        id=f"{chip.uid}/reset/{device.resets}",
                        kind="chip.reset",
                        severity=Severity.WARNING,
                    )
                )

    # -- the ports

    def _ask_ports(self, draft: ScanDraft) -> None:
        """Ask the chip that has waited longest; each is asked about once a minute.

        One chip a scan: eight take two minutes, which a port that stays down can wait.
        """
        due = [
            chip
            for chip in self.chips
            if chip.pci is not None
            and draft.shows(chip)
            and draft.steady_at - self._ports_at.get(chip.uid, float("-inf")) >= _PORTS_SECONDS
        ]
        if not due:
            return
        chip = min(due, key=lambda one: self._ports_at.get(one.uid, 0.0))
        self._ports_at[chip.uid] = draft.steady_at
        try:
            self._read_ports(chip, draft)
        except ToolBlocked as e:
            port = Component(ComponentKind.LINK, f"{chip.uid}/0")
            draft.gap(port, Metric.LINK_UP, GapReason.TIMED_OUT, str(e))

    def _read_ports(self, chip: Chip, draft: ScanDraft) -> None:
        """Read the internal ports; an external one that is down is only not cabled."""
        if chip.uid not in self._internal:
            kinds = self._ask_of(chip, "ports")
            known = port_kinds(kinds.text)
            if not known:
                return
            self._internal[chip.uid] = frozenset(
                port for port, is_internal in known.items() if is_internal
            )
        asked = self._ask_of(chip, "link")
        links = [link for row in asked.report.chips for link in row.links or []]
        for link in links:
            if link.index in self._internal[chip.uid]:
                port = Component(ComponentKind.LINK, f"{chip.uid}/{link.index}")
                draft.read(port, Metric.LINK_UP, link.is_up)
        if not links:
            port = Component(ComponentKind.LINK, f"{chip.uid}/0")
            draft.gap(port, Metric.LINK_UP, GapReason.FAILED, asked.words or "no port is listed")

    def _ask_of(self, chip: Chip, topic: str) -> Asked:
        argv = ("hl-smi", "-n", topic, "-i", chip.pci or "")
        return self._tool.ask(argv, timeout_seconds=_PORT_TIMEOUT_SECONDS)
