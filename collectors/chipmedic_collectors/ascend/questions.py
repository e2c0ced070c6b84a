"""The slow questions: fault codes, ECC counters, ports, serial numbers, the mapping of ids.

The state of chips and ports is asked for each minute, counters and the state of links every five,
as many in one scan as fit into its time, the longest waiting first. A question that hangs rests;
one that this chip or driver does not support is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from chipmedic import Chip, GapReason, Host, Metric
from chipmedic.errors import ToolBlocked
from chipmedic.tool_report import ProblemKind
from chipmedic_collectors.ascend.asking import Tools
from chipmedic_collectors.ascend.codes import words_of
from chipmedic_collectors.ascend.columns import read_mapping
from chipmedic_collectors.ascend.ports import MINUTE, NEVER, SLOW_SECONDS, Ports, port_of, reason_in
from chipmedic_collectors.ascend.roster import Roster, chip_of
from chipmedic_collectors.ascend.rows import note_ecc
from chipmedic_collectors.report_scan import ScanDraft
from chipmedic_collectors.standing_codes import StandingCodes
from chipmedic_collectors.tool_asking import Asked

MAPPING_SECONDS = 600.0
HUNG_SECONDS = 300.0
QUESTION_SECONDS = 5.0
_EVENTS = "current-fault-event"
_WITHOUT_IT = (ProblemKind.UNSUPPORTED, ProblemKind.MALFORMED)
_HAS_PORT = ("910", "950")
_OF_CARD = frozenset({"ecc", "serial"})
_OF_PORT = frozenset({"link", "network", "counters", "light", "hccs"})
_RETRIES = re.compile(r"^\s*retry (?:error )?count\s*:\s*(?P<count>\d{1,19})\s*$", re.I | re.M)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of which chip or card."""

    topic: str
    """One of `Questions._askers`, which are in order of importance."""
    npu: int = -1
    die: int = 0


