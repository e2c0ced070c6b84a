"""What a log that somebody pastes means: which chip, the cause before what follows from it.

The log may be `dmesg`, a journal, a training log, or several of them one behind the other. Lines
are grouped by host and part, repeats of one code are counted; `causes` puts them in order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

from chipmedic.faults.causes import Cause, Place, Sighting, in_order
from chipmedic.faults.finding import Finding
from chipmedic.faults.kernel_lines import (
    NEEDLES,
    QUOTING_PROGRAMS,
    read_stripped,
)
from chipmedic.faults.lines_training import NEEDLES as TRAINING_NEEDLES
from chipmedic.faults.lines_training import read_training_text
from chipmedic.faults.nvlink5 import described
from chipmedic.faults.rule import normal_pci
from chipmedic.faults.sieve import Sieve
from chipmedic.faults.wrapped import strip_line

SIGHTINGS_MAX = 5000
"""Different (chip, code) pairs that are kept; a log with more is not read by anybody anyway."""

_UUID = re.compile(r"NVRM: GPU at PCI:([0-9a-fA-F:.]+): (GPU-[0-9a-f-]+)")


@dataclass(slots=True)
class Report:
    """The meaning of a log."""

    lines: int
    """How many lines were read."""
    causes: list[Cause]
    """Worst first; `causes[0]` is where to start."""
    symptoms: list[tuple[Place, Sighting]]
    """Time-outs and the like that no cause in this log explains; empty when one does."""


def explain_stream(stream: BinaryIO) -> Report:
    """Read a log to its end and say what it means; memory does not grow with its length."""
    reader, number = _Reader(), 0
    for number, text in _sieve().candidates(stream):
        reader.take(number, text)
    return reader.report(lines=number)


@cache
def _sieve() -> Sieve:
    return Sieve((*NEEDLES, *TRAINING_NEEDLES))


class _Reader:
    """Collects what the lines state, by part and code."""

    def __init__(self) -> None:
        self._sightings: dict[tuple[str, str, bool], dict[str, Sighting]] = {}
        self._uuids: dict[tuple[str, str], str] = {}

    def take(self, number: int, text: str) -> None:
        """Note what one line states."""
        stripped = strip_line(text)
        host = stripped.host or ""
        if known := _UUID.search(stripped.text):
            self._uuids[host, _bus(known[1])] = known[2]
            return
        if stripped.program in QUOTING_PROGRAMS:
            return
        seen = read_stripped(stripped)
        finding = seen or read_training_text(stripped.text)
        if finding is None:
            return
        part = (host, _part(finding), seen is None)
        codes = self._sightings.setdefault(part, {})
        sighting = codes.get(finding.code)
        if sighting is None:
            if sum(map(len, self._sightings.values())) >= SIGHTINGS_MAX:
                return
            row = described(finding.code, finding.message)
            sighting = codes[finding.code] = Sighting(finding, row, number, stripped.stamp)
        elif finding.severity > sighting.finding.severity or _says_more(finding, sighting.finding):
            sighting.finding = finding
            sighting.row = described(finding.code, finding.message)
        sighting.count += finding.count

    def report(self, *, lines: int) -> Report:
        """Put causes before what follows from them."""
        parts = [
            (Place(host, name, self._uuids.get((host, name)), is_job), list(codes.values()))
            for (host, name, is_job), codes in self._sightings.items()
        ]
        causes, symptoms = in_order(parts)
        return Report(lines, causes, symptoms)


def _says_more(finding: Finding, known: Finding) -> bool:
    """Tell whether a line of the same event is the better evidence: it names the victim."""
    is_same = finding.severity is known.severity
    return is_same and "Killed process" in finding.message and "Killed process" not in known.message


def _part(finding: Finding) -> str:
    """Return the name of the part that a finding speaks of."""
    if finding.pci is not None:
        return _bus(finding.pci)
    return finding.device or ""


def _bus(pci: str) -> str:
    """Return an address without its function: Xid lines have none, other lines of the chip have."""
    return normal_pci(pci).split(".", 1)[0]
