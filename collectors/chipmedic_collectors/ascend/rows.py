"""What a row of npu-smi means for the scan, and which of its cells are missing."""

from __future__ import annotations

from chipmedic import Chip, GapReason, Metric
from chipmedic.tool_report import ChipReport, Health
from chipmedic_collectors.report_scan import HEALTH_CODES, ScanDraft
from chipmedic_collectors.usual_metrics import ECC, LOAD

COUNTERS = ECC | {Metric.RETIRED_PAGES}


def note_row(draft: ScanDraft, chip: Chip, row: ChipReport) -> None:
    """Note a chip and its row of the summary; a value that is not there is a gap, never 0."""
    if not draft.chip(chip, row):
        return
    for metric in LOAD:
        if not draft.has(chip.component, metric):
            words = "printed as 0, NA or -: not measured"
            draft.gap(chip.component, metric, _reason(chip, metric), words)
    if row.health not in HEALTH_CODES:
        draft.health(chip.component, Health.UNKNOWN)


def note_ecc(draft: ScanDraft, chip: Chip, row: ChipReport) -> None:
    """Note the memory error counters of a chip."""
    draft.more(chip, row)
    draft.unread(chip.component, COUNTERS, GapReason.UNSUPPORTED, "not printed for this chip")


def _reason(chip: Chip, metric: Metric) -> GapReason:
    """310 chips do not measure power; of the pair on an A3 card, die 0 prints it for both."""
    if metric is Metric.POWER and (chip.die > 0 or "310" in chip.model):
        return GapReason.UNSUPPORTED
    return GapReason.FAILED
