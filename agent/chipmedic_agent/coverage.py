"""The verdict of a check: fine, fault, or unknown and why. Unknown is never fine."""

from __future__ import annotations

from dataclasses import dataclass

from chipmedic.metric import Metric
from chipmedic.model import Coverage, Gap, GapReason, Scan, Verdict

STALE_PERIODS = 3.0
"""A value older than this many periods says nothing about now."""


@dataclass(frozen=True, slots=True)
class Look:
    """What came of the last attempt of a check."""

    at: float
    blind: str = ""
    """Why nothing at all is known; empty: something was seen."""
    partly_blind: str = ""
    """What of it could not be seen."""


def look_at(scan: Scan) -> Look:
    """Sum up what a scan could see."""
    gaps = [gap for gap in scan.gaps if gap.reason is not GapReason.UNSUPPORTED]
    if gaps and not _has_seen(scan):
        return Look(scan.at, blind=_words(gaps))
    if dark := [gap for gap in gaps if gap.metric is None]:
        return Look(scan.at, partly_blind=_words(dark))
    return Look(scan.at)


def judge(check: str, look: Look, *, now: float, period_seconds: float, is_open: bool) -> Coverage:
    """Return the verdict; `is_open` says whether a fault of this check is open."""
    age = now - look.at
    if look.blind:
        return Coverage(check, look.at, Verdict.UNKNOWN, look.blind)
    if age > STALE_PERIODS * period_seconds:
        return Coverage(check, look.at, Verdict.UNKNOWN, f"last looked {age:.0f} s ago")
    if is_open:
        return Coverage(check, look.at, Verdict.FAULT, look.partly_blind)
    if look.partly_blind:
        return Coverage(check, look.at, Verdict.UNKNOWN, look.partly_blind)
    return Coverage(check, look.at, Verdict.OK)


def _has_seen(scan: Scan) -> bool:
    """Tell whether a scan brought more than names: presence is no health."""
    findings = (r for r in scan.readings if r.metric is not Metric.PRESENT or r.value == 0)
    return any(findings) or bool(scan.events or scan.jobs or scan.processes)


def _words(gaps: list[Gap]) -> str:
    first = gaps[0]
    more = f" (and {len(gaps) - 1} more)" if len(gaps) > 1 else ""
    return f"{first.component}: {first.reason.value}: {first.detail}".rstrip(": ") + more