class Questions:
    """Asks what is due."""

    def __init__(self, host: Host, tools: Tools, roster: Roster, codes: StandingCodes) -> None:
        self._host = host
        self._tools = tools
        self._roster = roster
        self._codes = codes
        self._ports = Ports(tools, codes)
        self._due_at: dict[Question, float] = {}
        self._urgent: list[Question] = []
        self._has_events = True
        self._askers: dict[str, Callable[[Question, ScanDraft], float]] = {
            "mapping": self._ask_mapping,
            "codes": self._ask_codes,
            "ecc": self._ask_ecc,
            "link": self._of_port(self._ports.state),
            "serial": self._ask_serial,
            "network": self._of_port(self._ports.network),
            "counters": self._of_port(self._ports.counters),
            "light": self._of_port(self._ports.light),
            "hccs": self._of_port(self._ports.between_chips),
            "pcie": self._ask_pcie,
        }

    def hurry(self, chip: Chip) -> None:
        """Ask this chip for its fault codes in this scan: its state is not OK."""
        self._urgent.append(Question("codes", chip.index, chip.die))

    def ask(self, draft: ScanDraft, stop_at: float) -> None:
        """Ask what is due until `stop_at`; the first that hangs is the last of this scan."""
        self._add_new()
        urgent, self._urgent = self._urgent, []
        for question in dict.fromkeys([*urgent, *self._due(draft.steady_at)]):
            if self._host.now() >= stop_at:
                return
            if not self._is_answerable(question, draft):
                continue
            try:
                rest = self._askers[question.topic](question, draft)
            except ToolBlocked as e:
                self._due_at[question] = draft.steady_at + HUNG_SECONDS
                self._note_hung(question, str(e), draft)
                return
            self._due_at[question] = draft.steady_at + rest

    def _is_answerable(self, question: Question, draft: ScanDraft) -> bool:
        """Say whether the chip is there to be asked; one that is lost or hangs is left alone."""
        if question.topic == "mapping":
            return True
        if question.topic in _OF_CARD:
            return any(draft.shows(chip) for chip in self._roster.of_card(question.npu))
        chip = self._roster.at((question.npu, question.die))
        return chip is not None and draft.shows(chip)

    def _due(self, at: float) -> list[Question]:
        """Return what is due, longest waiting first."""
        due = [question for question, due_at in self._due_at.items() if due_at <= at]
        return sorted(due, key=lambda question: self._due_at[question])

    def _add_new(self) -> None:
        """Make the questions about new chips known; they are due at once."""
        for topic in self._askers:
            for question in self._about(topic):
                self._due_at.setdefault(question, 0.0)

    def _about(self, topic: str) -> list[Question]:
        """Return the questions of one topic, for the chips that are known."""
        if topic == "mapping":
            return [Question(topic)] if len(self._roster) else []
        if topic in _OF_CARD:
            return [Question(topic, npu) for npu in self._roster.cards()]
        return [
            Question(topic, chip.index, chip.die)
            for chip in self._roster
            if topic not in _OF_PORT or any(family in chip.model for family in _HAS_PORT)
        ]

    def _of_port(
        self, ask: Callable[[Chip, ScanDraft], float]
    ) -> Callable[[Question, ScanDraft], float]:
        def asker(question: Question, draft: ScanDraft) -> float:
            chip = self._roster.at((question.npu, question.die))
            return MINUTE if chip is None else ask(chip, draft)

        return asker

    def _note_hung(self, question: Question, words: str, draft: ScanDraft) -> None:
        metrics = {"codes": Metric.HEALTH, "ecc": Metric.ECC_UNCORRECTED, "link": Metric.LINK_UP}
        metric = metrics.get(question.topic)
        chip = self._roster.at((question.npu, question.die))
        if metric is not None and chip is not None:
            component = port_of(chip) if question.topic == "link" else chip.component
            draft.gap(component, metric, GapReason.TIMED_OUT, words)

    def _npu_smi(self, topic: str, npu: int, *more: str) -> Asked:
        return self._tools.npu_smi(
            "info", "-t", topic, "-i", str(npu), *more, timeout_seconds=QUESTION_SECONDS
        )

    def _ask_codes(self, question: Question, draft: ScanDraft) -> float:
        """Error codes: from the driver's list of current events where it has one."""
        chip = self._roster.at((question.npu, question.die))
        if chip is None:
            return MINUTE
        one = ("-c", str(chip.die))
        asked = self._npu_smi(_EVENTS, chip.index, *one) if self._has_events else None
        if asked is None or (not asked.report.chips and asked.has(*_WITHOUT_IT)):
            self._has_events = False
            asked = self._npu_smi("health", chip.index, *one)
            stated = chip_of(asked, chip.die)
            if stated is not None:
                draft.health(chip.component, stated.health)
        stated = chip_of(asked, chip.die)
        if stated is not None and stated.error_codes is not None:
            words = words_of(stated.error_codes, asked.text)
            for event in self._codes.events(chip.component, words, draft.at):
                draft.event(event)
        elif asked.has(ProblemKind.CHIP_LOST):
            draft.lost(chip.component, f"NPU {chip.index} chip {chip.die}: {asked.words}")
        else:
            draft.gap(chip.component, Metric.HEALTH, reason_in(asked), asked.words or "no codes")
        return MINUTE

    def _ask_ecc(self, question: Question, draft: ScanDraft) -> float:
        asked = self._npu_smi("ecc", question.npu)
        for chip in self._roster.of_card(question.npu):
            row = chip_of(asked, chip.die)
            if row is not None:
                note_ecc(draft, chip, row)
            elif draft.shows(chip):
                draft.gap(
                    chip.component,
                    Metric.ECC_UNCORRECTED,
                    reason_in(asked),
                    asked.words or "no row",
                )
        is_useless = not asked.report.chips and asked.has(ProblemKind.UNSUPPORTED)
        return NEVER if is_useless else MINUTE

    def _ask_pcie(self, question: Question, draft: ScanDraft) -> float:
        """Packets that the chip's PCIe link sent again; a virtual machine may not ask."""
        which = ("-c", str(question.die))
        asked = self._npu_smi("pcie-err", question.npu, *which)
        chip = self._roster.at((question.npu, question.die))
        if chip is not None and (found := _RETRIES.search(asked.text)):
            draft.read(chip.component, Metric.PCIE_REPLAYS, int(found["count"]))
        is_useless = asked.has(ProblemKind.UNSUPPORTED, ProblemKind.PERMISSION)
        return NEVER if is_useless else SLOW_SECONDS

    def _ask_serial(self, question: Question, draft: ScanDraft) -> float:
        del draft
        row = chip_of(self._npu_smi("board", question.npu), 0)
        if row is not None and row.serial is not None:
            self._roster.set_serial(question.npu, row.serial)
        return NEVER

    def _ask_mapping(self, question: Question, draft: ScanDraft) -> float:
        del question, draft
        asked = self._tools.npu_smi("info", "-m", timeout_seconds=QUESTION_SECONDS)
        for chip in read_mapping(asked.text):
            # Without a column of its own (910A, 910B) the physical id is the logical one.
            phy_id = chip.phy_id if chip.phy_id is not None else chip.logic_id
            if phy_id is not None:
                self._ports.phy_ids[chip.npu, chip.die] = phy_id
                self._roster.set_kernel_name((chip.npu, chip.die), f"npu:{phy_id}")
        return MAPPING_SECONDS
