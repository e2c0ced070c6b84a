"""One incident while the correlation works on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from chipmedic_watchdog.incidents.picture import (
    NODE_UNREACHABLE,
    FaultFact,
    IncidentChange,
    IncidentFact,
    Picture,
)
from chipmedic_watchdog.incidents.rules import FLEET, GROUP, SINGLE, SOFTWARE, heavier, precedence

BLOCKING_RECOVERIES = frozenset({"planned", "running", "verifying"})
"""While a recovery is in one of these states its incident is not over."""
TITLE_MAX = 200


@dataclass(slots=True, kw_only=True, eq=False)
class Case:
    """Members gather here; `change` says what came of it."""

    origin: IncidentFact | None = None
    cause: str = SINGLE.id
    members: list[FaultFact] = field(default_factory=list)
    attached: list[int] = field(default_factory=list)
    is_reopened: bool = False

    @classmethod
    def of(cls, incident: IncidentFact) -> Case:
        """Take an incident of the store."""
        return cls(origin=incident, cause=incident.cause, members=list(incident.members))

    @property
    def is_open(self) -> bool:
        """Whether faults may join it by the rules."""
        return self.origin is None or not self.origin.is_resolved or self.is_reopened

    @property
    def opened_at(self) -> float:
        """When it was opened, or its first fault was."""
        if self.origin is not None:
            return self.origin.opened_at
        return min(member.opened_at for member in self.members)

    @property
    def root(self) -> FaultFact:
        """The member that is nearest to the cause.

        One that is over stays the root until a fault joins: its end alone is no news.
        """
        told = self.origin.root_fault if self.origin is not None else None
        candidates = [
            member
            for member in self.members
            if not member.is_cleared or (member.id == told and not self.attached)
        ]
        return min(candidates or self.members, key=_nearness)

    @property
    def is_silence(self) -> bool:
        """Whether it is about nodes that went silent and nothing else."""
        return all(member.kind == NODE_UNREACHABLE for member in self.members)

    def join(self, fault: FaultFact, cause: str) -> None:
        """Take a fault in, for the reason that a rule names."""
        self.members.append(fault)
        self.attached.append(fault.id)
        self.cause = heavier(self.cause, cause)
        if self.origin is not None and self.origin.is_resolved:
            self.is_reopened = True

    def change(self, picture: Picture) -> IncidentChange | None:
        """Return what is to be written, or None where nothing changed."""
        origin = self.origin
        if origin is not None and origin.is_resolved and not self.is_reopened:
            return None
        root = self.root
        nodes = {member.node for member in self.members} | set(origin.nodes if origin else ())
        jobs = set(origin.jobs if origin else ())
        for member in self.members if self.attached else ():
            jobs |= picture.jobs_of(member)
        state, resolve_reason = self._state()
        severity = max([m.severity for m in self.members] + [origin.severity if origin else 0])
        is_news = (
            origin is None
            or self.is_reopened
            or resolve_reason is not None
            or severity > origin.severity
            or root.id != origin.root_fault
            or self.cause != origin.cause
        )
        if origin is not None and not (is_news or self.attached) and state == origin.state:
            return None
        return IncidentChange(
            incident=None if origin is None else origin.id,
            attach=tuple(self.attached),
            state=state,
            severity=severity,
            kind=root.kind,
            cause=self.cause,
            title=self._title(picture),
            root_fault=root.id,
            nodes=tuple(sorted(nodes)),
            jobs=tuple(sorted(jobs)),
            fault_at=min(member.began_at for member in self.members),
            is_news=is_news,
            is_reopened=self.is_reopened,
            resolve_reason=resolve_reason,
        )

    def _state(self) -> tuple[str, str | None]:
        """Return the state, and why it is over when it has just ended."""
        origin = self.origin
        if origin is None or self.is_reopened:
            return "open", None
        recoveries = origin.recovery_states
        if all(m.is_cleared for m in self.members) and not recoveries & BLOCKING_RECOVERIES:
            return "resolved", "every fault of it has cleared"
        if "verifying" in recoveries:
            return "verifying", None
        if recoveries & BLOCKING_RECOVERIES:
            return "recovering", None
        return ("acknowledged" if origin.is_acknowledged else "open"), None

    def _title(self, picture: Picture) -> str:
        root = self.root
        nodes = {member.node for member in self.members if member.kind == NODE_UNREACHABLE}
        if self.cause == GROUP.id:
            common = common_labels(self, picture)
            where = ", ".join(f"{name} {value}" for name, value in common.items())
            # Labels are loaded only while silence is judged; the title of then stays.
            if not where and self.origin is not None:
                return self.origin.title
            # The verdicts of one lost switch come spread over a second: the first notice counts
            # all who are silent.
            nodes |= {
                node
                for node in picture.silent
                if common.items() <= picture.labels.get(node, {}).items()
            }
            return f"{len(nodes)} nodes of {where or 'one group'} went silent"[:TITLE_MAX]
        if self.cause == FLEET.id:
            return f"{len(nodes | picture.silent)} nodes went silent together"
        if self.cause == SOFTWARE.id:
            chips = {member.chip for member in self.members if member.chip}
            code = root.codes[0] if root.codes else root.kind
            return f"{code} on {len(chips)} chips of one job: software suspected"[:TITLE_MAX]
        return f"{root.node}: {root.summary or root.kind}"[:TITLE_MAX]


def common_labels(case: Case, picture: Picture) -> dict[str, str]:
    """Return the labels that all silent nodes of a case share."""
    shared: set[tuple[str, str]] | None = None
    for member in case.members:
        if member.kind == NODE_UNREACHABLE:
            own = set(picture.labels.get(member.node, {}).items())
            shared = own if shared is None else shared & own
    return dict(sorted(shared or ()))


def _nearness(fault: FaultFact) -> tuple[int, int, int, float, int]:
    rank, place = precedence(fault.kind)
    return rank, -fault.severity, place, fault.began_at, fault.id
