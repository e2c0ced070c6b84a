"""What is to be done about an incident: a pure function, and the only place that decides.

Two questions, apart from each other. Which nodes must leave? Only those with an open critical fault
whose action asks for the hardware; never for a program's own fault, for silence without a second
witness (the scheduler, or the job that misses the node), or where the same code on several chips of
one job speaks for software. Which jobs must start again? Those that the incident hurts on a node
that leaves, and those that hang or crashed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

from chipmedic.faults.fitness import PROGRAM_KINDS, is_unfit
from chipmedic.model import Action, Severity
from chipmedic.recoverer import NodeView, Rung
from chipmedic_watchdog.incidents.predicates import PHYSICAL
from chipmedic_watchdog.recover import probation
from chipmedic_watchdog.recover.case import Case, FaultView
from chipmedic_watchdog.recover.ladder import ladder_for
from chipmedic_watchdog.recover.modes import mode_for
from chipmedic_watchdog.recover.settings import Mode, RecoverSettings

SOFTWARE_CAUSE = "software."
"""How the causes of incidents begin that the correlation takes for software."""

SHARED_CAUSES = ("shared.", "link.peer")
"""How the causes begin that name a part which several nodes share."""

SHARED_NODES_LEAST = 3
"""So many nodes with the same trouble leave the shared part as its one cause."""

SOFTWARE_WINDOW_SECONDS = 30.0
"""The same code on two chips of one job within this time is software until shown otherwise."""

SCHEDULERS = ("slurm:", "kubernetes:")
"""How the jobs are named whose scheduler takes a node out, and can prove it dead, without its help:
only such a node leaves because its job stands still, too."""

SILENT_NODES_MOST = 2
"""More nodes that are silent at once are cut off rather than dead, though their job stands still:
the scheduler's word is waited for."""

SEEN_AGAIN_SECONDS = 15.0
"""A job reported on a node this long after its restart is there again, not a late report."""


class Why(StrEnum):
    """Why a decision is what it is; each has a sentence in every language of the notices."""

    HARDWARE = "hardware"
    JOB = "job"
    WITNESSED_DOWN = "witnessed_down"
    WITNESSED_BY_JOB = "witnessed_by_job"
    NOTHING_ASKED = "nothing_asked"
    PROGRAM = "program"
    SOFTWARE_SUSPECTED = "software_suspected"
    SHARED_PART = "shared_part"
    SILENCE_ONLY = "silence_only"
    CANNOT_LOOK = "cannot_look"
    DONE_ALREADY = "done_already"
    NO_ADAPTER = "no_adapter"


