"""The open faults of one node as the watchdog sees them: pure, no store and no clock.

Invariant: after every event of an epoch and a covering snapshot are in, the board is the node's own
truth, whatever was lost, repeated or cut on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from chipmedic.model import Fault, Verdict

WATCHDOG = "watchdog"
"""The source of faults that the watchdog itself raises; a node's snapshot says nothing of them."""

OPEN_FAULTS_MAX = 1000
"""Of one node. Far more than a sick one has; without it one hostile agent costs all others their
correlation."""

Key = tuple[str, str]
"""(component, kind)."""


@dataclass(slots=True, kw_only=True)
class FaultRow:
    """One row of the table `faults`; `id` is None until it is inserted."""

    id: int | None = None
    node: str
    component: str
    kind: str
    severity: int
    action: str
    node_since: float
    opened_at: float
    updated_at: float
    summary: str
    source: str
    codes: list[str]
    evidence: list[str]
    count: int
    job: str | None
    state: str = "open"
    cleared_at: float | None = None
    clear_reason: str = ""
    is_changed: bool = True

    @property
    def key(self) -> Key:
        """What makes two sightings one fault."""
        return (self.component, self.kind)


class FaultBoard:
    """Takes what a node says and keeps which faults are open."""

    def __init__(self, node: str, rows: Iterable[FaultRow] = ()) -> None:
        self.node = node
        self.open: dict[Key, FaultRow] = {row.key: row for row in rows}
        self.ended: list[FaultRow] = []
        self.may_open: Callable[[], bool] = lambda: True
        """Whether the node may open one more; asked once for each."""
        self.refused = 0
        """Faults that were not opened, because the node has too many."""

    def see(self, fault: Fault, at: float) -> None:
        """Take a raised, repeated or changed fault: events carry the state, so each will do."""
        key = (str(fault.component), fault.kind)
        row = self.open.get(key)
        if row is None:
            if fault.source != WATCHDOG and not self._has_room():
                self.refused += 1
                return
            self.open[key] = _row(self.node, fault, at)
            return
        _overwrite(row, fault, at)

    def _has_room(self) -> bool:
        return len(self.open) < OPEN_FAULTS_MAX and self.may_open()

    def clear(self, key: Key, at: float, reason: str) -> None:
        """End a fault; one that is not open stays as it is."""
        row = self.open.pop(key, None)
        if row is None:
            return
        # Our clock may have been set back meanwhile; nothing ends before it began.
        row.state, row.cleared_at, row.clear_reason = "cleared", max(at, row.opened_at), reason
        row.updated_at, row.is_changed = at, True
        self.ended.append(row)

    def reconcile(
        self,
        present: Iterable[Fault],
        verdicts: dict[str, Verdict],
        at: float,
        *,
        is_whole: bool = True,
        newer: frozenset[Key] = frozenset(),
    ) -> None:
        """Take a snapshot: what it holds is open, what it lacks has ended or is not known.

        `newer` are the faults that events after the snapshot have changed; of those it is out of
        date. A snapshot that is not whole ends nothing.
        """
        seen: set[Key] = set()
        for fault in present:
            key = (str(fault.component), fault.kind)
            seen.add(key)
            if key not in newer:
                self._confirm(key, fault, at)
        if not is_whole:
            return
        for key, row in list(self.open.items()):
            if key in seen or key in newer or row.source == WATCHDOG:
                continue
            if verdicts.get(row.source, Verdict.UNKNOWN) is Verdict.UNKNOWN:
                self._doubt(row, at)
            else:
                self.clear(key, at, "snapshot")

    def _confirm(self, key: Key, fault: Fault, at: float) -> None:
        """Open it, or bring it up to date where the snapshot says anything new."""
        row = self.open.get(key)
        if row is None or row.state != "open" or _differs(row, fault):
            self.see(fault, at)

    @staticmethod
    def _doubt(row: FaultRow, at: float) -> None:
        if row.state != "unknown":
            row.state, row.updated_at, row.is_changed = "unknown", at, True


def _row(node: str, fault: Fault, at: float) -> FaultRow:
    return FaultRow(
        node=node,
        component=str(fault.component),
        kind=fault.kind,
        severity=int(fault.severity),
        action=fault.action.value,
        node_since=fault.since,
        opened_at=at,
        updated_at=at,
        summary=fault.summary,
        source=fault.source,
        codes=list(fault.codes),
        evidence=list(fault.evidence),
        count=fault.count,
        job=fault.job,
    )


def _overwrite(row: FaultRow, fault: Fault, at: float) -> None:
    fresh = _row(row.node, fault, at)
    for name in _TOLD:
        setattr(row, name, getattr(fresh, name))
    row.state, row.updated_at, row.is_changed = "open", at, True


_TOLD = (
    "severity", "action", "node_since", "summary", "source", "codes", "evidence", "count", "job",
)  # fmt: skip


def _differs(row: FaultRow, fault: Fault) -> bool:
    return (
        row.severity != int(fault.severity)
        or row.count != fault.count
        or row.codes != list(fault.codes)
        or row.summary != fault.summary
        or row.source != fault.source
    )
