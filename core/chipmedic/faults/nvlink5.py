"""Xid 144 to 150 (NVLink of Blackwell) read by the registers that the line prints.

The number names only the unit's family, and the word Fatal or Nonfatal is not the action; the
interrupt and status registers give the row of NVIDIA's own table (`catalog/nvlink5.toml`). The
layout of the interrupt register changed with driver R575, which a line does not name: a row that
fits in either layout counts, and the printed unit keeps the two apart. Where several rows fit, the
gravest one counts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from chipmedic.faults.catalog import CatalogRow, catalog_of, catalog_text, lookup
from chipmedic.model import Action

FILE = "nvlink5.toml"
XIDS = range(144, 151)

_LINE = re.compile(
    r"\b(?P<unit>[A-Z][A-Z0-9_]*)\s+(?:Fatal|Non-?fatal)\s+XC\d\s+i\d+\s+Link\s+-?\d+\s+"
    r"\(0x(?P<interrupt>[0-9a-fA-F]{8})\s+0x(?P<status>[0-9a-fA-F]{8})[\s)]",
    re.IGNORECASE,
)
_ACTION_RANK = {action: rank for rank, action in enumerate(Action)}


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which lines one row of the table speaks of."""

    code: str
    xid: int
    units: frozenset[str]
    layouts: tuple[tuple[int, int], ...]
    """Mask and value of the interrupt register, before driver R575 and from it."""
    status: frozenset[int]
    """Empty: any."""

    def has_interrupt(self, interrupt: int) -> bool:
        """Say whether the interrupt register fits, in the layout of either driver."""
        return any(interrupt & mask == value for mask, value in self.layouts)


def read_patterns(text: str, *, file: str = FILE) -> tuple[Pattern, ...]:
    """Read the patterns of the table.

    Raises:
        ValueError: a pattern is wrong; names the file and the row.
    """
    data = tomllib.loads(text)
    patterns = []
    for key, row in data["codes"].items():
        try:
            patterns.append(_pattern(f"{data['prefix']}:{key}", row))
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(f"{file}: {data['prefix']}:{key}: {e!r}") from e
    return tuple(patterns)


def _pattern(code: str, row: Mapping[str, Any]) -> Pattern:
    layouts = tuple((int(mask), int(value)) for mask, value in (row["v1"], row["v2"]))
    pattern = Pattern(
        code, int(row["xid"]), frozenset(row["units"]), layouts, frozenset(row.get("status", ()))
    )
    if pattern.xid not in XIDS or not pattern.units:
        raise ValueError("xid must be 144 to 150, and units must name one")
    if any(value & ~mask for mask, value in layouts):
        raise ValueError("a value has bits outside its mask and can never fit")
    return pattern


@cache
def _patterns() -> tuple[Pattern, ...]:
    return read_patterns(catalog_text(FILE))


def decode(xid: int, text: str) -> CatalogRow | None:
    """Return the gravest row that the registers of a line name; None: cut, or in no row."""
    match = _LINE.search(text)
    if match is None:
        return None
    interrupt, status = int(match["interrupt"], 16), int(match["status"], 16)
    unit = match["unit"].upper()
    family = [pattern for pattern in _patterns() if pattern.xid == xid]
    named = [pattern for pattern in family if unit in pattern.units] or family
    here = [pattern for pattern in named if pattern.has_interrupt(interrupt)]
    fitting = [pattern for pattern in here if not pattern.status or status in pattern.status]
    return _gravest(pattern.code for pattern in fitting or _by_bits(here, status))


def _by_bits(patterns: Iterable[Pattern], status: int) -> list[Pattern]:
    """Return the rows of a status with several bits; only where each row is one bit of it."""
    several = list(patterns)
    if any(bits.bit_count() != 1 for pattern in several for bits in pattern.status):
        return []  # the status is a number here, not a set of flags
    return [pattern for pattern in several if any(bits & status for bits in pattern.status)]


def _gravest(codes: Iterable[str]) -> CatalogRow | None:
    rows = [catalog_of("nvlink5")[code] for code in codes]
    return max(rows, key=lambda row: (row.severity, _ACTION_RANK[row.action]), default=None)


def described(code: str, *texts: str) -> CatalogRow:
    """Return the row that says most of a code: the registers' own where a text prints them."""
    prefix, _, number = code.partition(":")
    if prefix == "xid" and number.isdecimal() and int(number) in XIDS:
        decoded = (decode(int(number), text) for text in texts)
        return next((row for row in decoded if row is not None), lookup(code))
    return lookup(code)
