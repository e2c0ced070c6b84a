"""From a fault to the job stepping again, on a real Slurm with real agents and a real watchdog.

    sudo .venv/bin/python bench/recovery.py [--faults 50] [--decoys 20] [--minutes 11] [--json FILE]
    sudo .venv/bin/python bench/recovery.py --without [--faults 16]

Target (docs/benchmarks.md): p50 at most 20 s, p95 at most 60 s, and no healthy node removed.

Twelve `slurmd -N`, each with an agent of its own; jobs of two nodes whose ranks wait for one
another at each step. Faults and decoys are drawn from one seed (bench/recovery_faults.py) and
strike several jobs at once. A broken node is repaired (booted anew) once its job steps again, and
chipmedic gives it back. `--without` draws the same faults and leaves them to Slurm's defaults.
`--json` writes what bench/ettr.py reads.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from measure import machine, print_table, quantile
from path import Receiver, ask
from recovery_faults import DECOYS, FAULTS, Event, draw, only
from slurm_rank import STEP_SECONDS
from slurm_site import Site, running, until

TARGETS_SECONDS = {"p50": 20.0, "p95": 60.0}
GIVE_UP_SECONDS = 240.0
"""After so long a job counts as one that does not come back by itself."""
OBSERVE_SECONDS = 15.0
"""A decoy is watched for so long."""
WARM_UP_STEPS = 12
"""An attempt has its own pace by then."""
JOB_NODES = 2
SLURM_CONF = "SlurmdTimeout={timeout}\nKillWait=30\n"
SLURM_TIMEOUT_SECONDS = 300
"""Slurm's default: after so long it takes a silent node for down."""
PHASES = ("detect", "decide", "isolate", "restart")


@dataclass(slots=True)
class Outcome:
    """What came of one event."""

    name: str
    is_decoy: bool
    is_hang: bool
    is_fatal: bool
    takes_node: bool
    needs_recovery: bool
    node: str
    job: str
    at: float
    incident: str = ""
    notice_seconds: float | None = None
    phases: dict[str, float] = field(default_factory=dict)
    stepping_seconds: float | None = None
    """From the fault to the first step of a new start; None: it did not come."""
    is_recovered: bool = False
    until: float = 0.0
    trouble: str = ""


class Lane:
    """One job after another, broken one event at a time."""

    def __init__(self, bench: Bench, number: int) -> None:
        self._bench, self._site = bench, bench.site
        self._rng = random.Random(bench.seed * 100 + number)
        self._job = ""

    def run(self, events: SimpleQueue[Event]) -> None:
        """Work until there are no more events, or no time."""
        with suppress(Empty):
            while not self._bench.is_over:
                self._one(events.get_nowait())

    def _one(self, event: Event) -> None:
        with self._bench.spare(event):
            self._warm_up()
            nodes = self._site.nodes_of(self._job)
            if not nodes:
                return
            before = self._site.steps(self._job)[-1]
            made = Outcome(
                event.name, event.is_decoy, event.is_hang, event.is_fatal, event.leaves,
                not event.is_decoy,
                self._rng.choice(nodes), self._job, time.time(),
            )  # fmt: skip
            self._bench.outcomes.append(made)
            event.inject(self._site, self._job, made.node)
            if event.is_decoy:
                self._look_on(event, made, before)
            else:
                self._wait_for_step(made, before)
            made.until = time.time()
            self._bench.read_incident(made)
            if not made.is_recovered or event.is_fatal:
                self._end_job()
            self._bench.mend(event, made)
        self._bench.say(made)

    def _warm_up(self) -> None:
        """Have a job that steps steadily."""
        if self._job and self._site.state_of(self._job) not in ("RUNNING", "PENDING"):
            self._end_job()
        if not self._job:
            self._job = self._site.submit(JOB_NODES)
            self._bench.jobs.append((self._job, time.time()))

        def is_warm() -> bool:
            steps = self._site.steps(self._job)
            own = [step for step in steps if step[1] == steps[-1][1]]
            return len(own) >= WARM_UP_STEPS and own[-1][0] > time.time() - 5 * STEP_SECONDS

        until(is_warm, 300, f"job {self._job} steps")

    def _wait_for_step(self, made: Outcome, before: tuple[float, int, int, str]) -> None:
        def again() -> float | None:
            later = [s for s in self._site.steps(made.job) if s[1] > before[1] and s[0] > made.at]
            return later[0][0] if later else None

        def is_settled() -> Any:
            ended = not self._site.is_watched and self._has_ended(made.job)
            return again() or ended

        until(is_settled, self._bench.give_up_seconds)
        if (at := again()) is not None:
            made.stepping_seconds, made.is_recovered = at - made.at, True

    def _has_ended(self, job: str) -> bool:
        return self._site.state_of(job) in ("FAILED", "CANCELLED", "COMPLETED", "NODE_FAIL")

    def _look_on(self, event: Event, made: Outcome, before: tuple[float, int, int, str]) -> None:
        time.sleep(OBSERVE_SECONDS)
        last = self._site.steps(made.job)[-1]
        is_stepping = last[0] > time.time() - 10 * STEP_SECONDS and last[1] == before[1]
        made.is_recovered = event.is_fatal or is_stepping
        if not made.is_recovered:
            made.trouble = f"the job does not step on: {self._site.state_of(made.job)}"

    def _end_job(self) -> None:
        for node in self._site.cluster.nodes:
            with suppress(OSError, ValueError):
                self._site.signal_rank(self._job, node, signal.SIGKILL)
        self._site.cluster.command("scancel", self._job)
        self._job = ""


