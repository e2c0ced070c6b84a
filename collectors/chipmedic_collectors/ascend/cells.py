"""How the cells of Ascend tools become values, on top of the readers that all vendors share."""

from __future__ import annotations

import re

from chipmedic.tool_report import Health
from chipmedic_collectors.values import identity, integer, number

HEALTH_WORDS = {
    "ok": Health.OK,
    "warning": Health.WARNING,
    "alarm": Health.CRITICAL,
    "critical": Health.CRITICAL,
}
"""The driver's states 0 to 3 (minor, major and critical events); all else is unknown."""
_MASKED = re.compile(r"[xX](?:[xX.]*[xX])?")
_COUNTER_MAX = 2**64 - 1
_CODE = re.compile(r"(?:0[xX])?([0-9A-Fa-f]{2,9})")


def health(text: str) -> Health:
    """Return the state that a health word names; a word that is not known is never ok."""
    return HEALTH_WORDS.get(text.strip().lower(), Health.UNKNOWN)


def name(text: str) -> str | None:
    """Return a printed name; None for a placeholder or one that was masked (`xxx`, `x.x.x`)."""
    bare = identity(text)
    return None if bare is None or _MASKED.fullmatch(bare) else bare


def measured(text: str) -> float | None:
    """Return a measured quantity; a failed query prints 0, and 0 W or 0 °C is no reading."""
    value = number(text)
    return value if value else None


def count(text: str) -> int | None:
    """Return a counter; None for what is no whole number of zero or more."""
    value = integer(text)
    return value if value is not None and 0 <= value <= _COUNTER_MAX else None


def ratio(text: str) -> float | None:
    """Return a percentage as 0..1; None outside that (unread fields print 0xFFFFFFFF)."""
    value = number(text)
    return value / 100 if value is not None and 0 <= value <= 100 else None


def error_codes(text: str) -> list[str]:
    """Return the hexadecimal codes of an `Error Code` cell, upper case, each once."""
    codes = [match[1].upper() for word in text.split() if (match := _CODE.fullmatch(word))]
    return list(dict.fromkeys(code for code in codes if code.strip("0")))
