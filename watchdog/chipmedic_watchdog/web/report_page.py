"""The ledger's report as one page that needs nothing else: to read, to send, to print.

No script, no font, no picture from elsewhere; the timeline is SVG inside of it. Whatever a job or
an incident is called stands in it as text only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from sqlalchemy import Connection

from chipmedic_watchdog.ledger.account import Account
from chipmedic_watchdog.ledger.fleet import accounts, fleet, moved_since
from chipmedic_watchdog.ledger.phases import LOST
from chipmedic_watchdog.ledger.summary import of_fleet, of_job, summary, titles, windowed
from chipmedic_watchdog.ledger.text import PHASES, clock, duration, percent
from chipmedic_watchdog.ledger.timeline import WIDTH, Piece, pieces, ticks
from chipmedic_watchdog.ledger.vendors import vendors_of
from chipmedic_watchdog.web.problem import Problem
from chipmedic_watchdog.web.report_words import WORDS

BARS_MAX = 40
"""Jobs in the picture: those that lost most."""
ROWS_MAX = 300
"""Losses in the table: the longest ones."""
JOBS_MAX = 1_000
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
}
_LOST_NAMES = tuple(phase.value for phase in LOST)


@dataclass(frozen=True, slots=True)
class Bar:
    """One job in the picture."""

    job: str
    ratio: float | None
    pieces: Sequence[Piece]


class ReportPage:
    """Renders the template."""

    def __init__(self, version: str) -> None:
        self._version = version
        environment = Environment(
            loader=PackageLoader("chipmedic_watchdog.web"), autoescape=select_autoescape(),
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        environment.filters |= {"utc": clock, "percent": percent}
        self._template = environment.get_template("report.html")

    def of_job(self, connection: Connection, job: str, language: str) -> str:
        """Return the page of one job, over its whole life.

        Raises:
            Problem: 404.
        """
        now = time.time()
        data = summary(connection, job, now)
        if data is None:
            raise Problem(HTTPStatus.NOT_FOUND, f"there is no job {job!r}")
        made = accounts(connection, [job], now)
        span = (data["began_at"], data["end_at"])
        return self._render(
            language, made, span, data["incidents"], title=job, head=data, jobs=[],
            losses=_losses([data]),
        )  # fmt: skip

    def of_all(self, connection: Connection, since: float, language: str) -> str:
        """Return the page of all jobs that moved since a time."""
        now = time.time()
        made = windowed(connection, moved_since(connection, since)[:JOBS_MAX], since, now)
        vendors = vendors_of(connection, {one.job for one in made})
        jobs = [of_job(one, vendors[one.job]) for one in made]
        head = of_fleet(fleet(connection, since, now))
        begin = max(since, min((one.began_at for one in made), default=since))
        return self._render(
            language, made, (begin, now), titles(connection, made), title="", head=head,
            jobs=jobs, losses=_losses(jobs),
        )  # fmt: skip

    def _render(
        self, language: str, made: Sequence[Account], span: tuple[float, float],
        incidents: Mapping[str, Any], **more: Any,
    ) -> str:  # fmt: skip
        lost = {one.job: sum(i.seconds for i in one.lost) for one in made}
        shown = sorted(made, key=lambda one: (-lost[one.job], one.job))[:BARS_MAX]
        bars = [Bar(one.job, one.effective_ratio, pieces(one, *span)) for one in shown]
        phases = [p for p in PHASES[language] if more["head"]["seconds"].get(p)]
        return self._template.render(
            language=language,
            words=WORDS[language],
            names=PHASES[language],
            phases=phases,
            lost_names=_LOST_NAMES,
            bars=bars,
            bars_left_out=len(made) - len(shown),
            ticks=ticks(*span),
            width=WIDTH,
            span=span,
            incidents=incidents,
            long=lambda seconds: duration(seconds, language),
            rows_max=ROWS_MAX,
            version=self._version,
            **more,
        )


def _losses(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the losses of all jobs, the longest first, each with its job and worst phase."""
    found = [
        {**loss, "job": job["job"],
         "worst": max(loss["stages"], key=lambda stage: float(stage["seconds"]))["phase"]}
        for job in jobs
        for loss in job["losses"]
    ]  # fmt: skip
    return sorted(found, key=lambda loss: -float(loss["seconds"]))
