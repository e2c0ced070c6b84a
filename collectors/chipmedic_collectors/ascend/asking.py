"""The vendor's tools, asked one at a time and never while one of them is stuck.

npu-smi has no time limit of its own and waits for the device (30 s and more); hccn_tool takes a
lock for the whole host. So every call has a limit, and nothing is started beside a process that
cannot be killed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chipmedic import Host
from chipmedic.errors import ToolBlocked, ToolFailed, ToolMissing
from chipmedic.host import Answer
from chipmedic.tool_report import ProblemKind, ToolReport, ToolRun
from chipmedic_collectors.ascend.arguments import HCCN_TOOL, NPU_SMI
from chipmedic_collectors.ascend.tools import VENDOR, read

_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/local/Ascend/driver/tools")
"""Where the driver's installer puts its tools; not all of them are on the PATH of a service."""
_DRIVER_LIBRARIES = {
    "LD_LIBRARY_PATH": ":".join(
        f"/usr/local/Ascend/driver/lib64{part}" for part in ("", "/common", "/driver")
    )
}
_LOADER_COMPLAINTS = ("shared librar", "shared object file")
_UNINTERRUPTIBLE = "D"


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


class Tools:
    """`npu-smi` and `hccn_tool` of one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._env: Mapping[str, str] | None = None
        self._stuck_pid: int | None = None

    def is_installed(self) -> bool:
        """Say whether npu-smi is on this host."""
        return self._find(NPU_SMI) is not None

    def npu_smi(self, *words: str, timeout_seconds: float) -> Asked:
        """Run npu-smi; a tool that is missing or cannot be started is a problem of the report.

        Raises:
            ToolBlocked: it hung, or an earlier one is still stuck in the kernel.
        """
        return self._ask(NPU_SMI, words, timeout_seconds)

    def hccn(self, *words: str, timeout_seconds: float) -> Asked:
        """Run hccn_tool, as `npu_smi` does."""
        return self._ask(HCCN_TOOL, words, timeout_seconds)

    def _ask(self, program: str, words: tuple[str, ...], timeout_seconds: float) -> Asked:
        self._refuse_while_stuck()
        argv = (self._find(program) or program, *words)
        try:
            answer = self._run(argv, timeout_seconds)
        except ToolMissing as e:
            return _failed(ProblemKind.TOOL_MISSING, str(e))
        except ToolFailed as e:
            return _failed(ProblemKind.PERMISSION, str(e))
        except ToolBlocked as e:
            self._stuck_pid = e.abandoned_pid
            raise
        run = ToolRun(argv, answer.stdout, answer.stderr, answer.exit_code)
        return Asked(read(run), answer.stdout)

    def _run(self, argv: tuple[str, ...], timeout_seconds: float) -> Answer:
        answer = self._host.run(argv, timeout_seconds=timeout_seconds, env=self._env)
        if self._env is None and any(word in answer.stderr for word in _LOADER_COMPLAINTS):
            self._env = _DRIVER_LIBRARIES
            answer = self._host.run(argv, timeout_seconds=timeout_seconds, env=self._env)
        return answer

    def _find(self, program: str) -> str | None:
        if self._host.which(program):
            return program
        places = (f"{folder}/{program}" for folder in _FOLDERS)
        return next((self._host.path(place) for place in places if self._host.glob(place)), None)

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


def _failed(kind: ProblemKind, message: str) -> Asked:
    report = ToolReport(vendor=VENDOR)
    report.add_problem(kind, message)
    return Asked(report, "")
