"""Cells that hold several values, as tools in the manner of nvidia-smi print them."""

from __future__ import annotations

import re

from chipmedic_collectors.values import integer, memory_bytes, number

_COUNTER_MAX = 2**63
"""-1 of an unsigned counter, and whatever else cannot be a count."""
_TEMPERATURE = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d+)?)\s?(?:°C|℃|C)(?!\w)")
_WATTS = r"(\d+(?:\.\d+)?)\s?W"
_NOT_MEASURED = r"(?:N/?A|ERR!?|-+)"
_POWERS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:{_WATTS}|{_NOT_MEASURED})\s*/\s*(?:{_WATTS}|{_NOT_MEASURED})",
        rf"{_WATTS}\s+{_WATTS}",
        rf"{_WATTS}()",
    )
)
_SIZES = re.compile(r"(\d+)\s?([KMGT]i?B)?\s*/\s*(\d+)\s?([KMGT]i?B)?", re.IGNORECASE)
_USED = re.compile(r"(\d+)\s?([KMGT]i?B)\s*/", re.IGNORECASE)
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s?%")


def temperature(cell: str) -> float | None:
    """Return the one temperature of a cell: `N/A   43C  N/A   98W / 400W` is 43."""
    match = _TEMPERATURE.search(cell)
    return float(match[1]) if match else None


def powers(cell: str) -> tuple[float | None, float | None]:
    """Return usage and cap in watts: `106 W/ 250 W`, `97W / NA`, `105W  300W`."""
    for pattern in _POWERS:
        if match := pattern.search(cell):
            usage, cap = match.groups()
            return number(usage or ""), number(cap or "")
    return None, None


def usage(cell: str) -> tuple[int | None, int | None]:
    """Return used and total bytes: `768MiB / 98304MiB`, `666/65536 MiB`, `0 / 63 MB`.

    A total of 0 is a failed query, so nothing is known.
    """
    match = _SIZES.search(cell)
    if match is None:
        used_alone = _USED.search(cell)
        return (memory_bytes(f"{used_alone[1]}{used_alone[2]}") if used_alone else None), None
    unit = match[4] or match[2] or "MiB"
    used, total = memory_bytes(match[1], match[2] or unit), memory_bytes(match[3], unit)
    return (used, total) if total else (None, None)


def percent(cell: str) -> float | None:
    """Return the first percentage of a cell as a ratio; None above 100."""
    match = _PERCENT.match(cell.strip())
    return ratio(match[1]) if match else None


def ratio(text: str) -> float | None:
    """Return a percentage, with or without its sign, as a ratio; None outside 0 to 100."""
    value = number(text)
    return value / 100 if value is not None and 0 <= value <= 100 else None


def counter(text: str) -> int | None:
    """Return an error counter; None for a placeholder, a negative or an impossible one."""
    value = integer(text)
    return value if value is not None and 0 <= value < _COUNTER_MAX else None


def measured(text: str) -> float | None:
    """Return a reading that cannot be negative."""
    value = number(text)
    return None if value is None or value < 0 else value
