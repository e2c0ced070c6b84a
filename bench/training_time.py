"""Event simulation of one synchronous job over months of failures: where its time goes. Pure.

A failure strikes any of the job's nodes with one rate and stops the whole job. What then happens
is drawn from recoveries that were measured (`Loss`); each is taken whole, so that what belongs
together stays together. Failures go on while the job recovers: the recovery begins anew.
The steps since the last checkpoint are made again.

`expected_ratio` is Meta's first-order formula (arXiv 2410.21680) for the same; without spare nodes,
second faults and spread the simulation must agree with it.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

DAY_SECONDS = 86_400.0
P90_SIGMA = 1.2815515655446004
"""The 90 % quantile of the normal distribution, in standard deviations."""
PRODUCTIVE, CHECKPOINT, RECOMPUTE = "productive", "checkpoint", "recompute"
START, SPARE = "job start", "wait for a spare"


@dataclass(frozen=True, slots=True)
class Loss:
    """What one failure costs before the job's own start, by phase, in order."""

    seconds: Mapping[str, float]
    takes_node: bool
    """True: the node is out of service until it is repaired."""


Draw = Callable[[random.Random], Loss]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One synchronous job, and what the site has for it."""

    nodes: int
    failures_per_node_day: float
    checkpoint_interval_seconds: float
    checkpoint_stall_seconds: float
    job_start_seconds: float
    spare_nodes: int | None = None
    """None: there is always a spare."""
    repair_p50_days: float = 1.0
    repair_p90_days: float = 1.0
    second_fault_share: float = 0.0

    @property
    def mean_seconds_between_failures(self) -> float:
        """Between two failures of any node."""
        return DAY_SECONDS / (self.nodes * self.failures_per_node_day)


@dataclass(slots=True)
class Spent:
    """Where the time of one simulated job went."""

    seconds: dict[str, float] = field(default_factory=dict)
    failures: int = 0

    def add(self, phase: str, seconds: float) -> None:
        """Count time."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    @property
    def wall_seconds(self) -> float:
        """All of it."""
        return math.fsum(self.seconds.values())

    @property
    def ratio(self) -> float:
        """The effective training time ratio."""
        return self.seconds[PRODUCTIVE] / self.wall_seconds


def simulate(job: Job, draw: Draw, days: float, seed: int) -> Spent:
    """Let a job run for so many days; it ends with the first failure after them."""
    rng = random.Random(seed)
    spent, pool = Spent(), _Spares(job, rng)
    now, end = 0.0, days * DAY_SECONDS
    while now < end:
        stepping_seconds = rng.expovariate(1 / job.mean_seconds_between_failures)
        now += stepping_seconds
        lost_seconds = _step(job, stepping_seconds, spent)
        now = _recover(job, draw, rng, pool, spent, now)
        spent.add(RECOMPUTE, lost_seconds)  # in the time of the steps that follow, which it halves
        spent.seconds[PRODUCTIVE] -= lost_seconds
    return spent


def _step(job: Job, seconds: float, spent: Spent) -> float:
    """Count steps and checkpoints until a failure; return the time of the steps that it undoes."""
    interval, stall = job.checkpoint_interval_seconds, job.checkpoint_stall_seconds
    whole, rest = divmod(seconds, interval + stall)
    unsaved = min(rest, interval)
    spent.add(PRODUCTIVE, whole * interval + unsaved)
    spent.add(CHECKPOINT, whole * stall + rest - unsaved)
    spent.failures += 1
    return unsaved


def _recover(
    job: Job, draw: Draw, rng: random.Random, pool: _Spares, spent: Spent, now: float
) -> float:
    """Count everything from a failure to the next step; return when that is."""
    while True:
        loss = draw(rng)
        phases = dict(loss.seconds)
        before = math.fsum(phases.values())
        if loss.takes_node:
            phases[SPARE] = pool.take(now + before)
        phases[START] = job.job_start_seconds
        struck_after = rng.expovariate(1 / job.mean_seconds_between_failures)
        is_struck = rng.random() < job.second_fault_share
        whole = math.fsum(phases.values())
        if struck_after >= whole:
            now += _count(phases, whole, spent)
            if not is_struck:
                return now
        else:
            now += _count(phases, struck_after, spent)
        spent.failures += 1


def _count(phases: Mapping[str, float], until_seconds: float, spent: Spent) -> float:
    """Count phases in their order, up to a time; return how much that was."""
    left = until_seconds
    for phase, seconds in phases.items():
        spent.add(phase, min(seconds, left))
        left -= min(seconds, left)
    return until_seconds


class _Spares:
    """Nodes that are free, and when those under repair come back."""

    def __init__(self, job: Job, rng: random.Random) -> None:
        self._free = job.spare_nodes
        self._rng = rng
        self._back: list[float] = []
        self._mu = math.log(job.repair_p50_days * DAY_SECONDS)
        self._sigma = math.log(job.repair_p90_days / job.repair_p50_days) / P90_SIGMA

    def take(self, now: float) -> float:
        """Take a spare in place of a broken node; return how long to wait for one."""
        if self._free is None:
            return 0.0
        while self._back and self._back[0] <= now:
            heapq.heappop(self._back)
            self._free += 1
        heapq.heappush(self._back, now + self._rng.lognormvariate(self._mu, self._sigma))
        if self._free:
            self._free -= 1
            return 0.0
        return max(0.0, heapq.heappop(self._back) - now)


def expected_ratio(job: Job, loss_seconds: float) -> float:
    """Return E[ETTR] = (1 - N r (u0 + dt/2)) / (1 + w/dt), u0 with detection and decision in it."""
    interval = job.checkpoint_interval_seconds
    lost = loss_seconds + job.job_start_seconds + interval / 2
    return (1 - lost / job.mean_seconds_between_failures) / (
        1 + job.checkpoint_stall_seconds / interval
    )


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation of several seeds."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
