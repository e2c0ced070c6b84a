"""A vendor's tool, asked one question at a time and never while an earlier one is stuck.

Vendor tools wait for a wedged chip without a limit of their own, so every call has one, and nothing
is started beside a process that cannot be killed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chipmedic import Host
from chipmedic.errors import ToolBlocked, ToolFailed, ToolMissing
from chipmedic.host import Answer
from chipmedic.tool_report import ProblemKind, ToolReader, ToolReport, ToolRun

_UNINTERRUPTIBLE = "D"
_LOADER_COMPLAINTS = ("shared librar", "shared object file")


@dataclass(frozen=True, slots=True)
class Asked:
    """What one run of a tool stated, and its words."""

    report: ToolReport
    text: str

    def has(self, *kinds: ProblemKind) -> bool:
        """Say whether one of these problems was stated."""
        return any(problem.kind in kinds for problem in self.report.problems)

    @property
    def words(self) -> str:
        """What the tool said was wrong, in one line."""
        return "; ".join(problem.message for problem in self.report.problems)


class Tool:
    """One vendor's tools on one host, read by the vendor's reader."""

    def __init__(
        self,
        host: Host,
        reader: ToolReader,
        folders: Sequence[str] = (),
        *,
        libraries: Sequence[str] = (),
        limit_seconds: float = math.inf,
    ) -> None:
        """Ask with a time limit; `libraries` are the folders that the vendor's installer fills.

        An installer that leaves its folders out of the loader's configuration relies on a login
        shell's LD_LIBRARY_PATH, which a service does not have: they are named to the tool from the
        first complaint of the loader on.
        """
        self._host = host
        self._limit_seconds = limit_seconds
        self._reader = reader
        self._folders = folders
        self._libraries = libraries
        self._env: Mapping[str, str] | None = None
        self._stuck_pid: int | None = None

    def find(self, program: str) -> str | None:
        """Return how to start a program: by name where PATH has it, else by its usual folder."""
        if self._host.which(program):
            return program
        places = (f"{folder}/{program}" for folder in self._folders)
        return next((self._host.path(place) for place in places if self._host.glob(place)), None)

    def ask(self, argv: Sequence[str], *, timeout_seconds: float) -> Asked:
        """Run a tool; one that is missing or cannot be started is a problem of the report.

        Raises:
            ToolBlocked: it hung, or an earlier one is still stuck in the kernel.
        """
        self._refuse_while_stuck()
        argv = (self.find(argv[0]) or argv[0], *argv[1:])
        limit = min(timeout_seconds, self._limit_seconds)
        try:
            answer = self._run(argv, limit)
        except ToolMissing as e:
            return self._failed(ProblemKind.TOOL_MISSING, str(e))
        except ToolFailed as e:
            return self._failed(ProblemKind.PERMISSION, str(e))
        except ToolBlocked as e:
            self._stuck_pid = e.abandoned_pid
            raise
        run = ToolRun(argv, answer.stdout, answer.stderr, answer.exit_code)
        return Asked(self._reader.read(run), answer.stdout)

    def _run(self, argv: Sequence[str], limit_seconds: float) -> Answer:
        answer = self._host.run(argv, timeout_seconds=limit_seconds, env=self._env)
        if self._env is None and self._libraries and _is_of_loader(answer):
            self._env = {"LD_LIBRARY_PATH": ":".join(self._libraries)}
            answer = self._host.run(argv, timeout_seconds=limit_seconds, env=self._env)
        return answer

    def _refuse_while_stuck(self) -> None:
        pid = self._stuck_pid
        if pid is None:
            return
        try:
            state = self._host.read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            state = ""
        if state != _UNINTERRUPTIBLE:  # killed long ago, so any other state is another process
            self._stuck_pid = None
            return
        raise ToolBlocked(
            f"an earlier tool (pid {pid}) is still stuck in the kernel; no second one is started",
            abandoned_pid=pid,
        )

    def _failed(self, kind: ProblemKind, message: str) -> Asked:
        report = ToolReport(vendor=self._reader.vendor)
        report.add_problem(kind, message)
        return Asked(report, "")


def _is_of_loader(answer: Answer) -> bool:
    return any(words in answer.stderr for words in _LOADER_COMPLAINTS)
