"""What a log that somebody pastes means: which chip, the cause before what follows from it.

The log may be `dmesg`, a journal, a training log, or several of them one behind the other. The
rules, each learnt from captured cascades:

- lines are grouped by host and chip; repeats of one code are counted;
- in a group the gravest line that is no companion is the cause: Xid 79 before the 45s behind it;
- when a chip died, link errors of its neighbours and of the switch are its echo;
- when anything on the hardware side is known, time-outs of collectives are symptoms, however many;
- one program's fault on several chips is one program's fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import BinaryIO

from chipmedic.faults.catalog import CatalogRow
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
from chipmedic.model import Action, Severity

SIGHTINGS_MAX = 5000
"""Different (chip, code) pairs that are kept; a log with more is not read by anybody anyway."""

_UUID = re.compile(r"NVRM: GPU at PCI:([0-9a-fA-F:.]+): (GPU-[0-9a-f-]+)")
_DEAD = frozenset({"chip.lost", "chip.firmware", "chip.hung"})
_ECHO_OF_DEATH = frozenset({"link.down", "link.errors"})
_PCIE = "pcie.errors"
_SAID_BY_PROGRAMS = frozenset(
    {
        *("job.crashed", "job.hung", "app.fault", "memory.uncorrectable", "link.errors"),
        *("chip.hung", "nic.errors", "host.oom", "driver.fault"),
    }
)
"""What a program reports when its chip, its host or another rank failed: it sees only its end."""
_NODE_FAILED = "train:node_failed"
_DECIDED_BY_SCHEDULER = frozenset({"train:time_limit", _NODE_FAILED})
_CAUSE_ORDER = (
    "host.panic",
    "host.memory_error",
    "power.fault",
    "thermal.critical",
    "chip.lost",
    "memory.remap_failed",
    "memory.uncorrectable",
    "memory.contained",
    "chip.firmware",
    "chip.hung",
)
"""Of two equally grave lines the one that explains the other; what is not here comes last."""


@dataclass(slots=True)
class Sighting:
    """One code on one part, and how often the log has it."""

    finding: Finding
    """As the first line states it, or the gravest."""
    row: CatalogRow
    line: int
    """The number of the first line, from 1."""
    stamp: str
    """When, as that line prints it; empty where it does not."""
    count: int = 0


@dataclass(slots=True)
class Place:
    """A part of a host: a chip, a port, a disk, the host itself, or a job."""

    host: str
    name: str
    """PCI address without function, device, or empty for the host (or job) as a whole."""
    uuid: str | None = None


@dataclass(slots=True)
class Cause:
    """What happened to one part, and what follows from it."""

    place: Place
    root: Sighting
    also: list[Sighting] = field(default_factory=list)
    """Other lines of the same part, gravest first."""
    echoes: list[tuple[Place, Sighting]] = field(default_factory=list)
    """Lines of other parts that follow from this."""
    other_places: list[Place] = field(default_factory=list)
    """Where the same was seen too; several chips at once mean one program."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.root.finding.severity

    @property
    def action(self) -> Action:
        """What it asks for: the driver's own word (Xid 154) before the catalog's."""
        for sighting in self.also:
            if sighting.finding.code == "xid:154" and sighting.finding.action is not Action.NONE:
                return sighting.finding.action
        return self.root.finding.action


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
        self._sightings: dict[tuple[str, str], dict[str, Sighting]] = {}
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
        finding = read_stripped(stripped) or read_training_text(stripped.text)
        if finding is None:
            return
        codes = self._sightings.setdefault((host, _part(finding)), {})
        sighting = codes.get(finding.code)
        if sighting is None:
            if sum(map(len, self._sightings.values())) >= SIGHTINGS_MAX:
                return
            row = described(finding.code, finding.message)
            sighting = codes[finding.code] = Sighting(finding, row, number, stripped.stamp)
        elif finding.severity > sighting.finding.severity:
            sighting.finding = finding
            sighting.row = described(finding.code, finding.message)
        sighting.count += finding.count

    def report(self, *, lines: int) -> Report:
        """Put causes before what follows from them."""
        causes, symptoms = [], []
        for (host, name), codes in self._sightings.items():
            place = Place(host, name, self._uuids.get((host, name)))
            ordered = sorted(codes.values(), key=_weight)
            roots = [s for s in ordered if not s.row.is_companion]
            roots = [s for s in roots if s.finding.severity > Severity.INFO]
            if roots:
                also = [s for s in ordered if s is not roots[0]]
                causes.append(Cause(place, roots[0], also))
            else:
                symptoms += [(place, s) for s in ordered if s.finding.kind != "info"]
        causes = _with_one_program(causes)
        causes = _with_echoes(sorted(causes, key=lambda cause: _weight(cause.root)))
        causes = _with_programs(causes)
        told = [(p, s) for p, s in symptoms if s.row.is_companion]
        if causes and _ends_a_job(causes[0]):
            causes[0].echoes += told
            told = []
        return Report(lines, causes, told)


