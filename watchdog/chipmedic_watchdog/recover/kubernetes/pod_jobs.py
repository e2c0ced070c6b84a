"""Which job each pod belongs to, as the API server tells: asked once for each pod, when it is new.

While the API server does not answer, a pod goes by its own uid, as one whose owner nobody knows
does for good. Looks are made one at a time, for all pods that are new by then: when a job begins
on a thousand nodes, all of them ask within seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from chipmedic.errors import DeliveryFailed
from chipmedic.model import JobStatus
from chipmedic_watchdog.abandon import call_abandonable
from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.intake.arrival import Body
from chipmedic_watchdog.intake.job_names import JobName, all_renamed, of_faults, renamed
from chipmedic_watchdog.intake.message import ReceivedHeartbeat, ReceivedSnapshot
from chipmedic_watchdog.recover.kubernetes import owners
from chipmedic_watchdog.recover.kubernetes.cluster import ALIVE, Cluster
from chipmedic_watchdog.recover.kubernetes.job_search import PREFIX, JobSearch
from chipmedic_watchdog.recover.kubernetes.objects import Owner, Pod
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings

LOGGER = logging.getLogger(__name__)

WAIT_SECONDS = 5.0
"""So long a report waits for the name of a new pod; the next one has it."""
AGAIN_SECONDS = 30.0
"""A pod of which nothing was found is asked for again after so long."""
LOOK_SECONDS = 60.0
NODES_MOST = 8
"""Pods of so few nodes are looked for there; of more, among all."""
PODS_MOST = 50_000
"""Names that are remembered; of more, the oldest are asked for again."""


@dataclass(slots=True)
class _Node:
    """What a node has said."""

    said: dict[str, JobStatus] = field(default_factory=dict)
    """Its last word of each of its pods."""
    present: frozenset[str] | None = None
    """All of its jobs, as it calls them."""
    told: frozenset[str] | None = None
    """The same as they were handed on."""


def _moved(status: JobStatus) -> JobStatus:
    """Return the last report under a name that the store shall know no more: it hurts nobody."""
    return replace(status, pids=(), chips=(), labels={"ended_at": "0"})


class PodJobs:
    """The names of the jobs of pods; `run` asks, `body` uses what is known."""

    def __init__(
        self, settings: KubernetesSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._next: KubernetesSettings | None = None
        """What a reload has brought; it is worked by when no look is under way."""
        self._cluster = Cluster(settings)
        self._search = JobSearch(self._cluster, settings)
        self._clock = clock
        self._names: dict[str, JobName] = {}
        """By what the agent calls the pod."""
        self._asked_at: dict[str, float] = {}
        """Of pods that nothing is known of yet."""
        self._wanted: dict[str, str] = {}
        """Pod -> node, to be asked for."""
        self._nodes: dict[str, _Node] = {}
        self._bell = Bell()
        self._looked = asyncio.Event()
        self._trouble = ""

    def take(self, settings: KubernetesSettings) -> None:
        """Ask by new settings from the next look on; names that are known stay."""
        if settings != (self._next or self._settings):
            self._next = settings
            self._asked_at.clear()
            self._bell.ring()

    async def run(self) -> None:
        """Ask for what is new until cancelled."""
        try:
            # What fails here is said at the first look.
            with suppress(DeliveryFailed, TimeoutError):
                await call_abandonable(
                    self._cluster.open, timeout_seconds=LOOK_SECONDS, name="Kubernetes client"
                )
            while True:
                await self._bell.wait(LOOK_SECONDS)
                self._change()
                await self._look()
        finally:
            self._cluster.close()

    def _change(self) -> None:
        if self._next is not None:
            self._cluster.close()
            self._settings, self._next = self._next, None
            self._cluster = Cluster(self._settings)
            self._search = JobSearch(self._cluster, self._settings)

    async def body(self, node: str, body: Body) -> Body:
        """Return what an agent said, with the pods of one job as one; see `JobNames.body`."""
        match body:
            case ReceivedSnapshot():
                body = replace(body, beat=await self._beat(node, body.beat))
            case ReceivedHeartbeat():
                body = await self._beat(node, body)
        return of_faults(body, self._names)

    async def _beat(self, node: str, beat: ReceivedHeartbeat) -> ReceivedHeartbeat:
        known = self._nodes.setdefault(node, _Node())
        if beat.job_names is not None:
            known.present = beat.job_names
            known.said = {job: s for job, s in known.said.items() if job in beat.job_names}
        await self._learn(node, (*known.said, *(status.job for status in beat.jobs)))
        jobs = renamed(beat.jobs, self._names, known.said)
        known.said |= {s.job: s for s in beat.jobs if s.job.startswith(PREFIX)}
        if known.present is None:
            return replace(beat, jobs=jobs)
        # A name that was found since changes them, though the agent has nothing new to say.
        present = all_renamed(known.present, self._names)
        is_news = beat.job_names is not None or present != known.told
        late = (known.told or frozenset()) & self._names.keys()
        jobs += tuple(_moved(known.said[told]) for told in sorted(late) if told in known.said)
        known.told = present
        return replace(beat, jobs=jobs, job_names=present if is_news else None)

    async def _learn(self, node: str, jobs: Iterable[str]) -> None:
        """Have new pods asked for, and wait a moment for the answer."""
        now = self._clock()
        new = {
            job
            for job in jobs
            if job.startswith(PREFIX)
            and job not in self._names
            and now - self._asked_at.get(job, float("-inf")) > AGAIN_SECONDS
        }
        if not new:
            return
        self._wanted |= dict.fromkeys(new, node)
        self._bell.ring()
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                while new & self._wanted.keys():
                    await self._looked.wait()

    async def _look(self) -> None:
        wanted = dict(self._wanted)
        if not wanted:
            return
        limit_seconds = 3 * self._settings.request_timeout_seconds
        found: Mapping[str, JobName] = {}
        try:
            found = await call_abandonable(
                lambda: self._find(wanted), timeout_seconds=limit_seconds, name="jobs of pods"
            )
            self._trouble = ""
        except (DeliveryFailed, TimeoutError) as e:
            why = str(e) or f"no answer in {limit_seconds:g} s"
            if why != self._trouble:
                LOGGER.warning("pods go by their own uids: why=%s", why)
            self._trouble = why
        self._names |= found
        while len(self._names) > PODS_MOST:
            del self._names[next(iter(self._names))]
        now = self._clock()
        kept = {pod: at for pod, at in self._asked_at.items() if now - at < AGAIN_SECONDS}
        self._asked_at = kept | dict.fromkeys(wanted.keys() - found.keys(), now)
        for pod in wanted:
            self._wanted.pop(pod, None)
        self._looked.set()
        self._looked = asyncio.Event()

    def _find(self, wanted: Mapping[str, str]) -> dict[str, JobName]:
        """Return the jobs of pods; blocks."""
        found: dict[str, JobName] = {}
        nodes = set(wanted.values())
        places = [f"spec.nodeName={node},{ALIVE}" for node in sorted(nodes)]
        known: dict[tuple[str, str], Owner | None] = {}
        for fields in [*(places if len(nodes) <= NODES_MOST else ()), ALIVE]:
            for namespace in self._settings.namespaces or ("",):
                if wanted.keys() <= found.keys():
                    return found
                for pod in self._cluster.pods(namespace, fields=fields):
                    told = PREFIX + pod.uid
                    if told in wanted and (name := self._name(pod, known)) is not None:
                        found[told] = name
        return found

    def _name(self, pod: Pod, known: dict[tuple[str, str], Owner | None]) -> JobName | None:
        if pod.owner is None:
            return None
        # One StatefulSet owns the leaders of all groups of a LeaderWorkerSet.
        key = (pod.owner.uid, pod.labels.get(owners.GROUP_INDEX, ""))
        if key not in known:
            known[key] = self._search.owner_of(pod)
        owner = known[key]
        job = None if owner is None else owners.job_name(pod.namespace, owner)
        if owner is None or job is None:
            return None
        return JobName(job=PREFIX + job, name=owner.title, pod=pod.name)
