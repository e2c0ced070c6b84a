"""Slurm's commands, each under a timeout; an answer that cannot be read is a failure."""

from __future__ import annotations

from collections.abc import Mapping

from chipmedic.errors import DeliveryFailed, JobGone, ToolBlocked, ToolFailed, ToolMissing
from chipmedic.host import Host, LinuxHost
from chipmedic.recoverer import JobRun, NodeView
from chipmedic_watchdog.recover.settings import SlurmSettings
from chipmedic_watchdog.recover.slurm import runs as slurm_runs
from chipmedic_watchdog.recover.slurm import text as slurm_text
from chipmedic_watchdog.recover.slurm.text import SlurmJob, SlurmNode

GONE = "Invalid job id"
"""How Slurm answers about a job that it does not know."""

PERMANENT = (
    "Invalid node name",
    "not found",
    "Access/permission denied",
    "Invalid user id",
    "Access denied to requested reservation",
    "Requested reservation is invalid",
)
"""Answers that a second try does not change."""


class SlurmCommands:
    """scontrol, squeue and sinfo of one cluster."""

    def __init__(self, settings: SlurmSettings, host: Host | None = None) -> None:
        self._settings = settings
        self._host = host or LinuxHost()

    def node(self, name: str) -> SlurmNode:
        """Return a node by its name or by the short form of it.

        Raises:
            DeliveryFailed: Slurm does not know it, or did not answer.
        """
        if not slurm_text.HOST_PATTERN.fullmatch(name):
            raise DeliveryFailed(f"{name!r} is no name of a node", is_permanent=True)
        short = name.partition(".")[0]
        try:
            text = self._run("scontrol", "-o", "show", "node", name)
        except DeliveryFailed as e:
            if not e.is_permanent or short == name:
                raise
            text = self._run("scontrol", "-o", "show", "node", short)
        try:
            return slurm_text.read_node(text)
        except ValueError as e:
            raise DeliveryFailed(f"scontrol show node: {e}") from e

    def nodes(self) -> list[NodeView]:
        """Return the state of every node.

        Raises:
            DeliveryFailed: sinfo failed or printed what cannot be read; never an empty list.
        """
        text = self._run("sinfo", "-N", "-h", "-o", slurm_text.NODES_FORMAT)
        try:
            return slurm_text.read_nodes(text)
        except ValueError as e:
            raise DeliveryFailed(f"sinfo: {e}") from e

    def job(self, job: str) -> SlurmJob:
        """Return a job by its number.

        Raises:
            DeliveryFailed: Slurm does not know it (any more), or did not answer.
        """
        if not slurm_text.JOB_PATTERN.fullmatch(job):
            raise DeliveryFailed(f"{job!r} is no number of a Slurm job", is_permanent=True)
        text = self._run("squeue", "-h", "-t", "all", "-j", job, "-O", slurm_text.JOB_FORMAT)
        try:
            return slurm_text.read_job(text, job)
        except ValueError as e:
            raise DeliveryFailed(f"squeue: {e}") from e

    def runs(self) -> list[JobRun]:
        """Return the runs of jobs that Slurm still knows.

        Raises:
            DeliveryFailed: squeue failed.
        """
        env = {"SLURM_TIME_FORMAT": "%s"}
        asked = ("squeue", "-h", "-t", "all", "-O", slurm_text.RUN_FORMAT)
        found = slurm_runs.read_runs(self._run(*asked, env=env))
        if not slurm_runs.needs_names(found):
            return found
        names = self._run("squeue", "-h", "-t", "all", "-o", slurm_text.NAMES_FORMAT)
        return slurm_runs.with_families(found, slurm_runs.read_names(names))

    def excluded(self, job: str) -> list[str]:
        """Return the nodes that a job must not use."""
        text = self._run("squeue", "-h", "-t", "all", "-j", job, "-o", "%x").strip()
        try:
            return slurm_text.expand_hosts(text.splitlines()[0] if text else "")
        except ValueError as e:
            raise DeliveryFailed(f"squeue: {e}") from e

    def comment(self, job: str) -> str:
        """Return what the user wrote into the job's comment."""
        return self._run("squeue", "-h", "-t", "all", "-j", job, "-o", "%k")

    def exit_code(self, job: str) -> int:
        """Return with which status a job's script ended; -1 where it was killed or is not known."""
        asked = ("squeue", "-h", "-t", "all", "-j", job, "-O", "JobID:|,exit_code:|")
        for line in self._run(*asked).splitlines():
            cells = line.split("|")
            if cells[0] == job and len(cells) > 1 and cells[1].isdecimal():
                status = int(cells[1])
                return status >> 8 if status & 0x7F == 0 else -1
        return -1

    def batch_host(self, job: str) -> str:
        """Return the node on which a job's script runs; empty where Slurm does not say."""
        text = self._run("squeue", "-h", "-j", job, "-o", "%B")
        return text.strip().splitlines()[0] if text.strip() else ""

    def steps(self, job: str) -> list[int]:
        """Return the numbers of a job's running steps, without those of Slurm's own."""
        text = self._run("squeue", "-h", "-s", "-j", job, "-o", "%i")
        numbers = (line.strip().rpartition(".")[2] for line in text.splitlines())
        return sorted(int(number) for number in numbers if number.isdecimal())

    def cancel_step(self, job: str, step: int) -> None:
        """End one step; its job goes on."""
        self._run("scancel", f"{job}.{step}")

    def reserved(self, reservation: str) -> dict[str, str]:
        """Return the state of each node of a reservation.

        Raises:
            DeliveryFailed: there is no such reservation.
        """
        shown = self._run("scontrol", "-o", "show", "reservation", reservation)
        fields = dict(part.split("=", 1) for part in shown.split() if "=" in part)
        try:
            names = slurm_text.expand_hosts(fields.get("Nodes", ""))
        except ValueError as e:
            raise DeliveryFailed(f"scontrol show reservation: {e}") from e
        if not names:
            return {}
        text = self._run("sinfo", "-N", "-h", "-n", ",".join(names), "-o", "%N|%T")
        pairs = (line.strip().partition("|") for line in text.splitlines() if "|" in line)
        return {name: state.upper() for name, _, state in pairs}

    def reservation_of(self, job: str) -> str:
        """Return the reservation that a job is in; empty: none."""
        text = self._run("squeue", "-h", "-t", "all", "-j", job, "-o", "%v").strip()
        name = text.splitlines()[0] if text else ""
        return "" if name in ("(null)", "N/A") else name

    def update_node(self, node: str, **values: str) -> None:
        """Set a node's state."""
        pairs = [f"{key}={value}" for key, value in values.items()]
        self._run("scontrol", "update", f"NodeName={node}", *pairs)

    def update_job(self, job: str, **values: str) -> None:
        """Set fields of a job."""
        pairs = [f"{key}={value}" for key, value in values.items()]
        self._run("scontrol", "update", f"JobId={job}", *pairs)

    def now(self) -> float:
        """Return the time of this host."""
        return self._host.now()

    def requeue(self, job: str) -> None:
        """Stop a job and queue it again."""
        self._run("scontrol", "requeue", job)

    def hold(self, job: str) -> None:
        """Keep a pending job from starting."""
        self._run("scontrol", "hold", job)

    def fence(self, node: str, incident: str) -> bool:
        """Prove a node dead by the configured command; False where none is configured.

        Raises:
            DeliveryFailed: the command did not prove it.
        """
        if not self._settings.fence:
            return False
        values = {"node": node, "incident": incident}
        self._run(*(argument.format_map(values) for argument in self._settings.fence))
        return True

    def _run(self, *argv: str, env: Mapping[str, str] | None = None) -> str:
        try:
            answer = self._host.run(
                argv,
                timeout_seconds=self._settings.command_timeout_seconds,
                env={**self._settings.env, **(env or {})},
            )
        except ToolMissing as e:
            raise DeliveryFailed(f"{e} on the watchdog's host", is_permanent=True) from e
        except (ToolFailed, ToolBlocked) as e:
            raise DeliveryFailed(str(e)) from e
        if answer.exit_code == 0:
            return answer.stdout
        said = (answer.stderr.strip() or answer.stdout.strip() or "no output")[:300]
        if GONE in said:
            raise JobGone(said)
        raise DeliveryFailed(
            f"{' '.join(argv[:3])}: exit {answer.exit_code}: {said}",
            is_permanent=any(text in said for text in PERMANENT),
        )
