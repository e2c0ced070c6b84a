"""Which ranks of a standing job did not arrive: those behind the furthest, and those that are gone.

Every node tells its own ranks' steps, so only here they can be compared. A rank that beats when its
own part of a step is done, before it waits for the others, is behind exactly when it never came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SAME_TIME_SECONDS = 30.0
"""A rank whose process is gone belongs to this standstill when its last step is not older, compared
with the last step of the others; else its node only remembers the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """Ranks of one node that did not arrive."""

    node: str
    ranks: tuple[int, ...]
    step: int
    furthest: int
    """The step that the furthest ranks have reached."""
    is_gone: bool = False
    """Their processes have ended, while others of the job live and wait."""


def late_ranks(reports: Iterable[Any]) -> tuple[Late, ...]:
    """Return who did not arrive, the furthest behind first; nobody when all stand at one step.

    `reports` are rows of `job_nodes`, all of one job.
    """
    reports = list(reports)
    newest = max((report.attempt for report in reports), default=0)
    living = [report for report in reports if report.attempt == newest and report.pids]
    furthest = max((step for one in living for step in _steps(one).values()), default=0)
    stands_since = max((one.step_at for one in living if one.step_at is not None), default=None)
    late: dict[tuple[int, str, bool], list[int]] = {}
    for report in reports:
        is_gone = not report.pids
        if report.attempt != newest or (is_gone and not _is_recent(report, stands_since)):
            continue
        for rank, step in _steps(report).items():
            if is_gone or step < furthest:
                late.setdefault((step, report.node, is_gone), []).append(rank)
    return tuple(
        Late(node=node, ranks=tuple(sorted(ranks)), step=step, furthest=furthest, is_gone=is_gone)
        for (step, node, is_gone), ranks in sorted(late.items())
    )


def _is_recent(report: Any, stands_since: float | None) -> bool:
    if report.step_at is None or stands_since is None:
        return False
    return bool(abs(stands_since - report.step_at) <= SAME_TIME_SECONDS)


def _steps(report: Any) -> dict[int, int]:
    """Return the step of each rank; of a node that does not tell them apart its own step."""
    told: dict[int, int] = {}
    for word in str(report.labels.get("rank_steps", "")).split():
        rank, _, step = word.partition(":")
        if rank.isdecimal() and step.isdecimal():
            told[int(rank)] = int(step)
    if told or report.step is None:
        return told
    return dict.fromkeys(report.ranks, report.step)
