"""The slow questions: fault codes, ECC counters, ports, serial numbers, the mapping of ids.

Each is asked about once a minute, as many in one scan as fit into its time, the longest waiting
first. A question that hangs rests; one that this chip or driver does not support is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chipmedic import Chip, Component, ComponentKind, GapReason, Host, Metric
from chipmedic.errors import ToolBlocked
from chipmedic.tool_report import ProblemKind
from chipmedic_collectors.ascend.asking import Asked, Tools
from chipmedic_collectors.ascend.codes import ActiveCodes, words_of
from chipmedic_collectors.ascend.columns import read_mapping
from chipmedic_collectors.ascend.draft import Draft
from chipmedic_collectors.ascend.hccn import link_downs
from chipmedic_collectors.ascend.identity import Place
from chipmedic_collectors.ascend.roster import Roster, chip_of
from chipmedic_collectors.ascend.schedule import Schedule
from chipmedic_collectors.ascend.trouble import reason_of

MINUTE = 60.0
MAPPING_SECONDS = 600.0
HUNG_SECONDS = 300.0
QUESTION_SECONDS = 5.0
_EVENTS = "current-fault-event"
_WITHOUT_IT = (ProblemKind.UNSUPPORTED, ProblemKind.MALFORMED)
_HAS_PORT = ("910", "950")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of which chip or card."""

    topic: str
    """`codes`, `ecc`, `link`, `serial` or `mapping`."""
    npu: int = -1
    die: int = 0


