"""The collector of a vendor whose tool is polled: questions on schedules, answers made a scan.

A vendor that prints tables, CSV or JSON needs a `ToolReader`, the look of its chips on the PCI bus
and the commands to ask, cheapest first: see `docs/adding-a-vendor.md`. What a broken tool, a lost
chip, a cut answer or a hang mean is decided here, once for all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Self

from chipmedic import Chip, Collector, GapReason, Host, Metric, Scan
from chipmedic.errors import ToolBlocked
from chipmedic.tool_report import ChipReport, Problem, ProblemKind, ToolReader
from chipmedic_collectors import pci_bus, tool_absence
from chipmedic_collectors.pci_bus import PciPattern
from chipmedic_collectors.report_scan import FIELDS, ScanDraft
from chipmedic_collectors.standing_codes import StandingCodes
from chipmedic_collectors.steady_clock import SteadyClock
from chipmedic_collectors.tool_asking import Asked, Tool
from chipmedic_collectors.tool_plan import Plan, Question
from chipmedic_collectors.tool_roster import Roster
from chipmedic_collectors.tool_trouble import Trouble, reason_of, worst

__all__ = ["Plan", "Question", "ToolCollector"]

ASKING_SECONDS = 15.0
"""A scan starts no further question after this time, so that it ends within its deadline."""
_BUS_SECONDS = 30.0
_NAMING_TRIES = 3
"""How often a naming question may fail before chips get names from their place."""
_HUNG_SECONDS = 300.0
_UNSUPPORTED_SECONDS = 3600.0
"""An option that this version does not know is tried again so late: the tool may be upgraded."""
_REST_SECONDS = (0.0, 60.0, 120.0, 300.0, 600.0)
"""How long a summary that hung is left alone, by how often it hung in a row."""
_HANGS_ALLOWED = 2
"""A summary that hung so often has its chips asked one by one."""
_ONE_CHIP_SECONDS = 3.0
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_NOT_WHOLE = frozenset({ProblemKind.TRUNCATED, ProblemKind.MALFORMED})


class ToolCollector(Collector):
    """Polls a vendor's command-line tool; a vendor sets the class variables."""

    reader: ClassVar[ToolReader]
    plans: ClassVar[tuple[Plan, ...]]
    """The first whose program is installed is used."""
    pci: ClassVar[PciPattern]
    folders: ClassVar[tuple[str, ...]] = ()
    """Where the vendor's installer puts its tools, beside PATH."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Where it puts their libraries, where the loader does not look by itself."""
    trusts_serial: ClassVar[bool] = True
    """False: cards of one node may print one serial number."""
    period_seconds: ClassVar[float] = 15.0
    deadline_seconds: ClassVar[float] = 40.0

    def __init__(self, host: Host, *, limit_seconds: float = math.inf) -> None:
        """Poll the tool on a host; no call takes longer than `limit_seconds`."""
        self._host = host
        self._tool = Tool(
            host,
            self.reader,
            self.folders,
            libraries=self.libraries,
            limit_seconds=limit_seconds,
        )
        self._roster = Roster(self.vendor, trusts_serial=self.trusts_serial)
        self._codes = StandingCodes(self.vendor)
        self._trouble = Trouble(self.vendor)
        self._devices: tuple[pci_bus.PciDevice, ...] = ()
        self._looked_at: float | None = None
        self._clock = SteadyClock()
        self._due_at: dict[Question, float] = {}
        self._naming_tries = 0
        self._is_named = False
        self._foreign = ""
        """Why the tool is another maker's, which bears the same name; empty: it is ours."""
        self._ever_read: set[tuple[str, Metric]] = set()
        self._hangs = 0
        self._rest_until = 0.0

    @classmethod
    def discover(cls, host: Host) -> Self | None:
        """See `Collector.discover`.

        A tool alone (a login node has it too) counts only where no PCI bus can be seen.
        """
        if pci_bus.find_devices(host, cls.pci):
            return cls(host)
        tool = Tool(host, cls.reader, cls.folders)
        has_tool = any(plan.is_own_name and tool.find(plan.program) for plan in cls.plans)
        return cls(host) if has_tool and not pci_bus.is_visible(host) else None

    def scan(self) -> Scan:
        """See `Collector.scan`; a tool that hangs is a gap, and the PCI bus is still looked at."""
        at = self._host.now()
        draft = ScanDraft(self.vendor, at, self._clock.seconds(at))
        stop_at = at + ASKING_SECONDS
        self._look_at_bus(draft.steady_at)
        plan = self._plan()
        try:
            asked = self._ask_summary(plan.questions[0], draft.steady_at)
        except ToolBlocked as e:
            is_stuck = e.abandoned_pid is not None
            if (
                self._hangs < _HANGS_ALLOWED
                or is_stuck
                or not self._ask_singly(plan, draft, stop_at)
            ):
                self._report_silence(GapReason.TIMED_OUT, str(e), draft)
            return draft.scan()
        if not asked.report.chips:
            self._report_trouble(self.explain(worst(asked.report.problems)), draft)
            return draft.scan()
        self._read_summary(plan, asked, draft, stop_at)
        self._ask_the_rest(plan, draft, stop_at)
        return draft.scan()

    def read_more(self, question: Question, asked: Asked, draft: ScanDraft) -> None:
        """Take in what an answer says that no `ChipReport` holds; a vendor may need it."""

    def prepare_row(self, row: ChipReport, chip: Chip) -> None:
        """Correct a row of the summary by what only this vendor's collector knows of a chip."""

    def is_silent_by_design(self, row: ChipReport, chip: Chip) -> bool:
        """Say whether a row without values is normal (a partition that shares the sensors)."""
        del row, chip
        return False

    def kernel_names(self, chip: Chip) -> tuple[str, ...]:
        """Return what the driver calls a chip in kernel lines that name no PCI address."""
        del chip
        return ()

    def explain(self, problem: Problem) -> Problem:
        """Return a trouble of the whole tool with what the host's own files say about it."""
        return problem

    @property
    def devices(self) -> tuple[pci_bus.PciDevice, ...]:
        """The chips that the PCI bus showed when it was last looked at."""
        return self._devices

    @property
    def chips(self) -> tuple[Chip, ...]:
        """Every chip that was seen."""
        return tuple(self._roster)

    def chip_at(self, index: object, die: int = 0) -> Chip | None:
        """Return the chip that the tool numbers so now."""
        return self._roster.at((index, die)) if isinstance(index, int) else None

    # -- what is kept across restarts

    def cursor(self) -> str | None:
        """Return the names that were given and the codes that were told."""
        kept = {
            "uids": self._roster.kept(),
            "boot": self._boot_id(),
            "codes": self._codes.kept(),
        }
        return json.dumps(kept, separators=(",", ":"))

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
        self._roster.restore(uids)
        if boot == self._boot_id():
            self._codes.restore(codes, self._host.now())

    def _boot_id(self) -> str:
        try:
            return self._host.read(_BOOT_ID).strip()
        except OSError:
            return ""

    # -- the summary

    def _plan(self) -> Plan:
        here = (plan for plan in self.plans if self._tool.find(plan.program))
        return next(here, self.plans[0])

    def _look_at_bus(self, at: float) -> None:
        if self._looked_at is None or at - self._looked_at >= _BUS_SECONDS:
            self._devices = pci_bus.find_devices(self._host, self.pci)
            self._looked_at = at

    def _ask_summary(self, summary: Question, at: float) -> Asked:
        if at < self._rest_until:
            raise ToolBlocked(f"{summary.argv[0]}: hung {self._hangs} times; not asked for now")
        try:
            asked = self._tool.ask(summary.argv, timeout_seconds=summary.timeout_seconds)
        except ToolBlocked:
            self._rest_until = at + _REST_SECONDS[min(self._hangs, len(_REST_SECONDS) - 1)]
            self._hangs += 1
            raise
        self._hangs = 0
        return asked

    def _ask_singly(self, plan: Plan, draft: ScanDraft, stop_at: float) -> bool:
        """Ask each known chip by itself; return whether one answered.

        The tool as a whole is then told to be failing, not blocked: it is the silent chips that
        block it.
        """
        if not plan.one_chip:
            return False
        answered = []
        for chip in self.chips:
            argv = tuple(word.format(index=chip.index, pci=chip.pci) for word in plan.one_chip)
            words = "no time was left to ask this chip"
            if self._host.now() < stop_at:
                try:
                    asked = self._tool.ask(argv, timeout_seconds=_ONE_CHIP_SECONDS)
                except ToolBlocked as e:
                    draft.gap(chip.component, None, GapReason.TIMED_OUT, str(e))
                    continue
                row = next((r for r in asked.report.chips if r.index in (chip.index, None)), None)
                if row is not None:
                    self._read_row(plan.questions[0], row, chip, draft)
                    answered.append(chip)
                    continue
                words = asked.words or "the answer does not name this chip"
            draft.gap(chip.component, None, GapReason.FAILED, words)
        if answered:
            words = f"hung {self._hangs} times; the chips are asked one by one"
            draft.gap(draft.collector, None, GapReason.FAILED, f"{plan.program}: {words}")
        return bool(answered)

    def _read_summary(self, plan: Plan, asked: Asked, draft: ScanDraft, stop_at: float) -> None:
        rows = asked.report.chips
        self._foreign = ""
        cut = [p for p in asked.report.problems if p.kind in _NOT_WHOLE]
        if cut:
            draft.gap(draft.collector, None, GapReason.MALFORMED, cut[0].message)
        self._tell_mismatch(asked, draft)
        is_named = not self._foreign_words(rows) and self._name(plan, rows, draft, stop_at)
        if self._foreign:
            self._report_trouble(Problem(ProblemKind.TOOL_MISSING, self._foreign), draft)
            return
        self._trouble.over()
        if not is_named:
            self._report_silence(GapReason.FAILED, "chips are not identified yet", draft)
            return
        chips = self._roster.enter(rows)
        for row, chip in zip(rows, chips, strict=True):
            self._read_row(plan.questions[0], row, chip, draft)
        self.read_more(plan.questions[0], asked, draft)
        draft.is_inventory = not cut
        seen = {chip.uid for chip in chips}
        tool_absence.report_missing(self._roster, seen, self._devices, draft, is_whole=not cut)
        if not cut and not pci_bus.is_container(self._host):
            tool_absence.report_not_shown(self._roster, self._devices, draft)

    def _tell_mismatch(self, asked: Asked, draft: ScanDraft) -> None:
        """A tool that shows chips and complains of its driver: told, and nothing more."""
        down = [p for p in asked.report.problems if p.kind is ProblemKind.DRIVER_DOWN]
        if down and (event := self._trouble.event(down[0], draft.at, worked_before=False)):
            draft.event(event)

    def _read_row(self, question: Question, row: ChipReport, chip: Chip, draft: ScanDraft) -> None:
        self.prepare_row(row, chip)
        chip = replace(chip, kernel_names=self.kernel_names(chip))
        if self.is_silent_by_design(row, chip):
            draft.show(chip)
            draft.read(chip.component, Metric.PRESENT, 1)
            return
        if draft.chip(chip, row):
            self._judge(question, row, chip, draft)

    def _judge(self, question: Question, row: ChipReport, chip: Chip, draft: ScanDraft) -> None:
        """Note codes, and which of the values that were asked for are not there.

        A value that this chip has never printed is one that it does not offer.
        """
        if row.error_codes is not None:
            words = {code: f"{self.vendor} error code {code}" for code in row.error_codes}
            for event in self._codes.events(chip.component, words, draft.at):
                draft.event(event)
        for metric in FIELDS:
            if draft.has(chip.component, metric):
                self._ever_read.add((chip.uid, metric))
        for metric in question.states:
            if (chip.uid, metric) in self._ever_read:
                draft.gap(chip.component, metric, GapReason.FAILED, "printed before, not now")
            else:
                draft.gap(
                    chip.component, metric, GapReason.UNSUPPORTED, "not printed for this chip"
                )

    # -- who the chips are

    def _name(
        self, plan: Plan, rows: Sequence[ChipReport], draft: ScanDraft, stop_at: float
    ) -> bool:
        """Learn who the chips are; return False while a naming question still owes its answer."""
        has_moved = self._roster.moved(rows)
        self._roster.learn(rows)
        naming = [question for question in plan.questions if question.names_chips]
        due = [q for q in naming if has_moved or self._due_at.get(q, 0.0) <= draft.steady_at]
        is_whole = True
        for question in due:
            is_whole &= self._ask_names(question, draft, stop_at)
        if is_whole:
            self._naming_tries, self._is_named = 0, True
            return True
        self._naming_tries += 1
        return self._naming_tries >= _NAMING_TRIES or (self._is_named and not has_moved)

    def _ask_names(self, question: Question, draft: ScanDraft, stop_at: float) -> bool:
        if self._host.now() >= stop_at:
            return False
        try:
            asked = self._tool.ask(question.argv, timeout_seconds=question.timeout_seconds)
        except ToolBlocked as e:
            draft.gap(draft.collector, None, GapReason.TIMED_OUT, str(e))
            if self._is_named:
                self._due_at[question] = draft.steady_at + _HUNG_SECONDS
            return False
        if self._foreign_words(asked.report.chips):
            return False
        self._roster.learn(asked.report.chips)
        if not asked.report.chips and not asked.has(ProblemKind.UNSUPPORTED):
            return False
        self._due_at[question] = draft.steady_at + question.every_seconds
        return True

    def _foreign_words(self, rows: Sequence[ChipReport]) -> str:
        """Say so where the bus shows another maker's chip at a place that the tool names."""
        for pci in filter(None, (row.pci for row in rows)):
            maker = pci_bus.vendor_of(self._host, pci)
            if maker is not None and maker not in self.pci.vendors:
                self._foreign = (
                    f"the tool of this name is another maker's: it shows {pci}, "
                    f"a chip of PCI vendor {maker}"
                )
        return self._foreign

    # -- what is missing

    def _report_trouble(self, problem: Problem, draft: ScanDraft) -> None:
        """No chip is shown: each known one is unknown, and if a chip is here, that is a fault."""
        worked_before = bool(self._roster.kept())
        is_empty = (
            problem.kind is ProblemKind.NO_DEVICES
            and not self._devices
            and pci_bus.is_visible(self._host)
        )
        self._report_silence(reason_of(problem.kind), problem.message, draft)
        if is_empty:
            for chip in self._roster:
                draft.lost(chip.component, f"{problem.message} (and the PCI bus shows none)")
        draft.is_inventory = is_empty
        if self._devices or worked_before:
            event = self._trouble.event(problem, draft.at, worked_before=worked_before)
            if event is not None:
                draft.event(event)

    def _report_silence(self, reason: GapReason, words: str, draft: ScanDraft) -> None:
        """The tool tells nothing; what the bus shows is told all the same."""
        draft.gap(draft.collector, None, reason, words)
        tool_absence.report_silence(self._roster, self._devices, reason, words, draft)

    # -- the slower questions

    def _ask_the_rest(self, plan: Plan, draft: ScanDraft, stop_at: float) -> None:
        """Ask what is due, longest waiting first; one that hangs is the last of this scan."""
        slow = [question for question in plan.questions[1:] if not question.names_chips]
        due = [question for question in slow if self._due_at.get(question, 0.0) <= draft.steady_at]
        for question in sorted(due, key=lambda question: self._due_at.get(question, 0.0)):
            if self._host.now() >= stop_at:
                return
            try:
                asked = self._tool.ask(question.argv, timeout_seconds=question.timeout_seconds)
            except ToolBlocked as e:
                self._due_at[question] = draft.steady_at + _HUNG_SECONDS
                for chip in self._shown(draft):
                    draft.unread(chip.component, question.states, GapReason.TIMED_OUT, str(e))
                return
            rest = self._read_answer(question, asked, draft)
            self._due_at[question] = draft.steady_at + rest

    def _read_answer(self, question: Question, asked: Asked, draft: ScanDraft) -> float:
        """Take in an answer; return after how long to ask again."""
        answered = set()
        for position, row in enumerate(asked.report.chips):
            chip = self._roster.chip_of(row, position)
            if chip is not None and draft.shows(chip):
                answered.add(chip.uid)
                draft.more(chip, row)
                self._judge(question, row, chip, draft)
        self.read_more(question, asked, draft)
        problems = asked.report.problems
        is_unsupported = not answered and asked.has(ProblemKind.UNSUPPORTED)
        reason = reason_of(worst(problems).kind) if problems else GapReason.FAILED
        if is_unsupported:
            reason = GapReason.UNSUPPORTED
        for chip in self._shown(draft):
            if chip.uid not in answered:
                words = asked.words or "the answer does not name this chip"
                draft.unread(chip.component, question.states, reason, words)
        return _UNSUPPORTED_SECONDS if is_unsupported else question.every_seconds

    def _shown(self, draft: ScanDraft) -> list[Chip]:
        return [chip for chip in self._roster if draft.shows(chip)]
