"""Which fault of a log is the cause, and what follows from it.

The rules, each learnt from captured cascades:

- of the lines of one part the gravest that is no companion is its cause: Xid 79 before the 45s;
- a chip that died explains the link errors of its neighbours and of the switch, and the tasks that
  wait for it; a disk that is gone explains its file systems; an AMD hive is reset as a whole;
- what programs say follows from what a kernel saw: a kernel sees the fault, a program its end;
- one program's fault on several chips is one program's fault; link faults of several chips are
  one fault of what lies between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from chipmedic.faults.catalog import CatalogRow
from chipmedic.faults.finding import Finding
from chipmedic.model import Action, Severity

_PROGRAMS_KNOW_BEST = frozenset({"host.fs_error", "driver.mismatch"})
"""What a program says of these is a cause of its own; of all else it sees only its own end."""
_GONE = frozenset({"kernel:disk.nvme_gone", "kernel:disk.controller", "kernel:disk.offline"})
"""Of several lines of one kind these explain the others."""
_NODE_FAILED = "train:node_failed"
_DECIDED_BY_SCHEDULER = frozenset({"train:time_limit", _NODE_FAILED})
_CAUSE_ORDER = (
    "host.memory_error",
    "host.cpu_error",
    "host.panic",
    "power.fault",
    "thermal.critical",
    "chip.lost",
    "memory.remap_failed",
    "memory.uncorrectable",
    "memory.contained",
    "chip.firmware",
    "chip.hung",
    "link.down",
    "host.disk_error",
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
    is_job: bool = False
    """What the job's own output says; `name` is empty."""


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
    """Where the same was seen too: one program on several chips, or links of several parts."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.root.finding.severity

    @property
    def action(self) -> Action:
        """What it asks for: the driver's own word (Xid 154) before the catalog's."""
        others = [s for _, s in self.echoes] if self.is_link else []
        for sighting in (*self.also, *others):
            if sighting.finding.code == "xid:154" and sighting.finding.action is not Action.NONE:
                return sighting.finding.action
        return self.root.finding.action

    @property
    def is_server(self) -> bool:
        """Whether it is a file server that does not answer: several hosts tell of one."""
        return self.root.finding.code in _REMOTE_FILES - {"kernel:fs.full"}

    @property
    def is_link(self) -> bool:
        """Whether it is a link between chips: what hits several parts is the fabric's."""
        return self.root.finding.kind.startswith("link.")


def in_order(
    parts: Iterable[tuple[Place, list[Sighting]]],
) -> tuple[list[Cause], list[tuple[Place, Sighting]]]:
    """Return the causes, worst first, and the symptoms that none of them explains."""
    causes, symptoms = [], []
    for place, sightings in parts:
        ordered = sorted(sightings, key=weight)
        roots = [s for s in ordered if not s.row.is_companion]
        roots = [s for s in roots if s.finding.severity > Severity.INFO]
        if roots:
            causes.append(Cause(place, roots[0], [s for s in ordered if s is not roots[0]]))
        else:
            symptoms += [(place, s) for s in ordered if s.finding.kind != "info"]
    causes = _with_one_program(causes)
    causes = _with_echoes(sorted(causes, key=lambda cause: weight(cause.root)))
    causes = _with_programs(_with_one_fabric(causes))
    told = [(p, s) for p, s in symptoms if s.row.is_companion]
    if causes and ends_a_job(causes[0]):
        causes[0].echoes += told
        told = []
    return causes, told


def weight(sighting: Sighting) -> tuple[int, int, bool, int]:
    """Sort key: gravest first, then what explains others, then what came first."""
    kind = sighting.finding.kind
    order = _CAUSE_ORDER.index(kind) if kind in _CAUSE_ORDER else len(_CAUSE_ORDER)
    if sighting.finding.code in _DECIDED_BY_SCHEDULER:
        order = -1
    is_gone = sighting.finding.code in _GONE
    return (-sighting.finding.severity, order, not is_gone, sighting.line)


def ends_a_job(cause: Cause) -> bool:
    """Tell whether a cause is grave enough to make other ranks wait for ever."""
    kind = cause.root.finding.kind
    return cause.severity is Severity.CRITICAL or kind.startswith(("app.", "job.", "nic."))


def _with_one_program(causes: list[Cause]) -> list[Cause]:
    """Join what one program or one file server did to several places: the same code there."""
    joined: list[Cause] = []
    first: dict[tuple[str, str], Cause] = {}
    for cause in causes:
        code = cause.root.finding.code
        is_shared = cause.root.finding.kind == "app.fault" or cause.is_server
        key = (code, cause.place.name if cause.is_server else "")
        if not is_shared or key not in first:
            joined.append(cause)
            first.setdefault(key, cause)
            continue
        first[key].other_places.append(cause.place)
        first[key].root.count += cause.root.count
    return joined


