"""The story of the demo: a job runs, a chip fails, a rank hangs; each act ends when it was seen."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from chipmedic_cli.demo_screen import Screen
from chipmedic_cli.demo_witness import LOST_PHASES, NotSeen, Told, Witness
from chipmedic_simulator.configuration import CHECKPOINT_EVERY
from chipmedic_simulator.faults import inject
from chipmedic_simulator.layout import Layout

FIRST_NODES, SPARE = ("gpu-1", "npu-1"), "gpu-2"
BROKEN, BROKEN_CHIP = "gpu-1", 1
SURVIVORS = {"npu-1", "gpu-2"}
SILENT, SILENT_RANK = "gpu-2", 1
"""After the recovery rank 1 runs on the former spare."""
STEPS_SINCE_CHECKPOINT = range(4, 10)
"""When the chip fails: some steps have to be computed again, though the job is already a second
farther than it is known to be."""
START_SECONDS, TELL_SECONDS, MOVE_SECONDS, HANG_SECONDS = 90.0, 20.0, 90.0, 90.0
SUM_SECONDS = 0.001
"""How exactly the ledger's phases must add up to the whole."""

SHOWN_SECONDS = 0.05


class Story:
    """Tells the three acts."""

    def __init__(self, layout: Layout, witness: Witness, screen: Screen) -> None:
        self._layout = layout
        self._witness = witness
        self._screen = screen
        self._job = ""

    def tell(self) -> None:
        """Tell all of it.

        Raises:
            NotSeen: something that should have happened did not.
        """
        self._start()
        self._screen.gap()
        first = self._chip_fails()
        self._screen.gap()
        second = self._rank_hangs()
        self._account({first, second})

    def _start(self) -> None:
        names = self._layout.node_names()
        self._screen.line(f"starting a watchdog, {len(names)} agents and a training job")
        self._screen.note("the daemons are the real ones; chips, scheduler and job are simulated")
        for words in sorted({self._layout.node(name).environment()[1] for name in names}):
            self._screen.note(words)
        self._witness.wait(
            "all agents connected to the watchdog, with their chips",
            lambda: self._witness.connected(set(names)),
            seconds=START_SECONDS,
        )
        self._screen.line(f"agents of {', '.join(names)} are connected; {SPARE} is the spare")
        job = self._witness.wait(
            f"the job some steps beyond a checkpoint on {', '.join(FIRST_NODES)}",
            self._is_ripe,
            seconds=START_SECONDS,
        )
        self._job = job["job"]
        where = ", ".join(job["nodes"])
        self._screen.line(
            f"{self._job} trains on {where}: step {job['step']}, "
            f"checkpoint at step {job['checkpoint_step']}",
            style="green",
        )

    def _is_ripe(self) -> dict[str, Any] | None:
        job = self._witness.running_job(set(FIRST_NODES), attempt=0, beyond_step=CHECKPOINT_EVERY)
        is_ripe = job is not None and job["step"] % CHECKPOINT_EVERY in STEPS_SINCE_CHECKPOINT
        return job if is_ripe else None

    def _chip_fails(self) -> str:
        before = self._witness.job()
        at = time.time()
        done = inject(self._layout, "memory-uncorrectable", BROKEN, BROKEN_CHIP)
        self._screen.line(
            f"FAULT injected on chip {BROKEN_CHIP} of {BROKEN}: {done.words}", style="bold"
        )
        incident = self._incident("memory.", at, seconds=TELL_SECONDS)
        told = self._told(incident, is_resolved=False)
        self._show(told, at)
        self._check(told, (BROKEN,))
        self._witness.wait(
            f"{BROKEN} isolated", lambda: self._witness.is_isolated(BROKEN), seconds=TELL_SECONDS
        )
        self._screen.line(f"{BROKEN} is isolated: no new work comes to it", style="green")
        job = self._wait_for_restart(before)
        self._screen.line(
            f"{self._job} trains on {', '.join(job['nodes'])} and is at step {job['step']}: "
            f"beyond step {before['step']}, where it was",
            style="green",
        )
        self._witness.wait(
            "the recovery done", lambda: self._witness.recovered(incident), seconds=MOVE_SECONDS
        )
        self._ledger(incident)
        return incident

    def _rank_hangs(self) -> str:
        # On a busy machine the broken chip may have cost the job a stand-still, or its node a
        # silence, of its own; what happens while such an incident is open would join it.
        self._witness.wait(
            "the end of what the first fault has led to",
            self._witness.is_calm,
            seconds=MOVE_SECONDS,
        )
        at = time.time()
        inject(self._layout, "hang", SILENT, 0)
        self._screen.line(
            f"FAULT injected: rank {SILENT_RANK} of the job, on {SILENT}, stops without a word; "
            "its processes live on",
            style="bold",
        )
        incident = self._incident("job.hung", at, seconds=HANG_SECONDS)
        told = self._told(incident, is_resolved=False)
        before = self._witness.job()
        self._show(told, at)
        self._check(told, (SILENT, f"rank {SILENT_RANK}"))
        self._screen.line(
            f"rank {SILENT_RANK} on {SILENT} is named as the one that did not arrive", style="green"
        )
        job = self._wait_for_restart(before)
        self._screen.line(f"{self._job} was restarted and is at step {job['step']}", style="green")
        clear = self._told(incident, is_resolved=True)
        self._screen.line(
            f"ALL-CLEAR delivered: {clear.page.text.strip().splitlines()[0]}", style="green"
        )
        return incident

    def _wait_for_restart(self, before: dict[str, Any]) -> dict[str, Any]:
        """Wait until the job has been started again and is farther than it was."""
        attempt = before["attempt"] + 1
        return self._wait_for_step(SURVIVORS, attempt=attempt, beyond=before["step"])

    def _wait_for_step(self, nodes: set[str], *, attempt: int, beyond: int) -> dict[str, Any]:
        where = ", ".join(sorted(nodes))
        return self._witness.wait(
            f"start {attempt} of the job beyond step {beyond} on {where}",
            lambda: self._witness.running_job(nodes, attempt=attempt, beyond_step=beyond),
            seconds=MOVE_SECONDS,
        )

    def _incident(self, kind: str, since: float, *, seconds: float) -> str:
        row = self._witness.wait(
            f"an incident of kind {kind}",
            lambda: self._witness.incident(kind, job=self._job, since=since),
            seconds=seconds,
        )
        return str(row["id"])

    def _told(self, incident: str, *, is_resolved: bool) -> Told:
        what = "the all-clear" if is_resolved else "the notice"
        return self._witness.wait(
            f"{what} of {incident}, both on the pager and by the signed webhook",
            lambda: self._witness.told(incident, is_resolved=is_resolved),
            seconds=MOVE_SECONDS if is_resolved else TELL_SECONDS,
        )

    def _show(self, told: Told, fault_at: float) -> None:
        after = told.page.at - fault_at
        self._screen.line(f"NOTICE delivered, {after:.1f} s after the fault", at=told.page.at)
        self._screen.notice(told.page.text, "as the person on call gets it")

    def _check(self, told: Told, needed: tuple[str, ...]) -> None:
        """Require that a notice says what a person has to know."""
        missing = [words for words in needed if words not in told.page.text]
        if missing:
            raise NotSeen(f"the notice does not name {' and '.join(missing)}")

    def _ledger(self, incident: str) -> None:
        loss = self._witness.wait(
            f"the ledger of {incident} with every phase",
            lambda: self._witness.losses(self._job, incident, LOST_PHASES),
            seconds=TELL_SECONDS,
        )
        self._screen.line("LEDGER: where every lost second of the job went")
        self._screen.losses(loss)
        _require_sum((stage["seconds"] for stage in loss["stages"]), loss["seconds"])

    def _account(self, incidents: set[str]) -> None:
        """Require that the time of the whole job is accounted for."""
        account = self._witness.wait(
            "an account of the job in which every loss has ended",
            lambda: self._witness.account(self._job, incidents),
            seconds=TELL_SECONDS,
        )
        whole, parts = account["wall_seconds"], account["seconds"]
        _require_sum(parts.values(), whole)
        spent = [f"{parts['productive']:.1f} s productive"]
        spent += [
            f"{loss['seconds']:.1f} s lost to {loss['incident'] or 'no known cause'}"
            for loss in account["losses"]
        ]
        rest = whole - parts["productive"] - account["lost_seconds"]
        spent += [f"{rest:.1f} s of other phases"] if rest > SHOWN_SECONDS else []
        self._screen.line(f"LEDGER of {self._job}: {whole:.1f} s = {' + '.join(spent)}")


def _require_sum(parts: Iterable[float], whole: float) -> None:
    total = sum(parts)
    if abs(total - whole) > SUM_SECONDS:
        raise NotSeen(f"not seen: a ledger that adds up: {total:.3f} s are not {whole:.3f} s")
