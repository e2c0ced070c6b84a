"""Whose processes are on which chip, and how far their job has come.

Chip processes come from the vendors' collectors, progress from the socket or the age of the job's
log, everything else from `/proc`. What comes out is a scan of the source `jobs`; the hang detector
judges it. Labels of a `JobStatus` that this module sets: `rank_steps`, `behind`, `gone_ranks`,
`processes`, `partitions`, `returned`, `longest_step_seconds`, `log`, `log_at`, `log_trouble`,
`ended_at` (when its last process here was first missed; the node's clock), and the marks of
`processes.identify`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Protocol

from chipmedic.host import Host
from chipmedic.model import ChipProcess, JobStatus, Scan
from chipmedic_agent.job_course import JobCourse
from chipmedic_agent.job_log import LogAge
from chipmedic_agent.process_tree import Process, launcher_of
from chipmedic_agent.processes import (
    ProcessIdentity,
    Stat,
    identify,
    read_stat,
    uptime,
    user_name,
    wait_channel,
)
from chipmedic_agent.progress import Beat

FORGET_SECONDS = 600.0
"""A job without living processes is kept so long: its senders may be short-lived."""
END_TOLD_SECONDS = 60.0
"""So long the end of a job is reported that told nothing of itself: when it was says whether a
fault that is seen later can have been its cause."""
JOBS_MAX = 256
CLAIMS_MAX = 1024
"""Sessions whose job is known by their beats alone; of more the oldest are forgotten."""
LATE_SECONDS = 5.0
"""Clocks and boot times are known no better than this."""
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
LAUNCHERS_MAX = 64
"""Processes of one job whose launcher is remembered."""
SHOWN_MAX = 16
"""Ranks and processes named in one label."""
_SCHEDULED = ("slurm:", "kubernetes:", "torchrun:", "local:")


class BeatSource(Protocol):
    """Where beats come from; `ProgressListener` is one."""

    def drain(self) -> list[Beat]:
        """Return the beats since the last call, oldest first."""
        ...


class JobTracker:
    """Maps processes to jobs and beats to steps; `scan` blocks a little (it reads `/proc`)."""

    def __init__(self, host: Host, listener: BeatSource | None = None) -> None:
        self._host = host
        self._listener = listener
        self._holders: tuple[ChipProcess, ...] = ()
        self._known: dict[int, ProcessIdentity] = {}
        self._jobs: dict[str, JobCourse] = {}
        self._claims: dict[int, str] = {}
        """Job by session, where only the beats of an unmarked process name it."""
        self._users: dict[int, str | None] = {}
        self._left: set[str] = set()
        """Jobs that were told to leave since the last look."""
        self.kept_out_since: Callable[[], float | None] = lambda: None
        """Since when launchers are kept off this node (UNIX seconds); None: they are not."""
        self._logs = LogAge(host)
        self._at_work: dict[str, tuple[ProcessIdentity, ...]] = {}
        self._launchers: dict[str, dict[int, Process | None]] = {}
        """By job: the launcher above each process of it that was seen."""
        self.refused_total = 0
        """Beats for a job that is not the sender's."""

    def observe(self, processes: Iterable[ChipProcess], now: float) -> None:
        """Take over which processes hold which chips; cheap, from any thread."""
        del now
        self._holders = tuple(processes)

    def scan(self, now: float) -> Scan:
        """Return the jobs of this node as a scan of the source `jobs`; drains the listener."""
        for beat in self._listener.drain() if self._listener is not None else ():
            self._hear(beat)
        stats = self._look_at_processes()
        holders = self._place_holders(stats, now)
        self._adopt_callers(stats, now)
        statuses = []
        at_work: dict[str, tuple[ProcessIdentity, ...]] = {}
        left, self._left = self._left, set()
        for job, course in list(self._jobs.items()):
            alive = course.living(stats)
            if job in left and not alive:
                self._drop(job)
                continue
            if alive:
                at_work[job] = tuple(alive)
                self._find_launchers(job, alive)
            if alive or job in holders:
                course.seen_at = max(course.seen_at, now)
            elif now - course.seen_at >= FORGET_SECONDS:
                self._drop(job)
                continue
            course.look(now, is_alive=bool(alive) or job in holders)
            has_ended = course.ended_at is not None and now - course.ended_at < END_TOLD_SECONDS
            if alive or has_ended or course.step is not None or course.phase is not None:
                chips = tuple(sorted(holders.get(job, ())))
                statuses.append(self._status(job, course, alive, stats, chips, now))
        self._at_work = at_work
        return Scan(source="jobs", at=now, jobs=tuple(statuses))

    def workers(self, job: str) -> tuple[ProcessIdentity, ...]:
        """Return the processes of a job that lived at the last look; from any thread."""
        return self._at_work.get(job, ())

    def launchers(self, job: str) -> tuple[Process, ...]:
        """Return the launchers that were seen above its processes, alive or not; from any thread.

        Between two starts of its workers a launcher is all that there is of a job.
        """
        found = tuple(self._launchers.get(job, {}).values())
        return tuple(dict.fromkeys(each for each in found if each is not None))

    def forget(self, job: str) -> None:
        """Take a job without processes for one that has left; from any thread.

        Else it would be reported for as long as one between two starts.
        """
        self._left = {*self._left, job}

    def _find_launchers(self, job: str, alive: list[ProcessIdentity]) -> None:
        known = self._launchers.get(job, {})
        fresh = {who.pid: launcher_of(self._host, who.pid) for who in alive if who.pid not in known}
        if fresh:
            newest = list({**known, **fresh}.items())[-LAUNCHERS_MAX:]
            self._launchers[job] = dict(newest)

    def _look_at_processes(self) -> dict[int, Stat]:
        """Return the living processes among those that matter; a reused pid is another process."""
        wanted = {holder.pid for holder in self._holders} | self._known.keys()
        stats: dict[int, Stat] = {}
        for pid in wanted:
            stat = read_stat(self._host, pid)
            known = self._known.get(pid)
            if stat is None or not stat.is_alive:
                self._known.pop(pid, None)
                continue
            if known is not None and known.started != stat.started:
                del self._known[pid]
            stats[pid] = stat
        return stats

    def _place_holders(self, stats: dict[int, Stat], now: float) -> dict[str, set[str]]:
        """Return the chips of each job, and make known whose the processes on them are."""
        chips: dict[str, set[str]] = {}
        for holder in self._holders:
            if holder.pid not in stats:
                continue
            who = self._identity(holder.pid)
            if who is None:
                continue
            job = self._job_of(who)
            course = self._proven(job, who, now)
            if course is not None:
                course.join(who, now, is_holder=True)
                chips.setdefault(job, set()).add(holder.chip)
        return chips

    def _adopt_callers(self, stats: dict[int, Stat], now: float) -> None:
        """Let the shell that called `chipmedic beat` stand for its job; the command is gone."""
        for job, course in self._jobs.items():
            for helper in course.ended_helpers(stats):
                stat = read_stat(self._host, helper.parent) if helper.parent > 1 else None
                if stat is None or not stat.is_alive:
                    continue
                caller = self._identity(helper.parent)
                if caller is not None and self._job_of(caller) == job:
                    stats[caller.pid] = stat
                    course.join(caller, now, is_holder=False)

    def _identity(self, pid: int) -> ProcessIdentity | None:
        known = self._known.get(pid)
        if known is None or not known.is_whole:
            known = identify(self._host, pid) or known
        if known is not None:
            self._known[pid] = known
        return known

    def _job_of(self, who: ProcessIdentity) -> str:
        """Return the job of a process; of an unmarked one what its own beats call it."""
        return who.job if who.is_marked else self._claims.get(who.session, who.job)

    def _drop(self, job: str) -> None:
        """Forget a job, and which sessions called themselves by it."""
        del self._jobs[job]
        self._launchers.pop(job, None)
        self._claims = {session: name for session, name in self._claims.items() if name != job}

    def _course(self, job: str, *, owner: int | None, at: float) -> JobCourse | None:
        """Return the course of a job, made if there is room."""
        course = self._jobs.get(job)
        if course is None and len(self._jobs) < JOBS_MAX:
            course = self._jobs[job] = JobCourse(owner=owner, seen_at=at)
        return course

    def _proven(self, job: str, who: ProcessIdentity, at: float) -> JobCourse | None:
        """Return the course of a job whose process holds a chip; that user owns the job.

        What somebody else may have told of it before is dropped, and where there is no room, the
        job that is only told of and was so the longest ago.
        """
        if job not in self._jobs and len(self._jobs) >= JOBS_MAX:
            told = [name for name, course in self._jobs.items() if not course.is_owner_proven]
            if told:
                self._drop(min(told, key=lambda name: self._jobs[name].seen_at))
        course = self._course(job, owner=who.uid, at=at)
        if course is None or course.is_owner_proven:
            return course
        if course.owner != who.uid:
            course = self._jobs[job] = JobCourse(owner=who.uid, seen_at=at)
        course.is_owner_proven = True
        return course

    def _hear(self, beat: Beat) -> None:
        """Take in a beat, if its sender may speak for the job."""
        job = self._spoken_for(beat)
        course = None if job is None else self._course(job, owner=beat.uid, at=beat.at)
        if job is None or course is None or not course.may_be_told_by(beat.uid):
            self.refused_total += 1
            return
        course.seen_at = max(course.seen_at, beat.at)
        who = beat.sender
        if who is not None:
            self._known.setdefault(who.pid, who)
            if not who.is_marked and beat.uid != 0:
                self._claim(who.session, job)
        course.hear(beat)

    def _claim(self, session: int, job: str) -> None:
        self._claims.pop(session, None)
        self._claims[session] = job
        if len(self._claims) > CLAIMS_MAX:
            del self._claims[next(iter(self._claims))]

    def _spoken_for(self, beat: Beat) -> str | None:
        """Return the job that a beat counts for.

        A process that a scheduler, a launcher or its environment marks speaks for that job alone;
        root may speak for every one, and an unmarked process for one that its user owns.
        """
        named = beat.job
        if named is not None and not named.startswith(_SCHEDULED):
            named = f"local:{named}"
        who = beat.sender
        if named is not None and beat.uid == 0:
            return named
        if who is not None and who.is_marked:
            return who.job
        if named is not None:
            return named
        return None if who is None else self._job_of(who)

    def _status(
        self,
        job: str,
        course: JobCourse,
        alive: list[ProcessIdentity],
        stats: dict[int, Stat],
        chips: tuple[str, ...],
        now: float,
    ) -> JobStatus:
        labels = dict(alive[0].labels) if alive else {}
        labels |= course.labels(stats, now)
        if course.ended_at is not None:
            labels["ended_at"] = f"{course.ended_at:.3f}"
        if back := self._returned(job, alive, now):
            labels["returned"] = back
        if slices := self._slices(alive):
            labels["partitions"] = slices
        if sleeping := self._not_at_work(alive, stats):
            labels["processes"] = sleeping
        if log := course.log or next((who.log for who in alive if who.log), None):
            pid = alive[0].pid if alive else None
            labels |= self._logs.labels(log, pid, now, is_holder=bool(chips))
        return JobStatus(
            job=job,
            at=now,
            chips=chips,
            pids=tuple(sorted(who.pid for who in alive)),
            ranks=tuple(sorted({who.rank for who in alive if who.rank is not None})),
            step=course.step,
            step_at=course.step_at,
            phase=course.phase,
            checkpoint_step=course.checkpoint_step,
            attempt=max((who.attempt for who in alive), default=course.attempt),
            user=self._user(course.owner),
            name=next((who.name for who in alive if who.name), None),
            labels=labels,
        )

    def _slices(self, alive: list[ProcessIdentity]) -> str:
        """Return the slices of chips that the job runs in, where chips are cut into some."""
        pids = {who.pid for who in alive}
        found = {
            f"{holder.partition} of {holder.chip}"
            for holder in self._holders
            if holder.partition is not None and holder.pid in pids
        }
        return "; ".join(sorted(found)[:SHOWN_MAX])

    def _returned(self, job: str, alive: list[ProcessIdentity], now: float) -> str:
        """Return the processes of a torchrun job that began after launchers were kept out."""
        since = self.kept_out_since()
        if since is None or not job.startswith("torchrun:"):
            return ""
        uptime_seconds = uptime(self._host)
        if uptime_seconds is None:
            return ""
        booted_at = now - uptime_seconds
        late = [
            who
            for who in alive
            if booted_at + who.started / TICKS_PER_SECOND > since + LATE_SECONDS
        ]
        return ", ".join(f"pid {who.pid}" for who in late[:SHOWN_MAX])

    def _not_at_work(self, alive: list[ProcessIdentity], stats: dict[int, Stat]) -> str:
        """Return which processes are stuck, stopped or dead, and in which kernel function."""
        words = []
        for who in alive[:SHOWN_MAX]:
            state = stats[who.pid].state
            if state not in "DTt":
                continue
            place = wait_channel(self._host, who.pid) if state == "D" else ""
            rank = "" if who.rank is None else f" rank {who.rank}"
            words.append(f"pid {who.pid}{rank} state {state}" + (f" in {place}" if place else ""))
        return ", ".join(words)

    def _user(self, uid: int | None) -> str | None:
        if uid is None:
            return None
        if uid not in self._users:
            self._users[uid] = user_name(self._host, uid)
        return self._users[uid]
