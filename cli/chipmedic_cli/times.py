"""Durations and moments as people type them: `90m`, `1h30m`, `2d`; `2026-12-01 08:00`, `+30m`."""

from __future__ import annotations

import re
from datetime import datetime

import typer

UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
DURATION = re.compile(r"(\d+(?:\.\d+)?[smhdw])+")
PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def seconds_of(text: str) -> float:
    """Return a duration in seconds.

    Raises:
        typer.BadParameter: it is none, or 0.
    """
    if not DURATION.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is no duration; write 90m, 1h30m, 2d")
    seconds = sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))
    if seconds <= 0:
        raise typer.BadParameter(f"{text!r} is no time at all")
    return seconds


def moment_of(text: str, now: float) -> float:
    """Return a moment in UNIX seconds; without a time zone it is this host's local time.

    Raises:
        typer.BadParameter: it is none.
    """
    if text.startswith("+"):
        return now + seconds_of(text[1:])
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError as e:
        words = f"{text!r} is no moment; write 2026-12-01 08:00, or +30m from now"
        raise typer.BadParameter(words) from e