class Questions:
    """Asks what is due."""

    def __init__(self, host: Host, tools: Tools, roster: Roster, codes: ActiveCodes) -> None:
        self._host = host
        self._tools = tools
        self._roster = roster
        self._codes = codes
        self._schedule: Schedule[Question] = Schedule()
        self._urgent: list[Question] = []
        self._phy_ids: dict[Place, int] = {}
        self._has_events = True
        self._askers: dict[str, Callable[[Question, Draft], float]] = {
            "codes": self._ask_codes,
            "ecc": self._ask_ecc,
            "link": self._ask_link,
            "serial": self._ask_serial,
            "mapping": self._ask_mapping,
        }

    def hurry(self, chip: Chip) -> None:
        """Ask this chip for its fault codes in this scan: its state is not OK."""
        self._urgent.append(Question("codes", chip.index, chip.die))

    def ask(self, draft: Draft, stop_at: float) -> None:
        """Ask what is due until `stop_at`; the first that hangs is the last of this scan."""
        self._add_new()
        urgent, self._urgent = self._urgent, []
        for question in dict.fromkeys([*urgent, *self._schedule.due(draft.at)]):
            if self._host.now() >= stop_at:
                return
            if not self._is_answerable(question, draft):
                continue
            try:
                rest = self._askers[question.topic](question, draft)
            except ToolBlocked as e:
                self._schedule.rest(question, draft.at + HUNG_SECONDS)
                self._note_hung(question, str(e), draft)
                return
            self._schedule.rest(question, draft.at + rest)

    def _is_answerable(self, question: Question, draft: Draft) -> bool:
        """Say whether the chip is there to be asked; one that is lost or hangs is left alone."""
        if question.topic == "mapping":
            return True
        if question.topic in ("ecc", "serial"):
            return any(draft.shows(chip) for chip in self._roster.of_card(question.npu))
        chip = self._roster.at((question.npu, question.die))
        return chip is not None and draft.shows(chip)

    def _add_new(self) -> None:
        if not len(self._roster):
            return
        self._schedule.add([Question("mapping")])
        for chip in self._roster:
            self._schedule.add([Question("codes", chip.index, chip.die)])
        for npu in self._roster.cards():
            self._schedule.add([Question("ecc", npu), Question("serial", npu)])
        for chip in self._roster:
            if any(family in chip.model for family in _HAS_PORT):
                self._schedule.add([Question("link", chip.index, chip.die)])

    def _note_hung(self, question: Question, words: str, draft: Draft) -> None:
        metrics = {"codes": Metric.HEALTH, "ecc": Metric.ECC_UNCORRECTED, "link": Metric.LINK_UP}
        metric = metrics.get(question.topic)
        chip = self._roster.at((question.npu, question.die))
        if metric is not None and chip is not None:
            component = _port(chip, 0) if question.topic == "link" else chip.component
            draft.gap(component, metric, GapReason.TIMED_OUT, words)

    def _npu_smi(self, topic: str, npu: int, *more: str) -> Asked:
        return self._tools.npu_smi(
            "info", "-t", topic, "-i", str(npu), *more, timeout_seconds=QUESTION_SECONDS
        )

    def _ask_codes(self, question: Question, draft: Draft) -> float:
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
                draft.health(chip, stated.health)
        stated = chip_of(asked, chip.die)
        if stated is not None and stated.error_codes is not None:
            words = words_of(stated.error_codes, asked.text)
            for event in self._codes.events(chip.component, words, draft.at):
                draft.event(event)
        elif asked.has(ProblemKind.CHIP_LOST):
            draft.lost(chip.component, f"NPU {chip.index} chip {chip.die}: {asked.words}")
        else:
            draft.gap(chip.component, Metric.HEALTH, _reason(asked), asked.words or "no codes")
        return MINUTE

    def _ask_ecc(self, question: Question, draft: Draft) -> float:
        asked = self._npu_smi("ecc", question.npu)
        for chip in self._roster.of_card(question.npu):
            row = chip_of(asked, chip.die)
            if row is not None:
                draft.ecc(chip, row)
            elif draft.shows(chip):
                draft.gap(
                    chip.component, Metric.ECC_UNCORRECTED, _reason(asked), asked.words or "no row"
                )
        if not asked.report.chips and asked.has(ProblemKind.UNSUPPORTED):
            self._schedule.never(question)
        return MINUTE

    def _ask_link(self, question: Question, draft: Draft) -> float:
        """State and downs of the chip's network port; hccn_tool numbers chips in its own way."""
        place = (question.npu, question.die)
        chip, phy_id = self._roster.at(place), self._phy_ids.get(place)
        if chip is None:
            return MINUTE
        if phy_id is None:
            draft.gap(
                _port(chip, 0), Metric.LINK_UP, GapReason.FAILED, "its physical id is not known"
            )
            return MINUTE
        which = ("-i", str(phy_id))
        asked = self._tools.hccn(*which, "-link", "-g", timeout_seconds=QUESTION_SECONDS)
        links = [link for row in asked.report.chips for link in row.links or []]
        for link in links:
            draft.read(_port(chip, link.index or 0), Metric.LINK_UP, link.is_up)
        if not links:
            draft.gap(_port(chip, 0), Metric.LINK_UP, _reason(asked), asked.words or "no state")
            if asked.has(ProblemKind.TOOL_MISSING, ProblemKind.UNSUPPORTED):
                self._schedule.never(question)
            return MINUTE
        downs = self._tools.hccn(*which, "-link_stat", "-g", timeout_seconds=QUESTION_SECONDS)
        count = link_downs(downs.text)
        if count is not None:
            draft.read(_port(chip, links[0].index or 0), Metric.LINK_DOWNED, count)
        return MINUTE

    def _ask_serial(self, question: Question, draft: Draft) -> float:
        del draft
        row = chip_of(self._npu_smi("board", question.npu), 0)
        if row is not None and row.serial is not None:
            self._roster.set_serial(question.npu, row.serial)
        self._schedule.never(question)
        return MAPPING_SECONDS

    def _ask_mapping(self, question: Question, draft: Draft) -> float:
        del question, draft
        asked = self._tools.npu_smi("info", "-m", timeout_seconds=QUESTION_SECONDS)
        for chip in read_mapping(asked.text):
            # Without a column of its own (910A, 910B) the physical id is the logical one.
            phy_id = chip.phy_id if chip.phy_id is not None else chip.logic_id
            if phy_id is not None:
                self._phy_ids[chip.npu, chip.die] = phy_id
        return MAPPING_SECONDS


def _port(chip: Chip, number: int) -> Component:
    return Component(ComponentKind.LINK, f"{chip.uid}/{number}")


def _reason(asked: Asked) -> GapReason:
    return reason_of(asked.report.problems[0].kind) if asked.report.problems else GapReason.FAILED
