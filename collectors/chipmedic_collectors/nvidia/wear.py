"""How far a chip's memory is worn: rows and pages out of use, spare rows, repairs. Pure.

Retired pages are of Volta and Turing, remapped rows of Ampere on, bank repairs of Blackwell.
"""

from __future__ import annotations

from chipmedic.metric import Metric
from chipmedic.model import GapReason
from chipmedic_collectors.nvidia.chip_readings import ChipReadings, is_row
from chipmedic_collectors.nvidia.codes import NOT_SUPPORTED, gap_reason
from chipmedic_collectors.nvidia.reply import SUCCESS

ROWS_MAX = (1 << 32) - 2
BUCKETS = 5
"""The row remapper's histogram: banks with all, most, some, few, and none of their spare rows."""


def read_wear(chip: ChipReadings) -> None:
    """Read what the slow calls tell of a chip's memory.

    A part of the rows that failed spoils their sum, which would look like a counter that fell.
    """
    names = ("retired_single", "retired_double", "remapped_corrected", "remapped_uncorrected")
    parts = [chip.answers.get(name, (NOT_SUPPORTED, None)) for name in names]
    troubles = [code for code, _ in parts if code != SUCCESS]
    failed = [code for code in troubles if gap_reason(code) is not GapReason.UNSUPPORTED]
    values = [value for code, value in parts if code == SUCCESS]
    if failed or not values:
        chip.miss(Metric.RETIRED_PAGES, (failed or troubles)[0])
    elif is_row(values, len(values)) and max(values) <= ROWS_MAX:
        chip.read(Metric.RETIRED_PAGES, min(sum(values), ROWS_MAX))
    else:
        chip.doubt(Metric.RETIRED_PAGES, values)
    _flag(
        chip,
        Metric.REMAP_PENDING,
        ("retired_pending", "remap_pending", "bank_remap_pending", "repair_pending"),
    )
    _flag(chip, Metric.REMAP_FAILED, ("remap_failed",))


def _flag(chip: ChipReadings, metric: Metric, names: tuple[str, ...]) -> None:
    """Read one statement that several calls can make: true when one says so.

    A part that failed hides a "no" of the others, and never a "yes".
    """
    parts = [chip.answers.get(name, (NOT_SUPPORTED, None)) for name in names]
    troubles = [code for code, _ in parts if code != SUCCESS]
    failed = [code for code in troubles if gap_reason(code) is not GapReason.UNSUPPORTED]
    values = [value for code, value in parts if code == SUCCESS]
    if not all(is_row([value], 1) and value <= 1 for value in values):
        chip.doubt(metric, values)
    elif 1 in values:
        chip.read(metric, 1.0)
    elif failed or not values:
        chip.miss(metric, (failed or troubles)[0])
    else:
        chip.read(metric, 0.0)


def read_unrepairable(chip: ChipReadings) -> None:
    """Read the flag of newest drivers; that others lack it is no gap."""
    answer = chip.answers["unrepairable_memory"]
    if gap_reason(answer[0]) is not GapReason.UNSUPPORTED:
        chip.judge(Metric.UNREPAIRABLE_MEMORY, answer, largest=1)


def read_banks(chip: ChipReadings) -> None:
    """Read how many banks have few spare rows left, and how many none."""
    code, buckets = chip.answers["row_banks"]
    metrics = (Metric.MEMORY_BANKS_LOW, Metric.MEMORY_BANKS_SPENT)
    if code == SUCCESS and is_row(buckets, BUCKETS) and max(buckets) <= ROWS_MAX:
        for metric, banks in zip(metrics, buckets[-2:], strict=True):
            chip.read(metric, banks)
        return
    for metric in metrics:
        if code != SUCCESS:
            chip.miss(metric, code)
        else:
            chip.doubt(metric, buckets)