def _part(finding: Finding) -> str:
    """Return the name of the part that a finding speaks of."""
    if finding.pci is not None:
        return _bus(finding.pci)
    return finding.device or ""


def _bus(pci: str) -> str:
    """Return an address without its function: Xid lines have none, other lines of the chip have."""
    return normal_pci(pci).split(".", 1)[0]


def _weight(sighting: Sighting) -> tuple[int, int, int]:
    """Sort key: gravest first, then what explains others, then what came first."""
    kind = sighting.finding.kind
    order = _CAUSE_ORDER.index(kind) if kind in _CAUSE_ORDER else len(_CAUSE_ORDER)
    if sighting.finding.code in _DECIDED_BY_SCHEDULER:
        order = -1
    return (-sighting.finding.severity, order, sighting.line)


def _ends_a_job(cause: Cause) -> bool:
    """Tell whether a cause is grave enough to make other ranks wait for ever."""
    kind = cause.root.finding.kind
    return cause.severity is Severity.CRITICAL or kind.startswith(("app.", "job.", "nic."))


def _with_one_program(causes: list[Cause]) -> list[Cause]:
    """Join the causes of one program: the same application code on several chips."""
    joined: list[Cause] = []
    first: dict[str, Cause] = {}
    for cause in causes:
        code = cause.root.finding.code
        if cause.root.finding.kind != "app.fault" or code not in first:
            joined.append(cause)
            first.setdefault(code, cause)
            continue
        first[code].other_places.append(cause.place)
        first[code].root.count += cause.root.count
    return joined


def _with_echoes(causes: list[Cause]) -> list[Cause]:
    """Attach to a dead chip the link and PCIe errors around it, on the same host.

    `causes` come gravest first. Only a chip that died explains others; a link error alone stays a
    cause.
    """
    kept: list[Cause] = []
    for cause in causes:
        kind = cause.root.finding.kind
        dead = next((c for c in kept if _explains(c, cause)), None)
        if dead is None or kind not in _ECHO_OF_DEATH | {_PCIE}:
            kept.append(cause)
            continue
        dead.echoes += [(cause.place, s) for s in (cause.root, *cause.also)]
    return kept


def _with_programs(causes: list[Cause]) -> list[Cause]:
    """Attach what programs say to what a kernel says: a kernel sees the fault, a program its end.

    Only a cause that ends a job explains it. What the scheduler decided explains all the rest of a
    job's output in the same way.
    """
    seen = next((c for c in causes if c.root.row.vendor != "job" and _ends_a_job(c)), None)
    decided = next((c for c in causes if c.root.finding.code in _DECIDED_BY_SCHEDULER), None)
    cause = seen or decided
    if cause is None:
        return causes
    said = [c for c in causes if c is not cause and _is_said_by_program(c)]
    cause.echoes += [(c.place, s) for c in said for s in (c.root, *c.also)]
    return [c for c in causes if c not in said]


def _is_said_by_program(cause: Cause) -> bool:
    finding = cause.root.finding
    is_program = cause.root.row.vendor == "job" and finding.code != _NODE_FAILED
    return is_program and finding.kind in _SAID_BY_PROGRAMS


def _explains(cause: Cause, other: Cause) -> bool:
    if cause.place.host != other.place.host or cause.root.finding.kind not in _DEAD:
        return False
    is_chip = bool(cause.place.name)
    is_pcie = other.root.finding.kind == _PCIE
    return is_chip and (not is_pcie or cause.root.finding.kind == "chip.lost")
