"""The collector of Kunlunxin XPUs: `xpu_smi -m` each scan, ECC each minute, /proc/xpu always."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import ClassVar

from chipmedic import Action, Chip, Event, GapReason, Host, Severity
from chipmedic.tool_report import Health, ToolReader, ToolReport, ToolRun
from chipmedic_collectors.kunlun import driver_files
from chipmedic_collectors.kunlun.tools import READER
from chipmedic_collectors.pci_bus import ACCELERATORS, PciPattern
from chipmedic_collectors.report_scan import ScanDraft
from chipmedic_collectors.tool_asking import Asked
from chipmedic_collectors.tool_collector import Plan, Question, ToolCollector
from chipmedic_collectors.usual_metrics import ECC, LOAD

_STATES = {"RUNNING": Health.OK, "NORMAL": Health.OK, "ERROR": Health.CRITICAL}


def _plan(tool: str, *, is_own_name: bool) -> Plan:
    return Plan(
        questions=(
            Question(argv=(tool, "-m"), states=LOAD),
            # XRE 5 only; the table of XRE 4 says of each device's state what /proc/xpu says.
            Question(argv=(tool, "-q", "-x"), every_seconds=60.0, timeout_seconds=15.0, states=ECC),
        ),
        one_chip=(tool, "-m", "-d", "/dev/xpu{index}"),
        is_own_name=is_own_name,
    )


def _read(run: ToolRun) -> ToolReport:
    """Tell the two devices of a K200 board apart: they share address and serial number."""
    report = READER.read(run)
    boards = Counter(chip.pci for chip in report.chips)
    seen: Counter[str | None] = Counter()
    for chip in report.chips:
        if chip.pci is not None and boards[chip.pci] > 1:
            chip.die = seen[chip.pci]
            seen[chip.pci] += 1
    return report


class Kunlun(ToolCollector):
    """Reads Kunlunxin XPUs."""

    vendor: ClassVar[str] = "kunlun"
    reader: ClassVar[ToolReader] = ToolReader(READER.vendor, READER.recognises, _read)
    plans: ClassVar[tuple[Plan, ...]] = (
        _plan("xpu_smi", is_own_name=True),
        _plan("xpu-smi", is_own_name=False),
    )
    pci: ClassVar[PciPattern] = PciPattern(
        vendors=frozenset({"0x1d22"}),
        classes=ACCELERATORS,
        devices=frozenset({"3684", "3688"}),
    )
    folders: ClassVar[tuple[str, ...]] = ("/usr/local/bin", "/usr/local/xpu/bin", "/opt/xre/bin")
    libraries: ClassVar[tuple[str, ...]] = (
        "/usr/local/xpu/so",
        "/usr/local/xpu/lib64",
        "/opt/xre/so",
    )

    def __init__(self, host: Host, *, limit_seconds: float = math.inf) -> None:
        super().__init__(host, limit_seconds=limit_seconds)
        self._resets: dict[str, int] = {}

    def kernel_names(self, chip: Chip) -> tuple[str, ...]:
        """See `ToolCollector.kernel_names`: the number is that of the device file."""
        return (f"xpu{chip.index}",)

    def read_more(self, question: Question, asked: Asked, draft: ScanDraft) -> None:
        """See `ToolCollector.read_more`: beside the summary, the driver's own word."""
        if question.argv[1:] == ("-m",):
            self._read_driver(draft)

    def _report_silence(self, reason: GapReason, words: str, draft: ScanDraft) -> None:
        super()._report_silence(reason, words, draft)
        self._read_driver(draft)

    def _ask_singly(self, plan: Plan, draft: ScanDraft, stop_at: float) -> bool:
        has_answer = super()._ask_singly(plan, draft, stop_at)
        if has_answer:
            self._read_driver(draft)
        return has_answer

    def _read_driver(self, draft: ScanDraft) -> None:
        """Read /proc/xpu, which answers when the tool does not."""
        devices = driver_files.read_devices(self._host)
        for chip in self.chips:
            if (device := devices.get(chip.index)) is not None:
                self._judge_device(chip, device, draft)

    def _judge_device(self, chip: Chip, device: driver_files.Device, draft: ScanDraft) -> None:
        draft.health(chip.component, _STATES.get(device.state, Health.UNKNOWN))
        is_bad = _STATES.get(device.state) is Health.CRITICAL
        told = {f"state:{device.state}": device.words} if is_bad else {}
        for event in self._codes.events(chip.component, told, draft.at):
            draft.event(
                replace(
                    event,
                    kind="chip.reset_required",
                    severity=Severity.CRITICAL,
                    action=Action.RESET_CHIP,
                )
            )
        before = self._resets.get(chip.uid)
        if device.resets is None:
            return
        self._resets[chip.uid] = device.resets
        if before is not None and device.resets > before:
            words = f"reset_count {before} -> {device.resets}"
            draft.event(
                Event(
                    component=chip.component,
                    code="kunlun:reset",
                    message=words,
                    at=draft.at,
                    id=f"{chip.uid}/reset/{device.resets}",
                    kind="chip.reset",
                    severity=Severity.WARNING,
                )
            )