SENTENCES = {
    Why.HARDWARE: "a critical hardware fault: the node must leave",
    Why.JOB: "the job stands still or has ended; no fault of hardware explains it",
    Why.WITNESSED_DOWN: "the node is silent and the scheduler says that it is down",
    Why.WITNESSED_BY_JOB: "the node is silent and a job on it has stood still since",
    Why.NOTHING_ASKED: "no fault of this incident asks for an action on nodes or jobs",
    Why.PROGRAM: "a fault of the program itself; hardware is not isolated for it",
    Why.SOFTWARE_SUSPECTED: "the same code on several chips of one job: software is suspected",
    Why.SHARED_PART: "a part that several nodes share has failed; they are not isolated for it",
    Why.SILENCE_ONLY: "the node is silent; nothing is drained on silence without a second witness",
    Why.CANNOT_LOOK: "the faults can no longer be seen; nothing is done on old knowledge",
    Why.DONE_ALREADY: "the node is isolated and the job was restarted already",
    Why.NO_ADAPTER: "no recovery adapter is configured for it "
    "([recover.slurm], [recover.kubernetes] or [recover.exec])",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be done, how far by ourselves, and why."""

    mode: Mode
    adapter: str
    """Empty: none; then nothing is done."""
    nodes: tuple[str, ...]
    jobs: tuple[str, ...]
    leaving: tuple[str, ...] = ()
    """Nodes that must leave, those among them that are isolated already."""
    silent: tuple[str, ...] = ()
    """Those of them of which only the silence is known, and that a job on them stands still."""
    ladder: tuple[Rung, ...] = tuple(Rung)
    """By which rungs the jobs are restarted."""
    why: Why
    reason: str
    """One line for people and for the record."""
    rule: str
    """The pattern of the configuration that set the mode."""
    fault: int | None
    """The id of the fault that decided."""

    @property
    def is_action(self) -> bool:
        """True where nodes or jobs are to be touched."""
        return bool(self.adapter and (self.nodes or self.jobs))


def decide(case: Case, settings: RecoverSettings, adapters: Collection[str]) -> Decision:
    """Decide about one incident; the same case gives the same decision."""
    mode, rule = mode_for(settings, case.incident.kind, case.partitions)
    open_faults = [fault for fault in case.faults if fault.is_open]
    leaving, why, fault = _nodes_to_leave(case, open_faults)
    jobs = _jobs_to_restart(case, open_faults, leaving)
    nodes = tuple(sorted(leaving - case.isolated))
    if not (leaving or jobs) and case.faults and not open_faults:
        why = Why.CANNOT_LOOK
    elif leaving and not (nodes or jobs):
        why = Why.DONE_ALREADY
    elif jobs and not leaving and why is not Why.SOFTWARE_SUSPECTED:
        why = Why.JOB
    adapter = _adapter(jobs, nodes, adapters)
    if (nodes or jobs) and not adapter:
        why = Why.NO_ADAPTER
    left = tuple(job for job in jobs if adapter and not _serves(adapter, job, adapters))
    reason = SENTENCES[why] + (f"; not restarted here: {', '.join(left)}" if left else "")
    if why is Why.HARDWARE and (early := sorted(leaving & case.on_probation)):
        reason += f"; on probation, so a warning is enough: {', '.join(early)}"
    return Decision(
        mode=mode,
        adapter=adapter,
        nodes=nodes,
        jobs=tuple(job for job in jobs if job not in left),
        leaving=tuple(sorted(leaving)),
        silent=tuple(sorted(leaving & _missed_by_jobs(case, open_faults))),
        ladder=ladder_for(settings, case.incident.kind, case.incident.severity, case.partitions),
        why=why,
        reason=reason,
        rule=rule,
        fault=fault,
    )


def needs_witness(case: Case) -> bool:
    """Whether the decision depends on the scheduler's word about a silent node."""
    return any(fault.is_open and fault.kind == "node.unreachable" for fault in case.faults)


def may_return(
    node: str, faults: Collection[FaultView], *, by_person: bool = False
) -> FaultView | None:
    """Return the fault that still keeps a node out, or None when nothing does.

    One that can no longer be seen keeps it out as well; only a person may know better.
    """
    for fault in faults:
        seen = fault if by_person else replace(fault, is_open=True)
        if fault.node == node and _asks_for_hardware(seen):
            return fault
    return None


def is_software_suspected(faults: Collection[FaultView]) -> frozenset[int]:
    """Return the ids of faults whose code stands on several chips of one job within 30 s.

    Faults that no program can cause are never among them.

    Chips of one node count like chips of many: a program runs on all of them. Faults that name no
    job count together, because they are in one incident.
    """
    sightings: dict[tuple[str, str], list[FaultView]] = {}
    for fault in faults:
        if fault.chip is not None and not fault.kind.startswith(PHYSICAL):
            for code in fault.codes:
                sightings.setdefault((code, fault.job or ""), []).append(fault)
    suspected: set[int] = set()
    for same in sightings.values():
        for one, other in pairwise(sorted(same, key=lambda fault: fault.opened_at)):
            is_close = other.opened_at - one.opened_at <= SOFTWARE_WINDOW_SECONDS
            if is_close and (one.node, one.chip) != (other.node, other.chip):
                suspected |= {one.id, other.id}
    return frozenset(suspected)


def _suspected(case: Case, faults: Collection[FaultView]) -> frozenset[int]:
    """Return the ids of faults that speak for software: by their codes, or by the correlation."""
    if not case.incident.jobs:
        return frozenset()
    if case.incident.cause.startswith(SOFTWARE_CAUSE):
        return frozenset(f.id for f in faults if f.chip and not f.kind.startswith(PHYSICAL))
    return is_software_suspected(faults)


def _of_shared_part(case: Case, faults: Collection[FaultView]) -> frozenset[int]:
    """Return the ids of faults for which a switch or a power feed is to be mended, not a node."""
    if not case.incident.cause.startswith(SHARED_CAUSES):
        return frozenset()
    domain = case.incident.kind.partition(".")[0] + "."
    same = [fault for fault in faults if fault.kind.startswith(domain)]
    is_many = len({fault.node for fault in same}) >= SHARED_NODES_LEAST
    return frozenset(fault.id for fault in same) if is_many else frozenset()


def _asks_for_hardware(fault: FaultView, on_probation: Collection[str] = ()) -> bool:
    least = probation.fuse(is_on_probation=fault.node in on_probation)
    return fault.is_open and is_unfit(fault.kind, fault.severity, fault.action, least=least)


def _nodes_to_leave(
    case: Case, faults: Sequence[FaultView]
) -> tuple[frozenset[str], Why, int | None]:
    """Return the nodes that must leave, why (or why none), and the fault that decided."""
    suspected = _suspected(case, faults)
    shared = _of_shared_part(case, faults)
    hardware = [
        f
        for f in faults
        if _asks_for_hardware(f, case.on_probation) and f.id not in suspected | shared
    ]
    silent = [f for f in faults if f.kind == "node.unreachable"]
    down = [f for f in silent if _is_down(f.node, case.views)]
    missed = _missed_by_jobs(case, faults)
    dead = down + [f for f in silent if f.node in missed]
    if hardware:
        return frozenset(f.node for f in [*hardware, *dead]), Why.HARDWARE, hardware[0].id
    if dead:
        why = Why.WITNESSED_DOWN if down else Why.WITNESSED_BY_JOB
        return frozenset(f.node for f in dead), why, dead[0].id
    for why, found in (
        (Why.SOFTWARE_SUSPECTED, [f for f in faults if f.id in suspected]),
        (Why.SHARED_PART, [f for f in faults if f.id in shared]),
        (Why.SILENCE_ONLY, silent),
        (Why.PROGRAM, [f for f in faults if f.kind in PROGRAM_KINDS]),
    ):
        if found:
            return frozenset(), why, found[0].id
    return frozenset(), Why.NOTHING_ASKED, faults[0].id if faults else None


def _is_down(node: str, views: Mapping[str, NodeView] | None) -> bool:
    """Whether the scheduler says so; silence of the scheduler says nothing."""
    view = (views or {}).get(node)
    return view is not None and view.is_down


def _missed_by_jobs(case: Case, faults: Sequence[FaultView]) -> frozenset[str]:
    """Return the silent nodes that the jobs on them miss, as others of their nodes tell.

    A job that stood still before tells nothing of the node.
    """
    silent = [f for f in faults if f.kind == "node.unreachable"]
    if len({fault.node for fault in silent}) > SILENT_NODES_MOST:
        return frozenset()
    stalls = [f for f in faults if _asks_for_restart(f) and (f.job or "").startswith(SCHEDULERS)]
    return frozenset(
        fault.node
        for fault in silent
        for stall in stalls
        if stall.node != fault.node
        and stall.opened_at >= fault.begins_at
        and stall.job in case.placed_jobs
        and _was_on(stall.job or "", [fault], case)
    )


def _asks_for_restart(fault: FaultView) -> bool:
    return fault.action is Action.RESTART_JOB and fault.severity >= Severity.CRITICAL


def _jobs_to_restart(
    case: Case, faults: Collection[FaultView], leaving: frozenset[str]
) -> tuple[str, ...]:
    """Return the jobs to start again: hurt on a leaving node, or named by a fault of their own."""
    since: dict[str, float] = {}
    for fault in filter(_asks_for_restart, faults):
        for job in (fault.job,) if fault.job else case.incident.jobs:
            since[job] = max(since.get(job, 0.0), fault.opened_at)
    if leaving:
        there = [f for f in faults if f.node in leaving]
        begun = min(f.opened_at for f in there)
        for job in case.incident.jobs:
            if _was_on(job, there, case):
                since[job] = max(since.get(job, 0.0), begun)
    return tuple(sorted(job for job, at in since.items() if not _was_restarted(job, at, case)))


def _was_on(job: str, faults: Collection[FaultView], case: Case) -> bool:
    """Whether the job was on a node when one of these faults began there that make it leave.

    A job of which no node is known is taken to have been; one that had ended before was not.
    """
    if job not in case.placed_jobs:
        return True
    grave = [f for f in faults if _makes_leave(f, case)]
    return any(
        placement.job == job
        and placement.node == fault.node
        and not fault.is_after(placement.ended_at)
        for placement in case.placements
        for fault in grave
    )


def _makes_leave(fault: FaultView, case: Case) -> bool:
    return fault.kind == "node.unreachable" or _asks_for_hardware(fault, case.on_probation)


def _was_restarted(job: str, since: float, case: Case) -> bool:
    """Whether we restarted the job after this fault, and it has not come back to the node since."""
    at = case.restarted_at.get(job)
    if at is None or at < since:
        return False
    hurt = {fault.node for fault in case.faults if _asks_for_hardware(fault, case.on_probation)}
    return not any(
        p.job == job and p.node in hurt and p.is_present and p.received_at > at + SEEN_AGAIN_SECONDS
        for p in case.placements
    )


def _serves(adapter: str, job: str, adapters: Collection[str]) -> bool:
    """Whether an adapter restarts this job: by its prefix; `exec` takes what no other one owns."""
    scheduler = job.partition(":")[0]
    return scheduler == adapter or (adapter == "exec" and scheduler not in adapters)


def _adapter(jobs: Collection[str], nodes: Collection[str], adapters: Collection[str]) -> str:
    """Choose by the jobs' prefix; for nodes without such jobs a scheduler before `exec`."""
    for job in jobs:
        for adapter in sorted(adapters):
            if _serves(adapter, job, adapters):
                return adapter
    if not nodes:
        return ""
    schedulers = sorted(set(adapters) - {"exec"})
    return schedulers[0] if schedulers else next(iter(adapters), "")
