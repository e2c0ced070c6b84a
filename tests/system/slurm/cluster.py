"""A private Slurm on loopback: munge, slurmctld and four slurmd in one folder, as root.

Nothing of the machine's own Slurm or munge is touched: keys, sockets, ports and state are in the
folder. `cred_expire` is left at its default, so that the two minutes between a requeue and the next
start are as real as on a cluster in service.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from waiting import PATIENCE_SECONDS

PROGRAMS = ("munged", "slurmctld", "slurmd", "scontrol", "sinfo", "squeue", "sbatch", "scancel")
NODES = ("chip-a1", "chip-a2", "chip-a3", "chip-a4")

CONFIGURATION = """\
ClusterName=chipmedic-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdTimeout=40
MessageTimeout=30
KillWait=5
MailProg=/bin/true
JobAcctGatherType=jobacct_gather/none
{nodes}
PartitionName=train Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Return why a cluster cannot be started here, or None."""
    if os.geteuid() != 0:
        return "a private Slurm needs root (slurmd starts jobs for their users)"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: munge slurmctld slurmd slurm-client)"
    return None


@dataclass
class Cluster:
    """The running servers, and the commands to speak to them."""

    folder: Path
    extra: str = ""
    """More lines of slurm.conf; `{folder}` is filled in."""
    nodes: tuple[str, ...] = NODES
    servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """What a Slurm command needs to find this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def command(self, *argv: str) -> str:
        """Run a Slurm command; its output, or the test fails."""
        answer = subprocess.run(
            argv,
            env=self._whole_env(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert answer.returncode == 0, f"{argv}: {answer.stdout}{answer.stderr}"
        return answer.stdout

    def submit(self, *options: str, script: str = "exec srun sleep 600") -> str:
        """Submit a batch job; its id."""
        path = self.folder / f"job-{secrets.token_hex(4)}.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        output = f"--output={self.folder}/%j.out"
        return self.command("sbatch", "--parsable", output, *options, str(path)).strip()

    def job(self, job: str) -> dict[str, str]:
        """The fields of `scontrol show job`."""
        return _fields(self.command("scontrol", "-o", "show", "job", job))

    def node(self, node: str) -> dict[str, str]:
        """The fields of `scontrol show node`."""
        return _fields(self.command("scontrol", "-o", "show", "node", node))

    def job_nodes(self, job: str) -> set[str]:
        """The nodes on which a job is; which of several free ones Slurm takes is its own affair."""
        return set(self.command("scontrol", "show", "hostnames", self.job(job)["NodeList"]).split())

    def begin(self, *options: str) -> str:
        """Submit a job that lasts and wait until its script runs; its id.

        Slurm calls a job RUNNING while its prolog still asks whether the node is fit.
        """
        begun = self.folder / f"begun-{secrets.token_hex(4)}"
        job = self.submit(*options, script=f"touch {begun}\nexec srun sleep 600")
        self.wait("the job's script runs", begun.exists)
        return job

    def wait(
        self, what: str, is_so: Callable[[], bool], *, seconds: float = PATIENCE_SECONDS
    ) -> float:
        """Wait until something is so; how long it took."""
        start = time.monotonic()
        while not is_so():
            assert time.monotonic() - start < seconds, f"not within {seconds:g} s: {what}"
            time.sleep(0.2)
        return time.monotonic() - start

    def start(self) -> None:
        """Start every server and wait until all nodes are idle."""
        self._write_configuration()
        self._serve("munged", *self._munged())
        self.wait("munge", (self.folder / "munge.socket").exists)
        self.start_controller("-c")
        for node in self.nodes:
            self.start_slurmd(node)
        self.wait("all nodes idle", self._all_idle)

    def start_controller(self, *options: str) -> None:
        """Start the controller; without `-c` it takes up the state that it left."""
        self._serve("slurmctld", "slurmctld", "-D", *options)
        self.wait("the controller answers", self._controller_answers)

    def start_slurmd(self, node: str) -> None:
        """Start the daemon of one node."""
        self._serve(node, "slurmd", "-D", "-N", node)

    def tidy(self) -> None:
        """Cancel all jobs and bring every node back to idle."""
        self.command("scancel", "-u", "root")
        for node in self.nodes:
            if node not in self.servers:
                self.start_slurmd(node)
        self.wait("no job left", lambda: not self.command("squeue", "-h").strip())
        self.wait("all nodes idle", self._resumed)

    def _resumed(self) -> bool:
        """Resume what is out of service; a node that comes back by itself refuses that."""
        for node, state in self.states().items():
            if state.startswith(("drain", "down")):
                resume = ("scontrol", "update", f"NodeName={node}", "State=RESUME")
                subprocess.run(
                    resume,
                    env=self._whole_env(),
                    capture_output=True,
                    timeout=PATIENCE_SECONDS,
                    check=False,
                )
        return self._all_idle()

    def states(self) -> dict[str, str]:
        """The state of each node, as sinfo words it."""
        lines = self.command("sinfo", "-h", "-N", "-o", "%N %T").split("\n")
        return dict(line.split(" ", 1) for line in lines if line)

    def kill(self, server: str) -> None:
        """Kill a server as a crash would."""
        process = self.servers.pop(server)
        process.kill()
        process.wait(timeout=PATIENCE_SECONDS)

    def stop(self) -> None:
        """End all that was started, jobs included."""
        for name in [*self.nodes, "slurmctld", "munged"]:
            if name in self.servers:
                self.servers[name].terminate()
        for pid in self._leftovers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.servers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=3)  # slurmctld waits long for nodes that do not answer
            process.kill()
            process.wait(timeout=PATIENCE_SECONDS)
        self.servers.clear()

    def _controller_answers(self) -> bool:
        ping = subprocess.run(
            ["scontrol", "ping"], env=self._whole_env(), capture_output=True, text=True,
            timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        return " is UP" in ping.stdout

    def _all_idle(self) -> bool:
        answer = subprocess.run(
            ["sinfo", "-h", "-N", "-o", "%T"],
            env=self._whole_env(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return answer.stdout.split() == ["idle"] * len(self.nodes)

    def _whole_env(self) -> dict[str, str]:
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        return {**os.environ, "PATH": path, "LC_ALL": "C", **self.env}

    def _serve(self, name: str, *argv: str) -> None:
        with (self.folder / f"{name}.console").open("ab") as console:
            self.servers[name] = subprocess.Popen(
                argv,
                env=self._whole_env(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _munged(self) -> list[str]:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        places = [
            f"--{what}-file={self.folder}/munge.{what}" for what in ("key", "pid", "log", "seed")
        ]
        return ["munged", "--foreground", f"--socket={self.folder}/munge.socket", *places]

    def _write_configuration(self) -> None:
        (self.folder / "state").mkdir()
        host = socket.gethostname().partition(".")[0]
        ports = iter(_free_ports(len(self.nodes) + 1))
        controller_port = next(ports)
        nodes = []
        for node in self.nodes:
            (self.folder / f"spool-{node}").mkdir()
            nodes.append(
                f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={next(ports)} CPUs=2"
            )
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=host,
                folder=self.folder,
                controller_port=controller_port,
                nodes="\n".join(nodes),
                names=",".join(self.nodes),
            )
            + self.extra.format(folder=self.folder)
        )

    def _leftovers(self) -> Iterator[int]:
        """Processes with this cluster's folder in their environment: step daemons and jobs."""
        ours = f"SLURM_CONF={self.folder}/slurm.conf".encode()
        mine = {os.getpid(), *(process.pid for process in self.servers.values())}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) in mine:
                continue
            with contextlib.suppress(OSError):
                if ours in (entry / "environ").read_bytes():
                    yield int(entry.name)


def _fields(line: str) -> dict[str, str]:
    """Split `Key=value` pairs; only for keys whose values hold no blank."""
    return dict(part.split("=", 1) for part in line.split() if "=" in part)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()
