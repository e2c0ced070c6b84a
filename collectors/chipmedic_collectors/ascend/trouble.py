"""A tool that shows no chip at all: what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

from chipmedic import Action, Event, GapReason, Severity
from chipmedic.tool_report import Problem, ProblemKind
from chipmedic_collectors.ascend.codes import REMIND_SECONDS
from chipmedic_collectors.ascend.draft import COLLECTOR

_DRIVER = (ProblemKind.DRIVER_DOWN, ProblemKind.TOOL_MISSING, ProblemKind.NO_DEVICES)
_RANK = {kind: rank for rank, kind in enumerate((*_DRIVER[:2], ProblemKind.PERMISSION))}
_REASONS = {
    ProblemKind.PERMISSION: GapReason.DENIED,
    ProblemKind.UNSUPPORTED: GapReason.UNSUPPORTED,
    ProblemKind.MALFORMED: GapReason.MALFORMED,
    ProblemKind.TRUNCATED: GapReason.MALFORMED,
    ProblemKind.CHIP_LOST: GapReason.MISSING,
    ProblemKind.NO_DEVICES: GapReason.MISSING,
}


def reason_of(kind: ProblemKind) -> GapReason:
    """Return the reason of a gap that this problem leaves."""
    return _REASONS.get(kind, GapReason.FAILED)


def worst(problems: Sequence[Problem]) -> Problem:
    """Return the problem that explains the others; there is at least one."""
    return min(problems, key=lambda problem: _RANK.get(problem.kind, len(_RANK)))


class Trouble:
    """Remembers what is wrong and since when, so that it is told once, with reminders."""

    def __init__(self) -> None:
        self._kind: ProblemKind | None = None
        self._since = 0.0
        self._told_at = 0.0

    def over(self) -> None:
        """The tool shows chips."""
        self._kind = None

    def event(self, problem: Problem, at: float, *, worked_before: bool) -> Event | None:
        """Return the event to tell now; None while there is nothing new about it.

        -8005 means a dead driver, but also missing rights, a driver that was upgraded without a
        reboot, or one never loaded. Where the tool worked before, the driver died; where it never
        did, a person has to set this host up, and no node is isolated for it.
        """
        if problem.kind is not self._kind:
            self._kind, self._since = problem.kind, at
        elif at - self._told_at < REMIND_SECONDS:
            return None
        self._told_at = at
        died = worked_before and problem.kind is ProblemKind.DRIVER_DOWN
        code = f"ascend:tool:{problem.kind.value}"
        return Event(
            component=COLLECTOR,
            code=code,
            message=problem.message,
            at=at,
            id=f"{code}@{self._since:.0f}",
            kind="driver.fault" if problem.kind in _DRIVER else "collector.failed",
            severity=Severity.CRITICAL if died else Severity.WARNING,
            action=Action.REBOOT_NODE if died else Action.FIX_HOST,
        )
