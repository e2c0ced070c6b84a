"""A Slurm of one job in memory, spoken to by the real command lines; it can die at any of them.

It knows what the adapter sends and refuses everything else, so that a new command is noticed. What
it does with them was measured on Slurm 22.05 (tests/system/slurm has the same on a real one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from chipmedic.host import Answer
from chipmedic.testing import FakeHost
from chipmedic_watchdog.recover.slurm.text import JOB_FORMAT, NODES_FORMAT

NUMBER = "7"


@dataclass
class SlurmWorld(FakeHost):
    """One batch job on three of four nodes, the fourth is a spare."""

    nodes: dict[str, str] = field(
        default_factory=lambda: dict.fromkeys(("n1", "n2", "n3", "n4"), "")
    )
    """Node -> the reason that it is drained for."""
    job_nodes: list[str] = field(default_factory=lambda: ["n1", "n2", "n3"])
    state: str = "RUNNING"
    reason: str = "None"
    restarts: int = 0
    requeue: bool = True
    is_batch: bool = True
    whole: str = ""
    """The heterogeneous job that it is a part of."""
    comment: str = ""
    exit_code: int = 0
    steps: list[int] = field(default_factory=lambda: [0])
    next_step: int = 1
    goes_on: bool = True
    """Its script starts a step again."""
    excluded: list[str] = field(default_factory=list)
    reservation: str = ""
    spares: str = "n4"
    unheard: set[str] = field(default_factory=set)
    """Nodes that have not answered the controller since its start."""
    acts: list[str] = field(default_factory=list)
    """What was really changed."""
    dies: Callable[[str], None] = lambda _: None

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None = None
    ) -> Answer:
        """Do what the command says."""
        del timeout_seconds, env
        self.at += 1.0
        line = " ".join(argv)
        self.dies(f"before {line}")
        answer = self._answer(list(argv), line)
        if argv[1] in ("update", "requeue") or argv[0] == "scancel":
            self.dies(f"after {line}")  # after a mere look it is as before the next command
        return answer

    def _answer(self, argv: list[str], line: str) -> Answer:
        match argv:
            case ["scontrol", "-o", "show", "node", name]:
                return self._node(name)
            case ["scontrol", "-o", "show", "reservation", "spares"]:
                return Answer(f"ReservationName=spares Nodes={self.spares} State=ACTIVE\n", "", 0)
            case ["scontrol", "update", target, *values]:
                return self._update(target, dict(pair.split("=", 1) for pair in values))
            case ["scontrol", "requeue", "7"]:
                return self._requeue()
            case ["scancel", step]:
                return self._cancel(int(step.rpartition(".")[2]))
            case ["sinfo", "-N", "-h", "-o", form] if form == NODES_FORMAT:
                shown = [
                    f"{n}|{'drained' if r else 'idle'}|root|x|{r}" for n, r in self.nodes.items()
                ]
                return Answer("\n".join(shown), "", 0)
            case ["sinfo", "-N", "-h", "-n", names, "-o", "%N|%T"]:
                busy = {*self.job_nodes}
                shown = [
                    f"{n}|{'allocated' if n in busy else 'reserved'}" for n in names.split(",")
                ]
                return Answer("\n".join(shown), "", 0)
            case ["squeue", *_]:
                return Answer(self._queue(argv), "", 0)
        raise AssertionError(f"this Slurm does not know: {line}")

    def _queue(self, argv: list[str]) -> str:
        form = argv[-1]
        simple = {
            "%k": self.comment, "%x": ",".join(self.excluded) or "(null)", "%B": self.job_nodes[0]
            if self.job_nodes else "", "%v": self.reservation or "(null)",
            "%i": "\n".join([f"{NUMBER}.batch", *(f"{NUMBER}.{step}" for step in self.steps)]),
            "JobID:|,exit_code:|": f"{NUMBER}|{self.exit_code << 8}|",
        }  # fmt: skip
        if form in simple:
            return simple[form] + "\n"
        assert form == JOB_FORMAT, form
        cells = [NUMBER, self.state, str(self.restarts), str(int(self.requeue)),
                 str(int(self.is_batch)), "N/A", NUMBER, "N/A", self.whole or "N/A",
                 ",".join(self.job_nodes), self.reason]  # fmt: skip
        return "|".join(cells) + "|\n"

    def _node(self, name: str) -> Answer:
        drained = self.nodes[name]
        state = "IDLE+DRAIN" if drained else "UNKNOWN" if name in self.unheard else "ALLOCATED"
        reason = f" Reason={drained} [root@2026-11-29T00:00:00]" if drained else ""
        return Answer(f"NodeName={name} State={state}{reason}\n", "", 0)

    def _update(self, target: str, values: dict[str, str]) -> Answer:
        kind, _, name = target.partition("=")
        if kind == "NodeName":
            self.nodes[name] = "" if values["State"] == "RESUME" else values["Reason"]
            self.acts.append(f"{values['State'].lower()} {name}")
        elif "NodeList" in values:
            self.job_nodes = values["NodeList"].split(",")
            self.acts.append(f"shrink to {values['NodeList']}")
            self._script()
        elif "ExcNodeList" in values:
            self.excluded = [name for name in values["ExcNodeList"].split(",") if name]
        elif "ReservationName" in values:
            self.reservation = values["ReservationName"]
        elif values == {"StartTime": "now"}:
            self._start()
        else:
            raise AssertionError(values)
        return Answer("", "", 0)

    def _start(self) -> None:
        free = [n for n, drained in self.nodes.items() if not drained and n not in self.excluded]
        usable = [n for n in free if n not in self.spares.split(",") or self.reservation]
        self.state, self.reason, self.job_nodes = "RUNNING", "None", usable[:3]
        self.steps, self.next_step = [0], 1
        self.acts.append(f"start on {','.join(self.job_nodes)}")

    def _requeue(self) -> Answer:
        self.state, self.reason, self.job_nodes, self.steps = "PENDING", "BeginTime", [], []
        self.restarts += 1
        self.acts.append("requeue")
        return Answer("", "", 0)

    def _cancel(self, step: int) -> Answer:
        if step in self.steps:
            self.steps.remove(step)
            self.acts.append(f"end step {step}")
            self._script()
        return Answer("", "", 0)

    def _script(self) -> None:
        """What the job's script does when its step has ended, as it does with its node."""
        if self.goes_on:
            self.steps, self.next_step = [self.next_step], self.next_step + 1
        else:
            self.state, self.exit_code = "FAILED", 1
