"""What the ledger says to Prometheus: how effective the jobs were, and what cost the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from chipmedic_watchdog.ledger.fleet import Fleet, accounts, fleet
from chipmedic_watchdog.ledger.phases import LOST
from chipmedic_watchdog.ledger.sums import UNEXPLAINED
from chipmedic_watchdog.ledger.totals import lost_so_far
from chipmedic_watchdog.store import schema

SERIES_MAX = 200
"""Jobs with a series of their own: the ones that moved last. A scrape must stay cheap."""
WINDOWS: Mapping[str, float] = {"1d": 86_400.0, "30d": 2_592_000.0}
FRESH_SECONDS = 60.0
"""So long the sums over a window are said again: they change slowly and cost the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFigures:
    """What one scrape is told."""

    lost_seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """All that was ever lost, by (phase, cause); every phase has at least the unexplained."""
    job_ratios: Mapping[str, float] = field(default_factory=dict)
    """By running job, over its whole life."""
    windows: Mapping[str, Fleet] = field(default_factory=dict)
    """The sums over each window of time that ends now."""


class LedgerReader:
    """Reads the figures, the dear ones once a minute."""

    def __init__(self) -> None:
        self._windows: tuple[float, dict[str, Fleet]] = (-FRESH_SECONDS, {})

    def read(self, connection: Connection, now: float) -> LedgerFigures:
        """Return the figures; may be called from several threads."""
        read_at, windows = self._windows
        if not read_at <= now < read_at + FRESH_SECONDS:
            windows = {
                name: fleet(connection, now - seconds, now) for name, seconds in WINDOWS.items()
            }
            self._windows = now, windows
        nothing = {(phase.value, UNEXPLAINED): 0.0 for phase in LOST}
        return LedgerFigures(
            lost_seconds=nothing | lost_so_far(connection, now),
            job_ratios=effective_ratios(connection, now),
            windows=windows,
        )


def effective_ratios(connection: Connection, now: float) -> dict[str, float]:
    """Return the effective ratio of each running job that tells its steps."""
    nodes, progress = schema.job_nodes, schema.job_progress
    live = select(nodes.c.job).where(nodes.c.is_present.is_(True))
    jobs = connection.execute(
        select(progress.c.job)
        .where(progress.c.job.in_(live))
        .group_by(progress.c.job)
        .order_by(func.max(progress.c.at).desc())
        .limit(SERIES_MAX)
    ).scalars()
    return {
        one.job: one.effective_ratio
        for one in accounts(connection, list(jobs), now)
        if one.effective_ratio is not None and not one.is_over
    }
