"""/healthz: what works, what does not, and why."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from chipmedic.model import Coverage, Verdict
from chipmedic_agent.metrics import World

STALL_SECONDS = 10.0
"""The main loop ticks each second; so long without a tick it is stuck."""
DISCONNECTED_SECONDS = 30.0
"""How long a stream may be away before that is worth a word."""


class Pulse:
    """When the main loop last moved; beaten by the loop, read by the page's thread."""

    def __init__(self) -> None:
        self._beat = time.monotonic()

    def beat(self) -> None:
        """Say that the loop moves."""
        self._beat = time.monotonic()

    def age_seconds(self) -> float:
        """Return how long ago it last moved."""
        return time.monotonic() - self._beat


def health(world: World, pulse: Pulse) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the report.

    200 while the agent itself lives, also when something that it watches is sick; 503 when its loop
    is stuck or its state cannot be kept.
    """
    now = world.now()
    coverage = world.roster.coverage()
    failing = _failing(world, pulse)
    reasons = failing + _degraded(world, coverage, now)
    status = "failing" if failing else "degraded" if reasons else "ok"
    link = world.uplink.state
    report = {
        "status": status,
        "reasons": reasons,
        "node": world.identity.node,
        "version": world.identity.version,
        "boot_id": world.identity.boot_id,
        "loop_age_seconds": round(pulse.age_seconds(), 3),
        "checks": [_check(one, now) for one in coverage],
        "faults": [
            {
                "component": str(fault.component),
                "kind": fault.kind,
                "severity": fault.severity.name.lower(),
                "since": fault.since,
                "summary": fault.summary,
            }
            for fault in world.pipeline.book.open()
        ],
        "chips": {
            "known": len(world.pipeline.inventory.known()),
            "missing": [e.chip.uid for e in world.pipeline.inventory.known() if e.is_missing],
        },
        "jobs": [job.job for job in world.pipeline.jobs],
        "uplink": {
            "is_configured": world.uplink.is_configured,
            "watchdog": link.watchdog,
            "since": link.since,
            "trouble": link.trouble,
        },
        "spool": {
            "epoch": world.journal.epoch,
            "next_seq": world.journal.next_seq,
            "acknowledged_seq": world.journal.acked_seq,
            "events": world.journal.backlog_events,
            "bytes": world.journal.size_bytes,
            "lag_seconds": round(world.journal.lag_seconds(now), 3),
            "trouble": world.journal.trouble,
        },
        "configuration": asdict(world.reload),
    }
    return (503 if failing else 200), report


def _failing(world: World, pulse: Pulse) -> list[str]:
    reasons = []
    if pulse.age_seconds() > STALL_SECONDS:
        reasons.append(f"the main loop has not moved for {pulse.age_seconds():.0f} s")
    if world.journal.is_failing:
        reasons.append(f"events are only in memory: {world.journal.trouble}")
    return reasons


def _degraded(world: World, coverage: list[Coverage], now: float) -> list[str]:
    link, reload = world.uplink.state, world.reload
    reasons = [
        f"check {one.check} is unknown: {one.detail}"
        for one in coverage
        if one.verdict is Verdict.UNKNOWN
    ]
    is_away = world.uplink.is_configured and link.watchdog is None
    if is_away and now - link.since > DISCONNECTED_SECONDS:
        reasons.append(f"no watchdog for {now - link.since:.0f} s: {link.trouble}")
    if world.uplink.path_trouble:
        reasons.append(world.uplink.path_trouble)
    if world.membership is not None and world.membership.trouble:
        reasons.append(f"certificate: {world.membership.trouble}")
    if not reload.is_successful:
        reasons.append("the configuration file is wrong; the one before is in force")
    if reload.needs_restart:
        reasons.append(f"needs a restart: {', '.join(reload.needs_restart)}")
    return reasons


def _check(coverage: Coverage, now: float) -> dict[str, Any]:
    return {
        "check": coverage.check,
        "verdict": coverage.verdict.value,
        "at": coverage.at,
        "age_seconds": round(max(now - coverage.at, 0.0), 3),
        "detail": coverage.detail,
    }
