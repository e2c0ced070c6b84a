"""What bench/recovery.py breaks, as data: real faults by the mix of incidents, and decoys.

The shares are those of the project's mixed profile of published root causes (docs/benchmarks.md),
folded onto what can be injected here: device memory, compute and firmware, lost from the bus, links
inside of a node, PCIe, power loss, out of memory, a rank that hangs.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slurm_site import Site

PCI = "0000:3b:00.0"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens to a job and one of its nodes."""

    name: str
    share: float
    inject: Callable[[Site, str, str], None]
    """Of (site, job, node)."""
    leaves: bool = False
    """The node must be taken out; else it must not."""
    restarts: bool = False
    """The job must step again in a new start, by itself."""
    is_hang: bool = False
    """No process has ended: nothing but silence says so."""
    is_fatal: bool = False
    """The job ends, and is the user's to mend."""

    @property
    def is_decoy(self) -> bool:
        """Nothing is to be done."""
        return not (self.leaves or self.restarts)


def _log_and(name: str, number: signal.Signals | None = None) -> Callable[[Site, str, str], None]:
    """Return what writes a fault into the kernel's log and ends, or stops, the rank."""

    def inject(site: Site, job: str, node: str) -> None:
        site.log_of(node).say(name, PCI)
        if number is not None:
            site.signal_rank(job, node, number)

    return inject


def _hang(site: Site, job: str, node: str) -> None:
    site.signal_rank(job, node, signal.SIGSTOP)


def _power(site: Site, job: str, node: str) -> None:
    del job
    site.power_off(node)


def _crash(site: Site, job: str, node: str) -> None:
    """The program's own fault: the same Xid on two nodes, then all ranks end."""
    del node
    nodes = site.nodes_of(job)
    for each in nodes:
        site.log_of(each).say("program", PCI)
    for each in nodes:
        site.signal_rank(job, each, signal.SIGABRT)


def _slow(site: Site, job: str, node: str) -> None:
    for _ in range(3):
        site.signal_rank(job, node, signal.SIGSTOP)
        time.sleep(1.0)
        site.signal_rank(job, node, signal.SIGCONT)
        time.sleep(0.5)


def _restart_agent(site: Site, job: str, node: str) -> None:
    del job
    site.kill_agent(node)
    time.sleep(2.0)
    site.start_agent(node)


def _flap(site: Site, job: str, node: str) -> None:
    del job
    log = site.log_of(node)
    log.say("nic-down", "0000:9a:00.0")
    time.sleep(1.0)
    log.write("mlx5_core 0000:9a:00.0 mlx5_2: Port: 1 Link ACTIVE")


def _drain(site: Site, job: str, node: str) -> None:
    """An administrator takes a node out, and puts it back later."""
    del job
    where = f"NodeName={node}"
    site.cluster.command("scontrol", "update", where, "State=DRAIN", "Reason=new cables")
    time.sleep(6.0)
    site.cluster.command("scontrol", "update", where, "State=UNDRAIN")


def _cancel(site: Site, job: str, node: str) -> None:
    del node
    site.cluster.command("scancel", job)


FAULTS = (
    Event("device memory", 13, _log_and("ecc", signal.SIGKILL), leaves=True, restarts=True),
    Event("rows used up", 3, _log_and("remap-failed", signal.SIGKILL), leaves=True, restarts=True),
    Event("firmware, rank stalls", 11, _log_and("gsp", signal.SIGSTOP), leaves=True,
          restarts=True, is_hang=True),
    Event("lost from the bus", 5, _log_and("off-bus", signal.SIGKILL), leaves=True, restarts=True),
    Event("NVSwitch, peers stall", 4, _log_and("nvswitch", signal.SIGSTOP), leaves=True,
          restarts=True, is_hang=True),
    Event("power loss", 5, _power, leaves=True, restarts=True, is_hang=True),
    Event("out of memory", 3, _log_and("oom", signal.SIGKILL), restarts=True),
    Event("hang, no word in any log", 7, _hang, restarts=True, is_hang=True),
)  # fmt: skip
DECOYS = (
    Event("software crash on two nodes", 3, _crash, is_fatal=True),
    Event("a lone benign Xid", 3, _log_and("program")),
    Event("an administrator's drain", 2, _drain),
    Event("a user cancels the job", 2, _cancel, is_fatal=True),
    Event("a slow node", 2, _slow),
    Event("the agent restarts", 2, _restart_agent),
    Event("a link flaps once", 2, _flap),
)


def only(events: Sequence[Event], words: str) -> list[Event]:
    """Return those whose name has one of the words (separated by commas); no words: all."""
    return [event for event in events if any(word in event.name for word in words.split(","))]


def draw(events: Sequence[Event], count: int, rng: random.Random) -> list[Event]:
    """Draw by shares; each kind comes at least once where there is room for all."""
    first = list(events[:count])
    if not events:
        return []
    rest = rng.choices(events, [event.share for event in events], k=max(0, count - len(first)))
    found = [*first, *rest]
    rng.shuffle(found)
    return found
