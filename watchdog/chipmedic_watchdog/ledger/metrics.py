"""The ledger's figures as Prometheus has them; how many series there can be is bounded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from chipmedic.faults.kinds import KINDS
from chipmedic_watchdog.ledger.figures import LedgerFigures
from chipmedic_watchdog.ledger.sums import FORGOTTEN, UNEXPLAINED, Whole

OTHER = "other"
"""Causes that a plug-in names, or a hostile agent; and vendors beyond the largest ones."""
VENDORS_MAX = 20


def ledger_metrics(figures: LedgerFigures) -> Iterator[Metric]:
    """Yield the gauges; they are no counters, because a report that comes late corrects them."""
    ratio = GaugeMetricFamily(
        "chipmedic_effective_ratio",
        "Share of all jobs' time that made new steps, over the window that ends now.",
        labels=["window"],
    )
    time = GaugeMetricFamily(
        "chipmedic_job_time_seconds",
        "Time of all jobs, by what it went to and by vendor, over the window that ends now.",
        labels=["window", "vendor", "phase"],
    )
    for window, found in figures.windows.items():
        if found.whole.effective_ratio is not None:
            ratio.add_metric([window], found.whole.effective_ratio)
        for vendor, whole in sorted(_largest(found.vendors).items()):
            for phase, seconds in whole.seconds.items():
                time.add_metric([window, vendor, phase.value], seconds)
    lost = GaugeMetricFamily(
        "chipmedic_lost_seconds",
        "Time that jobs have lost so far, by what it went to and the kind of incident.",
        labels=["phase", "cause"],
    )
    for labels, seconds in sorted(_bounded(figures.lost_seconds).items()):
        lost.add_metric(labels, seconds)
    jobs = GaugeMetricFamily(
        "chipmedic_job_effective_ratio",
        "Share of a running job's whole life that made new steps.",
        labels=["job"],
    )
    for job, share in sorted(figures.job_ratios.items()):
        jobs.add_metric([job], share)
    yield from (ratio, time, lost, jobs)


def _bounded(lost: Mapping[tuple[str, str], float]) -> Mapping[tuple[str, str], float]:
    """Add up the causes that no catalogue has."""
    known = {*KINDS, UNEXPLAINED, FORGOTTEN}
    found: defaultdict[tuple[str, str], float] = defaultdict(float)
    for (phase, cause), seconds in lost.items():
        found[phase, cause if cause in known else OTHER] += seconds
    return found


def _largest(vendors: Mapping[str, Whole]) -> Mapping[str, Whole]:
    """Add up the vendors beyond the largest ones."""
    ordered = sorted(vendors, key=lambda name: -vendors[name].wall_seconds)
    found = {name: vendors[name] for name in ordered[:VENDORS_MAX]}
    for name in ordered[VENDORS_MAX:]:
        found.setdefault(OTHER, Whole()).add(vendors[name].seconds)
    return found
