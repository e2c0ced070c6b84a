"""The chips asked one after the other, for when the summary is dead or hangs."""

from __future__ import annotations

from chipmedic import Chip, GapReason, Host
from chipmedic.errors import ToolBlocked
from chipmedic.tool_report import ProblemKind
from chipmedic_collectors.ascend.asking import Tools
from chipmedic_collectors.ascend.roster import Roster, chip_of
from chipmedic_collectors.ascend.rows import note_row
from chipmedic_collectors.report_scan import ScanDraft
from chipmedic_collectors.tool_asking import Asked
from chipmedic_collectors.tool_trouble import reason_of

CARD_SECONDS = 5.0
LIST_SECONDS = 10.0


def ask_one_by_one(
    host: Host, tools: Tools, roster: Roster, draft: ScanDraft, stop_at: float
) -> bool:
    """Note what each card answers by itself; return whether all of them did.

    Raises:
        ToolBlocked: the list of chips hangs too, or a tool is stuck in the kernel.
    """
    if not len(roster):
        _enter_listed(host, tools, roster, draft, stop_at)
    is_all = bool(len(roster))
    for npu in roster.cards():
        chips = roster.of_card(npu)
        if host.now() >= stop_at:
            is_all = False
            _gaps(draft, chips, GapReason.TIMED_OUT, "no time was left to ask this card")
            continue
        try:
            is_all &= _ask_card(tools, npu, chips, draft)
        except ToolBlocked as e:
            is_all = False
            _gaps(draft, chips, GapReason.TIMED_OUT, str(e))
            if e.abandoned_pid is not None:
                raise
    return is_all


def _enter_listed(
    host: Host, tools: Tools, roster: Roster, draft: ScanDraft, stop_at: float
) -> None:
    listed = tools.npu_smi("info", "-m", timeout_seconds=LIST_SECONDS)
    for row in listed.report.chips:
        if host.now() < stop_at:
            roster.identify(row)
    if not listed.report.chips:
        draft.gap(draft.collector, None, GapReason.FAILED, f"npu-smi info -m: {listed.words}")


def _ask_card(tools: Tools, npu: int, chips: list[Chip], draft: ScanDraft) -> bool:
    asked = tools.npu_smi("info", "-t", "common", "-i", str(npu), timeout_seconds=CARD_SECONDS)
    is_all = True
    for chip in chips:
        row = chip_of(asked, chip.die)
        if asked.has(ProblemKind.CHIP_LOST):
            draft.lost(chip.component, f"NPU {npu} chip {chip.die}: {asked.words}")
        elif row is None or row.health is not None:
            is_all = False  # the tool names the chip only to say that it does not answer
            _no_answer(draft, chip, asked)
        else:
            health = tools.npu_smi(
                *("info", "-t", "health", "-i", str(npu), "-c", str(chip.die)),
                timeout_seconds=CARD_SECONDS,
            )
            stated = chip_of(health, chip.die)
            row.health = stated.health if stated is not None else None
            note_row(draft, chip, row)
    return is_all


def _no_answer(draft: ScanDraft, chip: Chip, asked: Asked) -> None:
    kind = asked.report.problems[0].kind if asked.report.problems else ProblemKind.PARTIAL
    words = asked.words or "the answer does not name this chip"
    draft.gap(chip.component, None, reason_of(kind), words)


def _gaps(draft: ScanDraft, chips: list[Chip], reason: GapReason, detail: str) -> None:
    for chip in chips:
        draft.gap(chip.component, None, reason, detail)
