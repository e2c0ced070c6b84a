"""What the watchdog may have done to jobs of this node, where the agent's configuration allows it.

Each act names a job or the node, never a process or a command: which processes those are, and how
they are ended, is the agent's own knowledge. Each can be asked again and is then found done.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from chipmedic.host import Host
from chipmedic_agent.config import JobSettings
from chipmedic_agent.job_room import JobRoom
from chipmedic_agent.process_tree import Ended, Process, catches, end, send, with_descendants
from chipmedic_agent.processes import ProcessIdentity
from chipmedic_agent.worker import apart
from chipmedic_proto.v1 import chipmedic_pb2 as pb

KILL_SECONDS = 5.0
"""How long SIGKILL may take; what lives then sleeps in the kernel."""
NEEDED_WORD = {
    "checkpoint": "checkpoint",
    "leave": "leave",
    "keep_out": "leave",
    "let_in": "leave",
    "restart": "restart",
}
"""Which word of `[jobs] allow` each act needs; `look` changes nothing and needs none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an act."""

    ok: bool
    detail: str
    is_final: bool = False
    """It will fail again until a person changes something."""


class JobSight(Protocol):
    """What is known of the jobs here; `JobTracker` is one."""

    def workers(self, job: str) -> Sequence[ProcessIdentity]:
        """Return the processes of a job that lived at the last look."""
        ...

    def launchers(self, job: str) -> Sequence[Process]:
        """Return the launchers that were seen above its processes, alive or not."""
        ...

    def forget(self, job: str) -> None:
        """Report a job no more that has left."""
        ...


class JobActs:
    """Does one act at a time: two that end processes must not meet."""

    def __init__(
        self,
        settings: JobSettings,
        jobs: JobSight,
        room: JobRoom,
        host: Host,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._jobs = jobs
        self._room = room
        self._host = host
        self._now = now
        self._lock = asyncio.Lock()

    async def carry_out(self, act: pb.JobAct) -> Outcome:
        """Do what is asked for and say what came of it; blocks at most the grace and some."""
        works = {
            "look": self._look,
            "checkpoint": self._checkpoint,
            "leave": self._leave,
            "restart": self._restart,
            "keep_out": self._keep_out,
            "let_in": self._let_in,
        }
        work = works.get(act.act)
        if work is None:
            return Outcome(
                False, f"unknown act {act.act!r}: this agent is of another version", True
            )
        word = NEEDED_WORD.get(act.act)
        if word is not None and word not in self.settings.allow:
            words = f'not allowed on this node: [jobs] allow in its agent.toml has no "{word}"'
            return Outcome(False, words, True)
        async with self._lock:
            try:
                return await apart("job act", partial(work, act))
            except OSError as e:
                return Outcome(False, f"{e.filename or 'files for jobs'}: {e.strerror}")

    def _look(self, _: pb.JobAct) -> Outcome:
        reason = self._room.reason()
        return Outcome(reason is not None, reason or "launchers may start")

    def _keep_out(self, act: pb.JobAct) -> Outcome:
        trouble = self._room.keep_out(act.reason, self._now())
        return Outcome(True, "launchers are kept out" + (f"; {trouble}" if trouble else ""))

    def _let_in(self, act: pb.JobAct) -> Outcome:
        present = self._room.reason()
        if present is not None and present != act.reason:
            return Outcome(False, f"launchers are kept out for another reason: {present}", True)
        self._room.let_in()
        return Outcome(True, "launchers may start")

    def _checkpoint(self, act: pb.JobAct) -> Outcome:
        workers = self._jobs.workers(act.job)
        if not workers:
            return Outcome(False, f"no process of {act.job} lives here")
        words = [f"asked by {self._room.ask_checkpoint(act.job, act.reason)}"]
        if self.settings.checkpoint_signal:
            words.append(self._signal(workers, signal.Signals[self.settings.checkpoint_signal]))
        return Outcome(True, "; ".join(words))

    def _signal(self, workers: Sequence[ProcessIdentity], number: signal.Signals) -> str:
        """Send a signal to the workers that have a handler for it: the others would die of it."""
        hearing = [who for who in workers if catches(self._host, who.pid, number)]
        sent = [send(self._host, Process(who.pid, who.started), number) for who in hearing]
        words = f"{number.name} to {sum(sent)} of {len(workers)} processes"
        if not all(sent):
            words += f"; {DENIED}"
        elif len(hearing) < len(workers):
            words += "; the others do not catch it"
        return words

    def _leave(self, act: pb.JobAct) -> Outcome:
        """End the launcher, which ends its workers; then whatever is left."""
        if self._room.reason() is None:
            words = "launchers are not kept out here: whatever starts them would start them again"
            return Outcome(False, words, True)
        workers = [Process(who.pid, who.started) for who in self._jobs.workers(act.job)]
        launchers = [p for p in self._jobs.launchers(act.job) if p.is_alive(self._host)]
        family = with_descendants(self._host, [*launchers, *workers])
        outcome = Outcome(True, f"no process of {act.job} lives here")
        if family:
            # A launcher ends its workers itself, and says in its log that it was told to.
            outcome = self._told(self._end(launchers or family, family), len(family))
        if outcome.ok:
            self._jobs.forget(act.job)
        return outcome

    def _restart(self, act: pb.JobAct) -> Outcome:
        """End the workers; their launcher, which lives on, starts them again."""
        workers = self._jobs.workers(act.job)
        launchers = [p for p in self._jobs.launchers(act.job) if p.is_alive(self._host)]
        if not launchers:
            words = f"no launcher of {act.job} lives here: nothing would start its workers again"
            return Outcome(False, words, True)
        if not workers or max(who.attempt for who in workers) > act.attempt:
            return Outcome(True, f"{act.job} starts again by itself")
        roots = [Process(who.pid, who.started) for who in workers]
        family = with_descendants(self._host, roots)
        return self._told(self._end(family, family), len(family))

    def _end(self, first: Sequence[Process], family: Sequence[Process]) -> Ended:
        return end(
            self._host, first, family,
            grace_seconds=self.settings.grace_seconds, kill_seconds=KILL_SECONDS,
        )  # fmt: skip

    def _told(self, ended: Ended, count: int) -> Outcome:
        if ended.denied:
            return Outcome(False, DENIED, True)
        if ended.left:
            pids = ", ".join(str(process.pid) for process in ended.left)
            return Outcome(False, f"SIGKILL does not end pid {pids}: asleep in the kernel")
        killed = f", {ended.killed} of them by SIGKILL" if ended.killed else ""
        return Outcome(True, f"{count} processes ended in {ended.seconds:.1f} s{killed}")


DENIED = (
    "the agent may not signal processes of other users: it needs CAP_KILL "
    "(deploy/torchrun/agent-job-acts.conf)"
)
