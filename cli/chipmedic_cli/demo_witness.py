"""What was really seen: by the watchdog's interface and by those who got its notices.

Nothing here knows what the demo has done; it only looks at what the product says of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from chipmedic.errors import ChipmedicError
from chipmedic_cli.client import Client, WatchdogUnreachable
from chipmedic_simulator.configuration import REOPEN_SECONDS
from chipmedic_simulator.inbox import Delivery, Page, deliveries, pages
from chipmedic_simulator.layout import Layout

LOOK_SECONDS = 0.1
WHOLE_SECONDS = 240.0
"""After so long the demo fails, whatever it waits for."""
LOST_PHASES = ("detect", "decide", "isolate", "restart", "recompute")

Seen = TypeVar("Seen")
Row = dict[str, Any]


class NotSeen(ChipmedicError):
    """Something that the demo has to show did not come."""


@dataclass(frozen=True, slots=True)
class Told:
    """One notice, as the desk's program and the person on call got it."""

    delivery: Delivery
    page: Page


class Witness:
    """Looks again and again until something is seen, or its time is over."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client = client
        self._inbox = layout.inbox
        self._end = time.monotonic() + WHOLE_SECONDS

    def wait(self, what: str, look: Callable[[], Seen | None], *, seconds: float) -> Seen:
        """Return what `look` sees.

        Raises:
            NotSeen: nothing, within the time.
        """
        began = time.monotonic()
        until = min(began + seconds, self._end)
        while time.monotonic() < until:
            try:
                seen = look()
            except WatchdogUnreachable:
                seen = None  # it starts, or starts again
            if seen is not None:
                return seen
            time.sleep(LOOK_SECONDS)
        raise NotSeen(f"not seen within {time.monotonic() - began:.0f} s: {what}")

    def connected(self, nodes: set[str]) -> bool | None:
        """Return True when all these nodes report, and have told which chips they have.

        Before that a line of the kernel log names a PCI device only, and what the driver's library
        says of the same fault names another thing: two incidents of one cause.
        """
        found = self._client.all("/api/v1/nodes", state="connected")
        if {row["node"] for row in found} != nodes:
            return None
        told = (self._client.get(f"/api/v1/nodes/{node}")["chips"] for node in nodes)
        return True if all(told) else None

    def running_job(self, nodes: set[str], *, attempt: int, beyond_step: int) -> Row | None:
        """Return the job when this start of it, or a later one, is beyond a step on these nodes."""
        for job in self._client.all("/api/v1/jobs", state="running"):
            is_far = job["attempt"] >= attempt and (job["step"] or 0) > beyond_step
            if is_far and set(job["nodes"]) == nodes:
                return dict(job)
        return None

    def job(self) -> Row:
        """Return the one job.

        Raises:
            ChipmedicError: the watchdog knows none.
        """
        jobs = self._client.all("/api/v1/jobs")
        if not jobs:
            raise NotSeen("the watchdog knows of no job")
        return dict(jobs[0])

    def incident(self, kind: str, *, job: str, since: float) -> Row | None:
        """Return the incident of a domain (`memory.`) that hurts a job and is new."""
        for row in self._client.all("/api/v1/incidents"):
            if row["kind"].startswith(kind) and job in row["jobs"] and row["opened_at"] >= since:
                return dict(row)
        return None

    def is_calm(self) -> bool | None:
        """Return True when no job and no node has an incident that news would join or reopen."""
        latest = time.time() - REOPEN_SECONDS
        return (
            all(
                row["state"] == "resolved" and row["resolved_at"] < latest
                for row in self._client.all("/api/v1/incidents")
                if row["kind"].startswith(("job.", "node."))
            )
            or None
        )

    def told(self, incident: str, *, is_resolved: bool) -> Told | None:
        """Return the first notice of an incident, or its all-clear, once both places have it."""
        wanted = (incident, is_resolved)
        arrived = [
            one
            for one in deliveries(self._inbox)
            if (one.data.get("incident"), one.data.get("is_resolved")) == wanted
        ]
        shown = [one for one in pages(self._inbox) if (one.incident, one.is_resolved) == wanted]
        return Told(arrived[0], shown[0]) if arrived and shown else None

    def is_isolated(self, node: str) -> bool | None:
        """Return True when the watchdog holds a node isolated, as the scheduler has confirmed."""
        return True if self._client.get(f"/api/v1/nodes/{node}")["isolations"] else None

    def recovered(self, incident: str) -> Row | None:
        """Return the recovery of an incident when it is done, every step confirmed."""
        for row in self._client.get(f"/api/v1/incidents/{incident}")["recoveries"]:
            if row["state"] == "done":
                return dict(row)
            if row["state"] in ("held", "failed"):
                raise NotSeen(f"the recovery is {row['state']}: {row['detail']}")
        return None

    def resolved(self, incident: str) -> bool | None:
        """Return True when an incident is over."""
        row = self._client.get(f"/api/v1/incidents/{incident}")
        return True if row["state"] == "resolved" else None

    def losses(self, job: str, incident: str, phases: tuple[str, ...]) -> Row | None:
        """Return what an incident has cost a job, when each of these stages has come to its end."""
        for loss in self._client.get(f"/api/v1/jobs/{job}/ledger")["losses"]:
            stages = {stage["phase"] for stage in loss["stages"]}
            is_over = loss["end_at"] is not None
            if loss["incident"] == incident and is_over and set(phases) <= stages:
                return dict(loss)
        return None

    def account(self, job: str, incidents: set[str]) -> Row | None:
        """Return where all the time of a job went, once the losses to these incidents are over."""
        account = dict(self._client.get(f"/api/v1/jobs/{job}/ledger"))
        ended = {loss["incident"] for loss in account["losses"] if loss["end_at"] is not None}
        return account if incidents <= ended else None
