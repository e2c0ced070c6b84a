"""How far one job has come on this node: steps by rank, phase, checkpoint, and who takes part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from chipmedic_agent.detectors.hang_model import DONE, STEPPING, TRAINING, UNNAMED
from chipmedic_agent.processes import ProcessIdentity, Stat
from chipmedic_agent.progress import Beat

RANKS_MAX = 64
PROCESSES_MAX = 256
SHOWN_MAX = 16
SETTLED_SECONDS = 5.0
"""A process that lived so long as a rank is the rank, not a short-lived helper that beats for
it."""
PAST_STEPS = 2
"""A phase ends when the job has made more steps than this since: it holds nobody up."""
UNRANKED_SKEW_STEPS = 4
"""How far apart the ranks of a job can be, where nobody says which is which."""


@dataclass(slots=True)
class Member:
    """One process of the job."""

    who: ProcessIdentity
    first_at: float
    last_at: float
    is_holder: bool = False

    @property
    def is_settled(self) -> bool:
        """Say whether this is a rank, rather than a helper that lives for a moment."""
        return self.is_holder or self.last_at - self.first_at >= SETTLED_SECONDS


@dataclass(frozen=True, slots=True)
class Phase:
    """What a rank said that it does, and the step of the job then (-1: none yet)."""

    name: str
    step: int


@dataclass(slots=True, kw_only=True)
class JobCourse:
    """One job, while it changes."""

    owner: int | None
    """Uid of the user whose job it is."""
    seen_at: float
    ended_at: float | None = None
    """When it was first seen that none of its processes lives; None: one does, or none was seen."""
    has_lived: bool = False
    is_owner_proven: bool = False
    """True: a process of this user holds a chip for the job; until then the first to speak owns
    it."""
    step: int | None = None
    step_at: float | None = None
    longest_step_seconds: float | None = None
    """The longest wait between two steps since the last status."""
    rank_phases: dict[int, Phase] = field(default_factory=dict)
    checkpoint_step: int | None = None
    attempt: int = 0
    log: str | None = None
    rank_steps: dict[int, int] = field(default_factory=dict)
    members: dict[int, Member] = field(default_factory=dict)

    @property
    def phase(self) -> str | None:
        """What the job does: the phase of a rank that takes its time goes before training.

        One rank may write the checkpoint while the others already wait for it in the next step. A
        phase that the job has stepped past is over, whether its rank said so or not.
        """
        told = [p.name for p in self.rank_phases.values() if not self._is_past(p)]
        if slow := [name for name in told if name not in STEPPING | DONE]:
            return slow[0]
        if ended := [name for name in told if name in DONE]:
            return ended[0]
        if any(phase.name in TRAINING for phase in self.rank_phases.values()):
            return "train"
        return UNNAMED if self.rank_phases else None

    def _is_past(self, phase: Phase) -> bool:
        return self.step is not None and self.step - phase.step > PAST_STEPS

    def may_be_told_by(self, uid: int) -> bool:
        """Say whether a user may tell this job's progress: its owner and root may."""
        return uid == 0 or self.owner is None or uid == self.owner

    def join(self, who: ProcessIdentity, at: float, *, is_holder: bool) -> None:
        """Take in a living process; `is_holder`: it holds a chip."""
        member = self._with(who, at)
        member.is_holder = member.is_holder or is_holder

    def look(self, now: float, *, is_alive: bool) -> None:
        """Note whether any of its processes lives."""
        if is_alive:
            self.has_lived, self.ended_at = True, None
        elif self.has_lived and self.ended_at is None:
            self.ended_at = now

    def hear(self, beat: Beat) -> None:
        """Take in what a rank told."""
        self.ended_at = None  # whoever speaks lives, be it where its process cannot be seen
        if beat.sender is not None:
            member = self._with(beat.sender, beat.at)
            if beat.rank is not None and member.who.rank != beat.rank:
                # Ranks that were forked (multiprocessing) have their number in no environment.
                member.who = replace(member.who, rank=beat.rank)
        rank = beat.rank
        if rank is None and beat.sender is not None:
            rank = beat.sender.rank
        if beat.phase is not None:
            self._hear_phase(beat.phase, rank or 0)
        if beat.checkpoint_step is not None:
            self.checkpoint_step = beat.checkpoint_step
        if beat.log is not None:
            self.log = beat.log
        if beat.step is not None:
            self._hear_step(beat.step, rank, beat.at)

    def _with(self, who: ProcessIdentity, at: float) -> Member:
        if who.attempt > self.attempt:
            self.attempt = who.attempt
            self._start_again()
        member = self.members.get(who.pid)
        if member is None or member.who.started != who.started:
            if len(self.members) >= PROCESSES_MAX:
                self.members.pop(next(iter(self.members)))
            member = self.members[who.pid] = Member(who, at, at)
        member.last_at = max(member.last_at, at)
        return member

    def _start_again(self) -> None:
        """Forget the ranks of an earlier start; its history stays with the detector."""
        self.rank_steps.clear()
        self.rank_phases.clear()
        self.members.clear()
        self.step = self.step_at = self.longest_step_seconds = None

    def _hear_phase(self, name: str, rank: int) -> None:
        known = self.rank_phases.get(rank)
        if known is not None and known.name == name and not self._is_past(known):
            return
        if rank in self.rank_phases or len(self.rank_phases) < RANKS_MAX:
            self.rank_phases[rank] = Phase(name, -1 if self.step is None else self.step)

    def _hear_step(self, step: int, told_rank: int | None, at: float) -> None:
        """Take in a step of a rank; a step back is a new start, or an evaluation's own count.

        Processes that name no rank share one count, so there a small step back is one of the
        slower.
        """
        rank = told_rank or 0
        known = self.rank_steps.get(rank)
        if known is not None and step < known:
            is_slower = told_rank is None and known - step <= UNRANKED_SKEW_STEPS
            if is_slower or not (self.phase is None or self.phase in STEPPING):
                return
            phases = {rank: self.rank_phases[rank]} if rank in self.rank_phases else {}
            self.rank_steps.clear()
            self.rank_phases = {key: replace(phase, step=step) for key, phase in phases.items()}
            self.step = self.step_at = None
        if rank in self.rank_steps or len(self.rank_steps) < RANKS_MAX:
            self.rank_steps[rank] = step
        if self.step is not None and step <= self.step:
            return
        if self.step_at is not None:
            waited = max(0.0, at - self.step_at)
            self.longest_step_seconds = max(self.longest_step_seconds or 0.0, waited)
        self.step, self.step_at = step, at

    def living(self, stats: Mapping[int, Stat]) -> list[ProcessIdentity]:
        """Return the members that live, by pid."""
        return [
            self.members[pid].who
            for pid in sorted(self.members)
            if _is_same(self.members[pid].who, stats)
        ]

    def ended_helpers(self, stats: Mapping[int, Stat]) -> list[ProcessIdentity]:
        """Return the ended members that lived only to tell something (`chipmedic beat`)."""
        return [
            member.who
            for member in self.members.values()
            if not _is_same(member.who, stats) and not member.is_settled
        ]

    def labels(self, stats: Mapping[int, Stat], at: float) -> dict[str, str]:
        """Return what a person wants to know of the ranks; starts the next stretch of waiting."""
        labels: dict[str, str] = {}
        if self.longest_step_seconds is not None:
            labels["longest_step_seconds"] = f"{self.longest_step_seconds:.3f}"
            self.longest_step_seconds = None
        if self.rank_steps and self.step is not None:
            steps = sorted(self.rank_steps.items())[:SHOWN_MAX]
            labels["rank_steps"] = " ".join(f"{rank}:{step}" for rank, step in steps)
            late = [(rank, step) for rank, step in steps if step < self.step]
            if late:
                labels["behind"] = ", ".join(f"{rank} (at step {step})" for rank, step in late)
        if gone := self._gone(stats, at):
            labels["gone_ranks"] = ", ".join(gone[:SHOWN_MAX])
        return labels

    def _gone(self, stats: Mapping[int, Stat], at: float) -> list[str]:
        """Return the ranks whose process ended while others of the job live; tidy up the others."""
        alive_ranks: set[int | None] = set()
        for member in self.members.values():
            if _is_same(member.who, stats):
                member.last_at = max(member.last_at, at)
                alive_ranks.add(member.who.rank)
        gone: list[str] = []
        for pid, member in list(self.members.items()):
            if _is_same(member.who, stats):
                continue
            rank = member.who.rank
            if rank is None or rank in alive_ranks or not member.is_settled or not alive_ranks:
                del self.members[pid]
            else:
                self.rank_phases.pop(rank, None)  # a dead rank writes no checkpoint
                gone.append(f"{rank} (pid {pid})")
        return gone


def _is_same(who: ProcessIdentity, stats: Mapping[int, Stat]) -> bool:
    stat = stats.get(who.pid)
    return stat is not None and stat.started == who.started
