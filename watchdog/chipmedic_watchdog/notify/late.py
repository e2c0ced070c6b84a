"""Which ranks of a standing job did not arrive: those whose step is behind the furthest.

Every node tells its own ranks' steps, so only here they can be compared. A rank that beats when its
own part of a step is done, before it waits for the others, is behind exactly when it never came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """Ranks of one node that are behind."""

    node: str
    ranks: tuple[int, ...]
    step: int
    furthest: int
    """The step that the furthest ranks have reached."""


def late_ranks(reports: Iterable[Any]) -> tuple[Late, ...]:
    """Return who is behind, the furthest behind first; nobody when all stand at one step.

    `reports` are rows of `job_nodes`, all of one job.
    """
    reports = list(reports)
    newest = max((report.attempt for report in reports), default=0)
    steps = {
        report.node: _steps(report)
        for report in reports
        if report.attempt == newest and report.pids
    }
    furthest = max((step for ranks in steps.values() for step in ranks.values()), default=0)
    late: dict[tuple[int, str], list[int]] = {}
    for node, ranks in steps.items():
        for rank, step in ranks.items():
            if step < furthest:
                late.setdefault((step, node), []).append(rank)
    return tuple(
        Late(node=node, ranks=tuple(sorted(ranks)), step=step, furthest=furthest)
        for (step, node), ranks in sorted(late.items())
    )


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
