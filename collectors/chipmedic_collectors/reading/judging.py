"""What a reader concludes of one chip, beyond the value of a cell."""

from __future__ import annotations

from collections.abc import Iterable

from chipmedic.tool_report import ChipReport, Health, ProblemKind, ToolReport

_RANK = {None: 0, Health.OK: 1, Health.UNKNOWN: 2, Health.WARNING: 3, Health.CRITICAL: 4}
_READINGS = (
    "temperature_celsius",
    "power_watts",
    "utilization_ratio",
    "memory_used_bytes",
    "memory_used_ratio",
)


def worst_health(states: Iterable[Health | None]) -> Health | None:
    """Return the worst of some states; unknown outranks ok, None is no statement."""
    return max(states, key=lambda state: _RANK[state], default=None)


def worsen(chip: ChipReport, health: Health) -> None:
    """Set the chip's health unless it is known to be worse."""
    chip.health = worst_health((chip.health, health))


def label(chip: ChipReport) -> str:
    """Return the chip's name for a problem's message."""
    if chip.index is not None:
        return f"chip {chip.index}"
    return f"chip {chip.pci or chip.uuid or chip.serial or '?'}"


def mark_lost(report: ToolReport, chip: ChipReport, words: str) -> None:
    """Note that the tool says that this chip is gone."""
    chip.lost = True
    worsen(chip, Health.CRITICAL)
    report.add_problem(ProblemKind.CHIP_LOST, f"{label(chip)}: {words}")


def note_silence(report: ToolReport, chip: ChipReport) -> None:
    """A row without one reading is a chip that does not answer: never a healthy one."""
    if chip.lost or any(getattr(chip, name) is not None for name in _READINGS):
        return
    worsen(chip, Health.UNKNOWN)
    report.add_problem(ProblemKind.PARTIAL, f"{label(chip)} does not answer: its row has no value")
