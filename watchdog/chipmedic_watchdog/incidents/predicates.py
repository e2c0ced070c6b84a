"""When two faults belong together: the predicates that a rule of `rules.toml` may name. Pure.

Each is a frozen dataclass whose fields are the parameters of the rule. Two faults can only fit when
they share one of their `keys`, so that a fault among ten thousand is compared with few others. A
rule about two different things (a job and the part that it waits for) also has `seeks`: the keys of
the other one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from chipmedic_watchdog.incidents.picture import FaultFact, Picture

CRITICAL = 3

PHYSICAL = ("memory.", "link.", "nic.", "pcie.", "thermal.", "power.", "host.", "node.", "driver.",
            "collector.", "chip.lost", "job.")  # fmt: skip
"""Kinds that no program causes, on however many chips they show at once."""


class Across(StrEnum):
    """What two faults must have in common."""

    CHIP = "chip"
    NODE = "node"
    JOB = "job"


class Predicate(Protocol):
    """What every predicate of two faults can do."""

    def keys(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Yield what a partner must have too; nothing: the rule does not concern this fault."""
        ...

    def fits(self, fault: FaultFact, member: FaultFact, picture: Picture) -> bool:
        """Say whether two faults with a common key belong together, in either order."""
        ...


@dataclass(frozen=True, slots=True)
class SameChip:
    """Both are of one chip, its links included."""

    def keys(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return the chip."""
        return [(fault.node, fault.chip)] if fault.chip is not None else []

    def fits(self, fault: FaultFact, member: FaultFact, picture: Picture) -> bool:
        """Return True: the key says it all."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class SamePart:
    """Both are of one component: a port that flaps and a port that is down."""

    kinds: tuple[str, ...]

    def keys(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return the component."""
        return [(fault.node, fault.component)] if fault.kind.startswith(self.kinds) else []

    def fits(self, fault: FaultFact, member: FaultFact, picture: Picture) -> bool:
        """Return True: the key says it all."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class SameCode:
    """One vendor code on two chips of one job, of a kind that a program can cause."""

    except_kinds: tuple[str, ...] = PHYSICAL

    def keys(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return each of its codes with each of its jobs."""
        if fault.chip is None or fault.kind.startswith(self.except_kinds):
            return []
        return [(job, code) for job in picture.jobs_of(fault) for code in fault.codes]

    def fits(self, fault: FaultFact, member: FaultFact, picture: Picture) -> bool:
        """Say whether they are two chips."""
        return (fault.node, fault.chip) != (member.node, member.chip)


@dataclass(frozen=True, slots=True, kw_only=True)
class SameJob:
    """One job, told by several of its nodes.

    A job that stands still again has a reason of its own, however long the former one's incident
    stays open: a port that is still down explains nothing that begins an hour later.
    """

    again_seconds: float = 30.0
    """What is told within this after the end of the first telling is the same stand-still."""

    def keys(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return the job of a job's own fault."""
        return [fault.job] if fault.kind.startswith("job.") and fault.job is not None else []

    def fits(self, fault: FaultFact, member: FaultFact, picture: Picture) -> bool:
        """Say whether one was not long over when the other began."""
        first, later = sorted((member, fault), key=lambda each: each.opened_at)
        ended_at = first.cleared_at
        return ended_at is None or later.opened_at - ended_at <= self.again_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RootOfJob:
    """A job that stands still, and a failed part that it uses."""

    kinds: tuple[str, ...]
    """That explain a hang or a crash, when critical."""
    warning_kinds: tuple[str, ...] = ()
    """That explain it as warnings too, when they come close to it."""
    warning_window_seconds: float = 60.0

    def keys(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return the jobs that it hurts, or the job that it is about."""
        return self._roles(fault, picture, is_job=fault.kind.startswith("job."))

    def seeks(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return the same in the other role."""
        return self._roles(fault, picture, is_job=not fault.kind.startswith("job."))

    def _roles(self, fault: FaultFact, picture: Picture, *, is_job: bool) -> Iterable[Hashable]:
        if not fault.kind.startswith(("job.", *self.kinds, *self.warning_kinds)):
            return []
        return [(is_job, job) for job in picture.jobs_of(fault)]

    def fits(self, fault: FaultFact, member: FaultFact, picture: Picture) -> bool:
        """Say whether one of the two is the job and the other explains it."""
        return self._explains(fault, member) or self._explains(member, fault)

    def _explains(self, root: FaultFact, hang: FaultFact) -> bool:
        if not hang.kind.startswith("job.") or root.kind.startswith("job."):
            return False
        # A job that moves again needs no cause, and what was over before it stood is none.
        if not root.meets(hang):
            return False
        if root.severity >= CRITICAL:
            return root.kind.startswith(self.kinds)
        distance = abs(root.opened_at - hang.opened_at)
        return (
            root.kind.startswith(self.warning_kinds)
            and bool(self.warning_kinds)
            and distance <= self.warning_window_seconds
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SameKind:
    """One condition on several parts of one node, or on several nodes of one job."""

    across: Across = Across.NODE
    kinds: tuple[str, ...] = ("",)
    except_kinds: tuple[str, ...] = ("job.", "app.")

    def keys(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return its kind with what it is common to."""
        if not fault.kind.startswith(self.kinds) or fault.kind.startswith(self.except_kinds):
            return []
        return [(key, fault.kind) for key in _common(fault, self.across, picture)]

    def fits(self, fault: FaultFact, member: FaultFact, picture: Picture) -> bool:
        """Return True: the key says it all."""
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """What follows on a node from a critical fault of one of its parts."""

    kinds: tuple[str, ...]

    def keys(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return the node."""
        return [fault.node]

    def fits(self, fault: FaultFact, member: FaultFact, picture: Picture) -> bool:
        """Say whether one of the two follows from the other."""
        return self._follows(fault, member) or self._follows(member, fault)

    def _follows(self, later: FaultFact, cause: FaultFact) -> bool:
        return (
            later.kind.startswith(self.kinds)
            and cause.severity >= CRITICAL
            and not cause.kind.startswith(("job.", "app."))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEnds:
    """Links of two chips of one node: the two ends of one of them fail together."""

    kinds: tuple[str, ...] = ("link.",)

    def keys(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return the node."""
        return [fault.node] if fault.kind.startswith(self.kinds) else []

    def fits(self, fault: FaultFact, member: FaultFact, picture: Picture) -> bool:
        """Say whether they are two chips."""
        return fault.chip != member.chip


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPeer:
    """Ports at two ends of one cable, or in one switch, as the agents' labels name them.

    The label `<prefix><port>` of a node names what its port is plugged into: a switch (`leaf-07`),
    or a port of another node (`n2/mlx5_0/1`).
    """

    kinds: tuple[str, ...] = ("nic.", "link.")
    prefix: str = "peer."

    def keys(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return its own place, and what it is plugged into."""
        if not fault.kind.startswith(self.kinds):
            return []
        port = fault.component.partition(":")[2]
        peer = picture.labels.get(fault.node, {}).get(self.prefix + port)
        return [f"{fault.node}/{port}", peer] if peer else [f"{fault.node}/{port}"]

    def fits(self, fault: FaultFact, member: FaultFact, picture: Picture) -> bool:
        """Say whether they are two ports."""
        return (fault.node, fault.component) != (member.node, member.component)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLabel:
    """The same trouble on several nodes that have a label in common."""

    labels: tuple[str, ...]
    kinds: tuple[str, ...]

    def keys(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return the labels of its node."""
        if not fault.kind.startswith(self.kinds):
            return []
        own = picture.labels.get(fault.node, {})
        return [(name, own[name]) for name in self.labels if own.get(name)]

    def fits(self, fault: FaultFact, member: FaultFact, picture: Picture) -> bool:
        """Say whether they are two nodes."""
        return fault.node != member.node


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """Which faults are one half of a pair; of kinds and codes one is enough."""

    kinds: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()

    def match(self, fault: FaultFact) -> bool:
        """Say whether a fault is such a signal."""
        if self.kinds and fault.kind.startswith(self.kinds):
            return True
        return not set(self.codes).isdisjoint(fault.codes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two signals that mean more together than each alone, also where each is a mere note."""

    first: Signals
    second: Signals
    across: Across

    def keys(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return which halves it is, with what the two must have in common."""
        halves = (self.first, self.second)
        return self._halves(fault, picture, [n for n in (0, 1) if halves[n].match(fault)])

    def seeks(self, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
        """Return the same of the other half."""
        halves = (self.first, self.second)
        return self._halves(fault, picture, [1 - n for n in (0, 1) if halves[n].match(fault)])

    def _halves(self, fault: FaultFact, picture: Picture, roles: list[int]) -> Iterable[Hashable]:
        if not roles:
            return []
        return [(n, key) for key in _common(fault, self.across, picture) for n in roles]

    def fits(self, fault: FaultFact, member: FaultFact, picture: Picture) -> bool:
        """Say whether each of the two is another half, and both were there at one time."""
        return fault.meets(member) and (
            (self.first.match(fault) and self.second.match(member))
            or (self.first.match(member) and self.second.match(fault))
        )


@dataclass(frozen=True, slots=True)
class Alone:
    """One fault by itself: what no other rule takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """A fault of a node that has opened so many incidents within the window already."""

    incidents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceGroup:
    """Nodes with a label in common that fall silent within the window."""

    labels: tuple[str, ...]
    """What nodes may share, the narrowest first."""
    nodes: int
    """So many silent nodes are enough ..."""
    ratio: float
    """... and so is this share of those that have the label, two at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceFleet:
    """Many nodes that fall silent within the window and have no label in common."""

    nodes: int
    ratio: float
    """Of all nodes; three silent ones at least."""


PREDICATES: dict[str, type] = {
    "alone": Alone,
    "flood": Flood,
    "same_chip": SameChip,
    "same_part": SamePart,
    "same_code": SameCode,
    "same_job": SameJob,
    "root_of_job": RootOfJob,
    "same_kind": SameKind,
    "consequence": Consequence,
    "link_ends": LinkEnds,
    "link_peer": LinkPeer,
    "shared_label": SharedLabel,
    "pair": Pair,
    "silence_group": SilenceGroup,
    "silence_fleet": SilenceFleet,
}
"""What stands behind `when` in a rule."""


def seeks(predicate: Predicate, fault: FaultFact, picture: Picture) -> Iterable[Hashable]:
    """Return the keys under which the partners of a fault are found."""
    if isinstance(predicate, RootOfJob | Pair):
        return predicate.seeks(fault, picture)
    return predicate.keys(fault, picture)


def _common(fault: FaultFact, across: Across, picture: Picture) -> Iterable[Hashable]:
    match across:
        case Across.CHIP:
            return [(fault.node, fault.chip)] if fault.chip is not None else []
        case Across.NODE:
            return [fault.node]
        case Across.JOB:
            return picture.jobs_of(fault)
