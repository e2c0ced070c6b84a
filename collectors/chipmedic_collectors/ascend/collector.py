"""The collector of Ascend chips: one summary each scan, slow questions spread over the minute."""

from __future__ import annotations

import json
from typing import ClassVar, Self

from chipmedic import Collector, GapReason, Host, Scan
from chipmedic.errors import ToolBlocked
from chipmedic.tool_report import ChipReport, Health, Problem, ProblemKind, ToolReport
from chipmedic_collectors import pci_bus, tool_absence
from chipmedic_collectors.ascend import bus
from chipmedic_collectors.ascend.asking import Tools
from chipmedic_collectors.ascend.one_by_one import ask_one_by_one
from chipmedic_collectors.ascend.questions import Questions
from chipmedic_collectors.ascend.roster import Roster
from chipmedic_collectors.ascend.rows import note_row
from chipmedic_collectors.report_scan import ScanDraft
from chipmedic_collectors.standing_codes import StandingCodes
from chipmedic_collectors.steady_clock import SteadyClock
from chipmedic_collectors.tool_trouble import Trouble, reason_of, worst

SUMMARY_SECONDS = 10.0
"""Limit of one `npu-smi info`; 0.3 to 1 s are usual."""
ASKING_SECONDS = 15.0
"""A scan starts no further question after this time, so that it ends within its deadline."""
_BUS_SECONDS = 30.0
_REST_SECONDS = (60.0, 120.0, 300.0, 600.0)
"""How long a summary that hung is left alone, by how often it hung in a row."""
_OF_ONE_CHIP = {ProblemKind.PARTIAL, ProblemKind.CHIP_LOST, ProblemKind.TRUNCATED}
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Ascend(Collector):
    """Reads Huawei Ascend chips through `npu-smi`, and their ports through `hccn_tool`."""

    vendor: ClassVar[str] = "ascend"
    period_seconds: ClassVar[float] = 15.0
    deadline_seconds: ClassVar[float] = 30.0

    def __init__(self, host: Host, *, summary_seconds: float = SUMMARY_SECONDS) -> None:
        self._host = host
        self._summary_seconds = summary_seconds
        self._tools = Tools(host)
        self._roster = Roster(self._tools)
        self._codes = StandingCodes(self.vendor)
        self._questions = Questions(host, self._tools, self._roster, self._codes)
        self._trouble = Trouble(self.vendor)
        self._devices: tuple[pci_bus.PciDevice, ...] = ()
        self._devices_at: float | None = None
        self._hangs = 0
        self._rest_until = 0.0
        self._clock = SteadyClock()

    @classmethod
    def discover(cls, host: Host) -> Self | None:
        """See `Collector.discover`."""
        return cls(host) if Tools(host).is_installed() or bus.find_devices(host) else None

    def scan(self) -> Scan:
        """See `Collector.scan`.

        Raises:
            ToolBlocked: the summary hung, or a tool is stuck in the kernel. The next scan asks the
                chips one by one, so that a dead one does not hide the others.
        """
        at = self._host.now()
        draft = ScanDraft(self.vendor, at, self._clock.seconds(at))
        stop_at = at + ASKING_SECONDS
        self._look_at_bus(draft.steady_at)
        report = self._summary(draft.steady_at)
        if report.chips:
            self._trouble.over()
            self._read_summary(report, draft, stop_at)
        elif self._is_summary_alone_dead(report):
            self._trouble.over()
            words = "; ".join(problem.message for problem in report.problems)
            why = f"npu-smi info: {words}; the chips were asked one by one"
            draft.gap(draft.collector, None, GapReason.FAILED, why)
            if ask_one_by_one(self._host, self._tools, self._roster, draft, stop_at):
                self._rest_until = 0.0  # all of them answer again: so may the summary
        else:
            self._read_trouble(worst(report.problems), draft)
            return draft.scan()
        self._questions.ask(draft, stop_at)
        return draft.scan()

    def cursor(self) -> str | None:
        """Return the identities that were found and the codes that were told."""
        return json.dumps(
            {
                "uids": self._roster.identities.kept(),
                "boot": self._boot_id(),
                "codes": self._codes.kept(),
            },
            separators=(",", ":"),
        )

    def resume(self, cursor: str) -> None:
        """See `Collector.resume`; a cursor that cannot be read is a first start."""
        try:
            kept = json.loads(cursor)
            uids = {str(slot): str(uid) for slot, uid in kept["uids"].items()}
            codes = {
                str(uid): {str(code): float(since) for code, since in since_by_code.items()}
                for uid, since_by_code in kept["codes"].items()
            }
            boot = str(kept["boot"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        self._roster.identities.restore(uids)
        if boot == self._boot_id():
            self._codes.restore(codes, self._host.now())

    def _boot_id(self) -> str:
        try:
            return self._host.read(_BOOT_ID).strip()
        except OSError:
            return ""

    def _look_at_bus(self, at: float) -> None:
        if self._devices_at is None or at - self._devices_at >= _BUS_SECONDS:
            self._devices, self._devices_at = bus.find_devices(self._host), at

    def _summary(self, at: float) -> ToolReport:
        """Return what `npu-smi info` states; while it rests from hanging, that it hung."""
        if at < self._rest_until:
            return _hung(f"hung {self._hangs} times, not asked for now")
        try:
            asked = self._tools.npu_smi("info", timeout_seconds=self._summary_seconds)
        except ToolBlocked as e:
            rest = _REST_SECONDS[min(self._hangs, len(_REST_SECONDS) - 1)]
            self._hangs += 1
            self._rest_until = at + rest
            if self._hangs == 1 or e.abandoned_pid is not None:
                raise
            return _hung(str(e))
        self._hangs = 0
        return asked.report

    def _is_summary_alone_dead(self, report: ToolReport) -> bool:
        """One dead chip can take the whole table away; the driver and the other chips live."""
        return {problem.kind for problem in report.problems} <= _OF_ONE_CHIP

    def _read_summary(self, report: ToolReport, draft: ScanDraft, stop_at: float) -> None:
        cut = [p for p in report.problems if p.kind is ProblemKind.TRUNCATED]
        is_whole = not cut and not any(p.kind is ProblemKind.MALFORMED for p in report.problems)
        if cut:
            draft.gap(draft.collector, None, GapReason.MALFORMED, cut[0].message)
        seen = set()
        for row in report.chips:
            uid = self._read_row(row, draft, stop_at)
            if uid is None:
                is_whole = False
            else:
                seen.add(uid)
        draft.is_inventory = is_whole
        tool_absence.report_missing(self._roster, seen, self._devices, draft, is_whole=is_whole)
        if is_whole and not pci_bus.is_container(self._host):
            tool_absence.report_not_shown(self._roster, self._devices, draft)

    def _read_row(self, row: ChipReport, draft: ScanDraft, stop_at: float) -> str | None:
        """Note one chip; return its uid, or None while it cannot be named."""
        chip = self._roster.known(row)
        if chip is None and self._host.now() < stop_at:
            chip = self._roster.identify(row)
        if chip is None:
            name = f"NPU {row.index} chip {row.die} ({row.pci})"
            draft.gap(draft.collector, None, GapReason.FAILED, f"{name} is not identified yet")
            return None
        note_row(draft, chip, row)
        if row.health in (Health.WARNING, Health.CRITICAL):
            self._questions.hurry(chip)
        return chip.uid

    def _read_trouble(self, problem: Problem, draft: ScanDraft) -> None:
        """No chip is shown: each known one is unknown, and if a chip is here, that is a fault."""
        worked_before = bool(self._roster.identities.kept())
        draft.gap(draft.collector, None, reason_of(problem.kind), problem.message)
        is_empty = problem.kind is ProblemKind.NO_DEVICES and not self._devices
        for chip in self._roster:
            if is_empty:
                draft.lost(chip.component, f"{problem.message} (and the PCI bus shows no NPU)")
            else:
                draft.gap(chip.component, None, reason_of(problem.kind), problem.message)
        draft.is_inventory = is_empty
        if self._devices or worked_before:
            event = self._trouble.event(problem, draft.at, worked_before=worked_before)
            if event is not None:
                draft.event(event)


def _hung(words: str) -> ToolReport:
    report = ToolReport(vendor=Ascend.vendor)
    report.add_problem(ProblemKind.PARTIAL, words)
    return report
