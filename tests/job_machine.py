"""A machine of processes that hold chips, and a look at the jobs that they make."""

from __future__ import annotations

from dataclasses import dataclass, field

from chipmedic.model import ChipProcess, JobStatus
from chipmedic.testing import FakeHost
from chipmedic_agent.jobs import JobTracker
from chipmedic_agent.processes import identify
from chipmedic_agent.progress import Beat

POD = "3f8a77c2-10aa-4c1e-9d2f-0c55aa117e01"
CONTAINER = "9b" * 32
SLURM_V2 = "0::/system.slice/slurmstepd.scope/job_{}/step_0/user/task_0\n"
SLURM_V1 = "5:devices:/slurm/uid_1000/job_{}/step_0/task_0\n1:name=systemd:/x\n"
KUBELET = (
    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
    + POD.replace("-", "_")
    + f".slice/cri-containerd-{CONTAINER}.scope\n"
)


@dataclass
class Machine:
    """A `/proc` in memory, and beats that wait to be drained."""

    files: dict[str, str | OSError] = field(default_factory=dict)
    beats: list[Beat] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.files["/etc/passwd"] = "root:x:0:0::/root:/bin/sh\nmaria:x:1000:1000::/h:/bin/sh\n"
        self.host = FakeHost(files=self.files)

    def drain(self) -> list[Beat]:
        beats, self.beats = self.beats, []
        return beats

    def start(
        self,
        pid: int,
        environ: dict[str, str] | None = None,
        *,
        cgroup: str = "0::/user.slice\n",
        uid: int = 1000,
        state: str = "S",
        parent: int = 1,
        session: int | None = None,
        started: int = 5000,
    ) -> None:
        rest = f"{parent} {pid} {session or pid} " + "0 " * 15 + f"{started} 0 0"
        self.files[f"/proc/{pid}/stat"] = f"{pid} (python (x) 3) {state} {rest}"
        self.files[f"/proc/{pid}/status"] = f"Name:\tpython\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
        self.files[f"/proc/{pid}/cgroup"] = cgroup
        pairs = (environ or {}).items()
        self.files[f"/proc/{pid}/environ"] = "".join(f"{k}={v}\0" for k, v in pairs)
        self.files[f"/proc/{pid}/wchan"] = "nfs_wait_bit_killable" if state == "D" else "0"

    def end(self, pid: int) -> None:
        for path in [path for path in self.files if path.startswith(f"/proc/{pid}/")]:
            del self.files[path]

    def beat(self, pid: int, at: float, *, uid: int = 1000, **said: object) -> None:
        sender = identify(self.host, pid)
        self.beats.append(Beat(at=at, pid=pid, uid=uid, sender=sender, **said))  # type: ignore[arg-type]


def look(
    machine: Machine, *chips: tuple[str, int], at: float = 100.0, tracker: JobTracker | None = None
) -> dict[str, JobStatus]:
    tracker = tracker or JobTracker(machine.host, machine)
    tracker.observe([ChipProcess(uid, pid) for uid, pid in chips], at)
    scan = tracker.scan(at)
    assert scan.source == "jobs"
    return {status.job: status for status in scan.jobs}


SLURM = {"SLURM_JOB_ID": "41", "SLURM_RESTART_COUNT": "2", "SLURM_PROCID": "3"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "exp", "RANK": "9", "TORCHELASTIC_RESTART_COUNT": "1"}
