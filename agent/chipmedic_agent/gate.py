"""The check that a node passes before it is offered to jobs again: whole, well, quiet under a load.

The watchdog asks for it when a node's incident is over. Every check looks, the load runs, every
check looks again; then no chip is missing, every verdict is ok, and no counter of errors has grown.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from chipmedic.errors import ToolBlocked, ToolFailed, ToolMissing
from chipmedic.host import Host, LinuxHost
from chipmedic.metric import Metric
from chipmedic.model import Component, Coverage, Verdict
from chipmedic_agent.config import AgentSettings
from chipmedic_agent.pipeline import Pipeline
from chipmedic_agent.roster import Roster
from chipmedic_agent.worker import apart

QUIET = {
    Metric.ECC_UNCORRECTED: 0,
    Metric.ECC_DEFERRED: 0,
    Metric.RETIRED_PAGES: 0,
    Metric.LINK_DOWNED: 0,
    Metric.PCIE_ERRORS_FATAL: 0,
    Metric.PCIE_ERRORS_NONFATAL: 0,
    Metric.HOST_EDAC_UNCORRECTED: 0,
    Metric.ECC_CORRECTED: 10,
    Metric.LINK_ERRORS: 10,
    Metric.PCIE_REPLAYS: 100,
    Metric.HOST_EDAC_CORRECTED: 10,
}
"""By how much a counter may grow while the load runs: what hardware corrects comes singly on
healthy parts, what it could not correct never does. Ours, not a vendor's."""

Counts = Mapping[tuple[Component, Metric], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen of the node at one moment."""

    coverage: tuple[Coverage, ...]
    missing: tuple[str, ...]
    """Uids of known chips that are not there."""
    counts: Counts


def problems(before: Sight, after: Sight, ignored: Collection[str]) -> Iterator[str]:
    """Yield every reason why a node is not fit, in words for a person."""
    for uid in after.missing:
        yield f"chip {uid} is missing"
    for one in after.coverage:
        if one.verdict is not Verdict.OK and one.check not in ignored:
            yield f"check {one.check} says {one.verdict.value}" + (
                f": {one.detail}" if one.detail else ""
            )
    if not after.coverage:
        yield "no check looks at this node"
    for key, value in after.counts.items():
        component, metric = key
        growth = value - before.counts.get(key, value)
        if growth > QUIET[metric]:
            yield f"{component}: {metric.value} grew by {growth:g} under the load"


class Gate:
    """Runs the check of this node."""

    def __init__(
        self, settings: AgentSettings, roster: Roster, pipeline: Pipeline, host: Host | None = None
    ) -> None:
        self.settings = settings
        self._roster = roster
        self._pipeline = pipeline
        self._host = host or LinuxHost()
        self._lock = asyncio.Lock()

    async def check(self, now: float) -> tuple[bool, str]:
        """Return whether the node is fit, and what was done or is wrong; one check at a time."""
        async with self._lock:
            await self._roster.scan_now(())
            before = self._see(now)
            loaded, words = await apart("gate load", self._load)
            await self._roster.scan_now(())
            after = self._see(now)
        # What a site has switched off it does not miss.
        ignored = {*self.settings.gate.ignore_checks, *self._roster.switched_off}
        wrong = list(problems(before, after, ignored))
        if not loaded:
            wrong.insert(0, f"load: {words}")
        if wrong:
            return False, "; ".join(wrong)
        return True, f"{len(after.coverage)} checks are ok and counters quiet; load: {words}"

    def _see(self, now: float) -> Sight:
        known = self._pipeline.inventory.known()
        return Sight(
            coverage=tuple(self._roster.coverage()),
            missing=tuple(entry.chip.uid for entry in known if entry.is_missing),
            counts={
                (component, metric): value.value
                for component, metric, value in self._pipeline.readings.current(now)
                if metric in QUIET
            },
        )

    def _load(self) -> tuple[bool, str]:
        gate = self.settings.gate
        argv = list(gate.command) or [
            sys.executable, "-m", "chipmedic_agent.host_load",
            self.settings.state_directory, str(gate.host_load_seconds),
        ]  # fmt: skip
        try:
            answer = self._host.run(argv, timeout_seconds=gate.timeout_seconds)
        except (ToolMissing, ToolFailed, ToolBlocked) as e:
            return False, str(e)
        lines = (answer.stdout.strip() or answer.stderr.strip()).splitlines()
        said = lines[-1].strip()[:200] if lines else "no output"
        if answer.exit_code == 0:
            return True, said
        return False, f"{argv[0]} ended with {answer.exit_code}: {said}"
