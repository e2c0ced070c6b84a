"""What the cells and states of NVIDIA's tools mean, whatever layout they are printed in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

from chipmedic.tool_report import ChipReport, Health, ProblemKind, ToolReport
from chipmedic_collectors.reading.judging import worsen
from chipmedic_collectors.values import integer, is_placeholder, number

_COUNTER_MAX = 2**63
"""NVML prints -1 of an unsigned counter where it has none."""


class Trouble(Enum):
    """Why a cell holds an error of the driver instead of a value, worst last."""

    ERROR = re.compile(r"\berr!|unknown error|not in ready state", re.IGNORECASE)
    RESET_REQUIRED = re.compile(
        r"requires? reset|reset required|needs? (?:a )?reset", re.IGNORECASE
    )
    LOST = re.compile(r"gpu is lost|fallen off the bus", re.IGNORECASE)


def trouble_of(texts: Iterable[str]) -> Trouble | None:
    """Return the worst trouble that any of these cells tells."""
    joined = "\n".join(texts)
    return next((one for one in reversed(Trouble) if one.value.search(joined)), None)


def label(chip: ChipReport) -> str:
    """Return the chip's name for a problem's message."""
    if chip.index is not None:
        return f"GPU {chip.index}"
    return f"GPU {chip.pci or chip.uuid or chip.serial or chip.name or '?'}"


def mark_lost(report: ToolReport, chip: ChipReport, words: str) -> None:
    """Note that the tool says that this chip is gone."""
    chip.lost = True
    worsen(chip, Health.CRITICAL)
    report.add_problem(ProblemKind.CHIP_LOST, f"{label(chip)}: {words}")


def mark_silent(report: ToolReport, chip: ChipReport, words: str) -> None:
    """Note that this chip does not answer: it is not known to be gone, and it is not healthy."""
    worsen(chip, Health.UNKNOWN)
    report.add_problem(ProblemKind.PARTIAL, f"{label(chip)}: {words}")


def mark_reset_required(report: ToolReport, chip: ChipReport, words: str) -> None:
    """Note that the chip is present and unusable until it is reset."""
    worsen(chip, Health.CRITICAL)
    report.add_problem(ProblemKind.PARTIAL, f"{label(chip)}: {words}")


def note_trouble(
    report: ToolReport, chip: ChipReport, trouble: Trouble | None, *, is_silent: bool
) -> None:
    """Judge a chip by the worst error that its cells tell.

    `is_silent`: besides the error there is no reading either, so the chip does not answer.
    """
    if trouble is Trouble.LOST:
        mark_lost(report, chip, "GPU is lost")
    elif trouble is Trouble.RESET_REQUIRED:
        mark_reset_required(report, chip, "requires reset")
    elif trouble is Trouble.ERROR and is_silent:
        mark_silent(report, chip, "does not answer: errors instead of readings")
    elif trouble is Trouble.ERROR:
        report.add_problem(ProblemKind.PARTIAL, f"{label(chip)}: an error instead of a value")


def has_reading(chip: ChipReport) -> bool:
    """Say whether any sensor or counter of the chip could be read."""
    readings = (
        chip.temperature_celsius,
        chip.power_watts,
        chip.utilization_ratio,
        chip.memory_used_bytes,
        chip.ecc_corrected_total,
        chip.ecc_uncorrected_total,
        chip.retired_pages,
        chip.remap_pending,
    )
    return any(value is not None for value in readings)


def counter(text: str) -> int | None:
    """Return an error counter; None for a placeholder, a negative one, or -1 in an unsigned one."""
    value = integer(text)
    return value if value is not None and 0 <= value < _COUNTER_MAX else None


def total(counts: Iterable[int | None]) -> int | None:
    """Return the sum of those that are known; None when none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def ratio_of_percent(text: str) -> float | None:
    """Return a percentage as 0..1; None outside 0 to 100."""
    percent = number(text)
    return percent / 100 if percent is not None and 0 <= percent <= 100 else None


def answer(text: str) -> bool | None:
    """Return a yes or no of the tool; None where it gives neither."""
    word = text.strip(" []").lower()
    if word in {"yes", "true", "1", "active", "pending"}:
        return True
    return False if word in {"no", "false", "0", "not active"} else None


def judge_recovery_action(chip: ChipReport, text: str) -> None:
    """Judge by the recovery that the driver wants: None, Reset, Reboot, Drain P2P, Drain and Reset.

    A drain lets running work end, so it warns; all others mean that the chip is unusable now.
    """
    action = text.strip(" []").lower().replace("_", " ")
    if action == "none":
        worsen(chip, Health.OK)
    elif not is_placeholder(action):
        worsen(chip, Health.WARNING if "drain" in action else Health.CRITICAL)


def judge_remapping(chip: ChipReport) -> None:
    """Judge by the row remapper: pending waits for a reset, a failure is the criterion for RMA."""
    if chip.remap_failed:
        worsen(chip, Health.CRITICAL)
    if chip.remap_pending:
        worsen(chip, Health.WARNING)
    if chip.remap_failed is False and chip.remap_pending is False:
        worsen(chip, Health.OK)


_FABRIC_DEGRADED = ("degraded", "limited")


def judge_fabric(chip: ChipReport, key: str, text: str) -> None:
    """Judge by one leaf of the NVLink fabric's health, by its name as in the XML."""
    word = text.strip(" []").lower()
    if key == "incorrect_configuration":
        if word not in {"none", "false", "no"} and not is_placeholder(word):
            worsen(chip, Health.WARNING)
    elif key == "summary" and word == "healthy":
        worsen(chip, Health.OK)
    elif "unhealthy" in word or (key == "route_unhealthy" and answer(text)):
        worsen(chip, Health.CRITICAL)
    elif key != "partition_assigned" and (word.startswith(_FABRIC_DEGRADED) or answer(text)):
        worsen(chip, Health.WARNING)


def judge_fabric_registration(chip: ChipReport, state: str, status: str) -> None:
    """Judge by the fabric's state and status: completed without success is a failure."""
    outcome = status.strip(" []").lower()
    is_failure = outcome == "unknown error" or not (outcome == "success" or is_placeholder(outcome))
    if is_failure and state.strip(" []").lower() == "completed":
        worsen(chip, Health.WARNING)
