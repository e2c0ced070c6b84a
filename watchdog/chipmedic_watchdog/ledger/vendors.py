"""Whose chips a job runs on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Set

from sqlalchemy import Connection, select

from chipmedic_watchdog.ledger.record import chunks
from chipmedic_watchdog.store import schema

MIXED, UNKNOWN = "mixed", "unknown"


def vendors_of(connection: Connection, jobs: Set[str]) -> dict[str, str]:
    """Return the vendor of each job; of one that ended long ago, as it was when it ended."""
    totals = schema.job_totals
    kept: dict[str, str] = {}
    for part in chunks(sorted(jobs)):
        settled = select(totals.c.job, totals.c.vendor).where(totals.c.job.in_(part))
        kept.update((row.job, row.vendor) for row in connection.execute(settled))
    present = _of_places(connection, jobs - kept.keys())
    return {job: kept.get(job) or _one_of(present.get(job, set())) for job in jobs}


def _of_places(connection: Connection, jobs: Set[str]) -> dict[str, set[str]]:
    """Return the vendors of the nodes' chips; only where nodes mix them do the job's own count."""
    places, chips = schema.job_nodes, schema.chips
    found: defaultdict[str, set[str]] = defaultdict(set)
    joined = places.join(chips, chips.c.node == places.c.node)
    for part in chunks(sorted(jobs)):
        query = select(places.c.job, chips.c.vendor).select_from(joined).distinct()
        for job, vendor in connection.execute(query.where(places.c.job.in_(part))):
            found[job].add(vendor)
    own: defaultdict[str, set[str]] = defaultdict(set)
    for part in chunks(sorted(job for job, vendors in found.items() if len(vendors) > 1)):
        held = select(places.c.job, places.c.chips, chips.c.uid, chips.c.vendor)
        held = held.select_from(joined).where(places.c.job.in_(part))
        for job, own_chips, uid, vendor in connection.execute(held):
            if uid in own_chips:
                own[job].add(vendor)
    return found | own


def _one_of(vendors: Collection[str]) -> str:
    if not vendors:
        return UNKNOWN
    return next(iter(vendors)) if len(vendors) == 1 else MIXED