def _with_echoes(causes: list[Cause]) -> list[Cause]:
    """Attach to a cause what follows from it on the same host, by `ECHOES`.

    `causes` come gravest first. A part that no other explains stays a cause.
    """
    kept: list[Cause] = []
    for cause in causes:
        before = next((c for c in kept if _explains(c, cause)), None)
        if before is None:
            kept.append(cause)
            continue
        before.echoes += [(cause.place, s) for s in (cause.root, *cause.also)]
    return kept


def _explains(cause: Cause, other: Cause) -> bool:
    if cause.place.host != other.place.host or not cause.place.name or other.place.is_job:
        return False
    return any(
        cause.root.finding.kind in echo.of
        and other.root.finding.kind in echo.kinds
        and (not echo.vendors or _same_vendor(cause, other, echo.vendors))
        and (echo.is_near is None or echo.is_near(cause, other))
        for echo in ECHOES
    )


def _same_vendor(cause: Cause, other: Cause, vendors: frozenset[str]) -> bool:
    return cause.root.row.vendor in vendors and cause.root.row.vendor == other.root.row.vendor


def _same_disk(cause: Cause, other: Cause) -> bool:
    """Tell whether a part stands on a disk: `nvme3n1` and its file systems on `nvme3`."""
    if other.root.finding.kind == "host.fs_error":
        return other.root.finding.code not in _REMOTE_FILES
    one, two = cause.place.name, other.place.name
    return two.startswith((one, "dm-", "md")) or one.startswith(two or one + " ")


@dataclass(frozen=True, slots=True)
class Echo:
    """Kinds of fault of other parts that follow from a part's fault, on the same host."""

    of: frozenset[str]
    kinds: frozenset[str]
    vendors: frozenset[str] = frozenset()
    """Of both parts, and the same; empty: any."""
    is_near: Callable[[Cause, Cause], bool] | None = None


_REMOTE_FILES = frozenset(
    {"kernel:fs.nfs", "kernel:fs.cluster", "kernel:fs.cluster_gone", "kernel:fs.full"}
)

ECHOES = (
    # A chip that died takes its links along, and whoever waits for it in the driver.
    Echo(
        frozenset({"chip.lost", "chip.firmware", "chip.hung"}),
        frozenset({"link.down", "link.errors", "host.hung_task", "host.lockup", "job.crashed"}),
    ),
    Echo(frozenset({"chip.lost"}), frozenset({"pcie.errors"})),
    # One uncorrectable error resets every GPU of an XGMI hive.
    Echo(
        frozenset({"memory.uncorrectable"}),
        frozenset({"chip.hung", "chip.reset", "chip.internal", "chip.reset_required"}),
        vendors=frozenset({"amd", "hygon"}),
    ),
    Echo(
        frozenset({"host.disk_error"}),
        frozenset({"host.disk_error", "host.fs_error"}),
        is_near=_same_disk,
    ),
)


def _with_one_fabric(causes: list[Cause]) -> list[Cause]:
    """Join the link faults of one vendor's parts on one host: both ends of a link tell of it."""
    kept: list[Cause] = []
    first: dict[tuple[str, str], Cause] = {}
    for cause in causes:
        key = (cause.place.host, cause.root.row.vendor)
        if not cause.is_link or key not in first:
            kept.append(cause)
            if cause.is_link:
                first[key] = cause
            continue
        first[key].other_places.append(cause.place)
        first[key].echoes += [(cause.place, s) for s in (cause.root, *cause.also)]
    return kept


def _with_programs(causes: list[Cause]) -> list[Cause]:
    """Attach what programs say to what a kernel says: a kernel sees the fault, a program its end.

    Only a cause that ends a job explains it. What the scheduler decided explains all the rest of a
    job's output in the same way.
    """
    seen = next((c for c in causes if not c.place.is_job and ends_a_job(c)), None)
    decided = next((c for c in causes if c.root.finding.code in _DECIDED_BY_SCHEDULER), None)
    cause = seen or decided
    if cause is None:
        return causes
    said = [c for c in causes if c is not cause and _is_said_by_program(c)]
    cause.echoes += [(c.place, s) for c in said for s in (c.root, *c.also)]
    return [c for c in causes if c not in said]


def _is_said_by_program(cause: Cause) -> bool:
    finding = cause.root.finding
    is_program = cause.place.is_job and finding.code != _NODE_FAILED
    return is_program and finding.kind not in _PROGRAMS_KNOW_BEST