class Bench:
    """What the lanes share."""

    def __init__(self, site: Site, given: argparse.Namespace) -> None:
        self.site, self.seed = site, given.seed
        self.give_up_seconds = given.give_up
        self.outcomes: list[Outcome] = []
        self.jobs: list[tuple[str, float]] = []
        self.unreturned: list[str] = []
        self._spares = threading.Semaphore(given.nodes - given.lanes * JOB_NODES)
        self._ends_at = time.monotonic() + given.minutes * 60
        self._menders = ThreadPoolExecutor(given.nodes)

    @property
    def is_over(self) -> bool:
        """True: no event begins any more."""
        return time.monotonic() > self._ends_at

    def close(self) -> None:
        """Wait for repairs."""
        self._menders.shutdown()

    def spare(self, event: Event) -> _Spare:
        """Return what holds a spare node for an event that takes one out."""
        return _Spare(self._spares, event.leaves)

    def say(self, made: Outcome) -> None:
        """Print one line."""
        took = "-" if made.stepping_seconds is None else f"{made.stepping_seconds:.1f} s"
        word = "decoy" if made.is_decoy else "fault"
        well = "" if made.is_recovered else f"  MISSED {made.trouble}"
        print(f"{word}  {made.name}  {made.node}  {made.incident or '-'}  {took}{well}", flush=True)

    def read_incident(self, made: Outcome) -> None:
        """Look up what the watchdog did about an event, and when."""
        if not self.site.is_watched:
            return
        found = self.site.query(
            "SELECT id, opened_at FROM incidents WHERE opened_at BETWEEN ? AND ?"
            " AND (nodes LIKE ? OR jobs LIKE ?) ORDER BY opened_at",
            made.at - 1, made.until, f'%"{made.node}"%', f'%"slurm:{made.job}"%',
        )  # fmt: skip
        if not found:
            return
        steps = self.site.query(
            "SELECT r.incident, s.kind, s.started_at FROM recovery_steps s JOIN recoveries r"
            f" ON r.id = s.recovery WHERE r.incident IN ({','.join('?' * len(found))})"
            " AND s.started_at IS NOT NULL ORDER BY s.started_at",
            *(row["id"] for row in found),
        )  # fmt: skip
        acted = [row["incident"] for row in steps]
        made.incident = acted[0] if acted else found[0]["id"]
        if (told := self.site.receiver.at.get(made.incident)) is not None:
            made.notice_seconds = told - made.at
        opened = next(row["opened_at"] for row in found if row["id"] == made.incident)
        if made.is_decoy or made.stepping_seconds is None or not steps:
            return
        begun = steps[0]["started_at"]
        restarted = next((s["started_at"] for s in steps if s["kind"] == "restart"), begun)
        edges = (made.at, opened, begun, restarted, made.at + made.stepping_seconds)
        made.phases = {
            name: max(0.0, after - before)
            for name, (before, after) in zip(PHASES, pairwise(edges), strict=True)
        }

    def mend(self, event: Event, made: Outcome) -> None:
        """Repair the node beside the work, and give its spare back when it is in service again."""
        self._menders.submit(self._mend, event, made)

    def _mend(self, event: Event, made: Outcome) -> None:
        try:
            if event.leaves:
                self.site.repair(made.node)
            until(lambda: not self._open_faults(made.node), 60)
            for row in self._active(made.node):
                if not any(self._open_faults(node) for node in json.loads(row["nodes"])):
                    self.site.post(f"/api/v1/incidents/{row['id']}/resolve", why="repaired")

            def is_back() -> bool:
                return self._is_struck_again(made) or self._is_in_service(made.node)

            if not until(is_back, 90 if event.leaves else 30):
                self.unreturned.append(f"{made.node} ({made.name}, {made.incident or '-'})")
                self.site.cluster.command(
                    "scontrol", "update", f"NodeName={made.node}", "State=RESUME"
                )
        except (AssertionError, OSError, ValueError) as e:
            made.trouble += f" mending: {e}"
        finally:
            if event.leaves:
                self._spares.release()

    def _open_faults(self, node: str) -> list[Any]:
        if not self.site.is_watched:
            return []
        return self.site.query("SELECT id FROM faults WHERE node = ? AND state = 'open'", node)

    def _active(self, node: str) -> list[Any]:
        if not self.site.is_watched:
            return []
        return self.site.query(
            "SELECT id, nodes FROM incidents WHERE state != 'resolved' AND nodes LIKE ?",
            f'%"{node}"%',
        )

    def _is_struck_again(self, made: Outcome) -> bool:
        """Whether something else has happened to the node: it is that one's to mend."""
        return any(one.node == made.node and one.at > made.at for one in self.outcomes)

    def _is_in_service(self, node: str) -> bool:
        state = self.site.cluster.states().get(node, "")
        if not self.site.is_watched and state.startswith(("down", "drain")):
            with suppress(AssertionError):
                self.site.cluster.command("scontrol", "update", f"NodeName={node}", "State=RESUME")
        return state.rstrip("*") in ("idle", "allocated", "mixed", "completing")


