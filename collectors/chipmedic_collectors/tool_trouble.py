"""A tool that shows no chip at all: what is wrong with it, told once and with reminders."""

from __future__ import annotations

from collections.abc import Sequence

from chipmedic import Action, Event, GapReason, Severity
from chipmedic.model import collector_component
from chipmedic.tool_report import Problem, ProblemKind

REMIND_SECONDS = 300.0
"""A trouble that stays is told again this often, with the same `Event.id`."""
QUIET_SECONDS = 20.0
"""How long after its last word, of a tool that answers again, the trouble is over."""
_DRIVER = (ProblemKind.DRIVER_DOWN, ProblemKind.TOOL_MISSING, ProblemKind.NO_DEVICES)
_RANK = {kind: rank for rank, kind in enumerate((*_DRIVER, ProblemKind.PERMISSION))}
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
    """Return the problem that explains the others; without any, that the tool said nothing."""
    if not problems:
        return Problem(ProblemKind.MALFORMED, "the tool printed nothing that can be read")
    return min(problems, key=lambda problem: _RANK.get(problem.kind, len(_RANK)))


class Trouble:
    """Remembers what is wrong with a vendor's tool and since when."""

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor
        self._kind: ProblemKind | None = None
        self._since = 0.0
        self._told_at = 0.0

    def over(self) -> None:
        """The tool shows chips."""
        self._kind = None

    def event(self, problem: Problem, at: float, *, worked_before: bool) -> Event | None:
        """Return the event to tell now; None while there is nothing new about it.

        Where the tool worked before, the driver died; where it never did, a person has to set this
        host up, and no node is isolated for it.
        """
        if problem.kind is not self._kind:
            self._kind, self._since = problem.kind, at
        elif 0 <= at - self._told_at < REMIND_SECONDS:
            return None
        self._told_at = at
        died = worked_before and problem.kind in (ProblemKind.DRIVER_DOWN, ProblemKind.NO_DEVICES)
        code = f"{self._vendor}:tool:{problem.kind.value}"
        return Event(
            component=collector_component(self._vendor),
            code=code,
            message=problem.message,
            at=at,
            id=f"{code}@{self._since:.0f}",
            kind="driver.fault" if problem.kind in _DRIVER else "collector.failed",
            severity=Severity.CRITICAL if died else Severity.WARNING,
            action=Action.REBOOT_NODE if died else Action.FIX_HOST,
            quiet_seconds=QUIET_SECONDS,
        )