class _Spare:
    """Takes a spare at the beginning; the repair releases it."""

    def __init__(self, spares: threading.Semaphore, is_needed: bool) -> None:
        self._spares, self._is_needed = spares, is_needed

    def __enter__(self) -> None:
        if self._is_needed:
            self._spares.acquire()

    def __exit__(self, *_: object) -> None:
        pass


def wrong_acts(bench: Bench) -> tuple[list[str], list[str]]:
    """Return the nodes that were removed although healthy, and the jobs restarted for a decoy."""
    if not bench.site.is_watched:
        return [], []
    isolations = bench.site.query("SELECT node, incident, isolated_at FROM isolations")
    removed = [
        f"{row['node']} ({row['incident']})"
        for row in isolations
        if not any(
            one.takes_node
            and one.node == row["node"]
            and one.at - 1 <= row["isolated_at"] <= (one.until or time.time()) + 5
            for one in bench.outcomes
        )
    ]
    steps = bench.site.query(
        "SELECT recovery, target, started_at, detail FROM recovery_steps"
        " WHERE kind = 'restart' AND started_at > 0"
    )
    restarted = [
        f"{row['target']} ({row['recovery']})"
        for row in steps
        if any(
            one.is_decoy
            and f"slurm:{one.job}" == row["target"]
            and "ended by itself" not in row["detail"]
            and one.at <= row["started_at"]
            and (one.is_fatal or row["started_at"] <= one.until)
            for one in bench.outcomes
        )
    ]
    return removed, restarted


def show(bench: Bench, wall_seconds: float) -> bool:
    """Print the tables; return whether the targets are reached."""
    faults = [one for one in bench.outcomes if one.needs_recovery]
    done = [one for one in faults if one.stepping_seconds is not None]
    rows = []
    if bench.site.is_watched:
        told = [o.notice_seconds for o in faults if o.notice_seconds is not None]
        rows.append(["fault → notice delivered", *_figures(told)])
        rows += [[name, *_figures([o.phases[name] for o in done if o.phases])] for name in PHASES]
    whole = [o.stepping_seconds for o in done if o.stepping_seconds is not None]
    rows.append(["fault → job steps again", *_figures(whole)])
    print()
    print_table(["", "n", "p50 s", "p95 s", "p99 s", "max s"], rows)
    print()
    kinds = dict.fromkeys(one.name for one in faults)
    table = []
    for kind in kinds:
        own = [one for one in faults if one.name == kind]
        took = [one.stepping_seconds for one in own if one.stepping_seconds is not None]
        table.append([kind, len(own), len(own) - len(took), *_figures(took)[1:3], _max(took)])
    print_table(["fault", "n", "not by itself", "p50 s", "p95 s", "max s"], table)
    decoys = [one for one in bench.outcomes if one.is_decoy]
    removed, restarted = wrong_acts(bench)
    bad = [one for one in decoys if not one.is_recovered]
    print(f"\nfaults {len(faults)}, not recovered {len(faults) - len(done)}; decoys {len(decoys)}, "
          f"disturbed {len(bad)}; healthy nodes removed {len(removed)} {' '.join(removed)}; "
          f"jobs restarted for nothing {len(restarted)} {' '.join(restarted)}; repaired nodes not "
          f"given back {len(bench.unreturned)} {' '.join(bench.unreturned)}")  # fmt: skip
    print(f"{wall_seconds:.0f} s in all; {_ratio(bench)}")
    is_met = bool(whole) and len(done) == len(faults) and not removed and not restarted and not bad
    return (
        is_met
        and quantile(whole, 0.5) <= TARGETS_SECONDS["p50"]
        and quantile(whole, 0.95) <= TARGETS_SECONDS["p95"]
    )


def _figures(values: Sequence[float]) -> list[str]:
    if not values:
        return ["0", "-", "-", "-", "-"]
    shares = (quantile(values, share) for share in (0.5, 0.95, 0.99))
    return [str(len(values)), *(f"{value:.1f}" for value in shares), f"{max(values):.1f}"]


def _max(values: Sequence[float]) -> str:
    return f"{max(values):.1f}" if values else "-"


def _ratio(bench: Bench) -> str:
    """Return how much of the jobs' time made new steps, as the ledger has it."""
    if not bench.site.is_watched:
        return "no ledger"
    found = ask(f"http://{bench.site.http}/api/v1/report")
    ratio = found["effective_ratio"]
    if ratio is None:
        return "the ledger knows no steps"
    seconds = {name: round(spent) for name, spent in found["seconds"].items() if spent >= 0.5}
    return f"the ledger: {ratio:.1%} effective of {found['wall_seconds']:.0f} s of jobs, {seconds}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--decoys", type=int, default=20)
    parser.add_argument("--kinds", default="", help="only what has one of these words (comma)")
    parser.add_argument("--minutes", type=float, default=11.0, help="no event begins after")
    parser.add_argument("--nodes", type=int, default=12)
    parser.add_argument("--lanes", type=int, default=4, help="jobs at once")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--give-up", type=float, default=GIVE_UP_SECONDS, help="seconds per fault")
    parser.add_argument(
        "--slurmd-timeout",
        type=int,
        default=30,
        help="seconds; chipmedic waits for Slurm's word on a silent node",
    )
    parser.add_argument("--without", action="store_true", help="Slurm alone, with its defaults")
    parser.add_argument("--json", type=Path, help="write every event here")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    return parser.parse_args()


def write_json(path: Path, bench: Bench, described: str) -> None:
    """Write what bench/ettr.py reads."""
    faults = [asdict(one) for one in bench.outcomes if one.needs_recovery]
    decoys = [asdict(one) for one in bench.outcomes if one.is_decoy]
    made_at = time.strftime("%Y-%m-%d", time.gmtime())
    whole = {"made_at": made_at, "machine": described, "faults": faults, "decoys": decoys}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Break, wait, print; the exit status says whether the targets are reached."""
    given = parse()
    rng = random.Random(given.seed)
    events = draw(only(FAULTS, given.kinds), given.faults, rng)
    if not given.without:
        events += draw(only(DECOYS, given.kinds), given.decoys, rng)
        rng.shuffle(events)
    queue: SimpleQueue[Event] = SimpleQueue()
    for event in events:
        queue.put(event)
    described = machine()
    print(described, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chipmedic-bench-"))
    folder.chmod(0o755)
    names = [f"node-{n:02}" for n in range(1, given.nodes + 1)]
    receiver = Receiver()
    timeout = SLURM_TIMEOUT_SECONDS if given.without else given.slurmd_timeout
    conf = SLURM_CONF.format(timeout=timeout)
    try:
        with receiver.serving() as webhook, running(
            folder, names, webhook, receiver, is_watched=not given.without, slurm_conf=conf
        ) as site:  # fmt: skip
            bench, began = Bench(site, given), time.monotonic()
            with ThreadPoolExecutor(given.lanes) as pool:
                lanes = [pool.submit(Lane(bench, n).run, queue) for n in range(given.lanes)]
            bench.close()
            for lane in lanes:
                lane.result()
            is_met = show(bench, time.monotonic() - began)
            if given.json is not None:
                write_json(given.json, bench, described)
    finally:
        if given.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if given.without:
        return 0
    print("targets met" if is_met else "targets NOT met")
    return 0 if is_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
