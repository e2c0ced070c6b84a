"""How much of its time a job on 10,000 chips would train, at failure rates that others published.

    .venv/bin/python bench/ettr.py [--measured FILE] [--days 180] [--seeds 20]

Target (docs/benchmarks.md): an effective training time ratio of at least 99.0 % at RSC-1's rate.

Nobody here has 10,000 chips: this is a simulation. What a failure costs before the job's own
start is drawn from recoveries that bench/recovery.py measured on a real Slurm (`--measured`, its
JSON). The rest is assumed: bench/ettr.toml has every figure with its source, and the last table
shows how far the result hangs on each. Beside it stands the same job without chipmedic: Slurm's
defaults and a person who is called. A fault that the measured run missed goes to the same person.
"""

from __future__ import annotations

import argparse
import json
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measure import print_table
from training_time import (
    CHECKPOINT,
    PRODUCTIVE,
    RECOMPUTE,
    SPARE,
    START,
    Draw,
    Job,
    Loss,
    Spent,
    expected_ratio,
    mean_and_spread,
    simulate,
)

HERE = Path(__file__).parent
TARGET_RATIO, TARGET_RATE = 0.99, "rsc-1"
PHASES = (
    PRODUCTIVE, CHECKPOINT, "detect", "decide", "isolate", "restart", SPARE, START, RECOMPUTE,
)  # fmt: skip
SENSITIVITY: Mapping[str, Sequence[float]] = {
    "checkpoint_interval_seconds": (10, 60, 300, 1_800),
    "checkpoint_stall_seconds": (0.0, 0.2, 1.0, 5.0),
    "job_start_seconds": (15, 30, 120, 300),
    "spare_nodes": (25, 50, 200),
    "second_fault_share": (0.0, 0.2),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """What bench/recovery.py saw."""

    losses: tuple[Loss, ...]
    missed: int
    """Faults after which the job did not step again by itself."""
    hangs_missed: int
    """Of those, the ones that left no ended process behind."""
    words: str

    @classmethod
    def read(cls, path: Path) -> Measured:
        """Read the JSON of bench/recovery.py."""
        if not path.exists():
            raise SystemExit(f"{path}: not there; make it with bench/recovery.py --json {path}")
        found = json.loads(path.read_text(encoding="utf-8"))
        faults = [fault for fault in found["faults"] if fault["needs_recovery"]]
        done = [fault for fault in faults if fault["is_recovered"]]
        missed = [fault for fault in faults if not fault["is_recovered"]]
        return cls(
            losses=tuple(Loss(_phases(fault), fault["takes_node"]) for fault in done),
            missed=len(missed),
            hangs_missed=sum(fault["is_hang"] for fault in missed),
            words=f"{len(faults)} faults measured on {found['made_at']}, {found['machine']}",
        )


def _phases(fault: Mapping[str, Any]) -> Mapping[str, float]:
    """Return what a recovery took, also where nobody could say which phase it was."""
    return fault["phases"] or {"restart": fault["stepping_seconds"]}


def with_chipmedic(measured: Measured, baseline: Mapping[str, float]) -> Draw:
    """Return the draw of what chipmedic did; what it missed goes to a person."""
    person = by_hand(baseline, hang_share=measured.hangs_missed / max(1, measured.missed))

    def draw(rng: random.Random) -> Loss:
        number = rng.randrange(len(measured.losses) + measured.missed)
        return measured.losses[number] if number < len(measured.losses) else person(rng)

    return draw


def by_hand(baseline: Mapping[str, float], hang_share: float) -> Draw:
    """Return the draw of what happens where a person is called."""

    def draw(rng: random.Random) -> Loss:
        is_hang = rng.random() < hang_share
        is_day = rng.random() < baseline["day_share"]
        waited = baseline["hang_timeout_seconds"] if is_hang else 0.0
        alert = rng.uniform(baseline["alert_min_seconds"], baseline["alert_max_seconds"])
        seconds = {
            "detect": waited + alert,
            "decide": baseline["day_answer_seconds" if is_day else "night_answer_seconds"]
            + rng.expovariate(1 / baseline["diagnosis_seconds"]),
            "restart": baseline["requeue_seconds"],
        }
        return Loss(seconds, takes_node=True)

    return draw


def runs(job: Job, draw: Draw, days: float, seeds: int) -> list[Spent]:
    """Simulate once for each seed."""
    return [simulate(job, draw, days, seed) for seed in range(seeds)]


def ratio_words(found: Sequence[Spent]) -> str:
    mean, spread = mean_and_spread([one.ratio for one in found])
    return f"{mean:.2%} ± {spread:.2%}"


def shares(found: Sequence[Spent]) -> dict[str, float]:
    """Return the mean share of each phase in the wall time."""
    names = dict.fromkeys(name for one in found for name in one.seconds)
    return {
        name: sum(one.seconds.get(name, 0.0) / one.wall_seconds for one in found) / len(found)
        for name in names
    }


def mean_loss(draw: Draw) -> float:
    """Return what a failure costs in the mean before the job's own start."""
    rng = random.Random(0)
    return sum(sum(draw(rng).seconds.values()) for _ in range(5_000)) / 5_000


def show_rates(jobs: Mapping[str, Job], draws: Mapping[str, Draw], given: Any) -> list[list[Spent]]:
    """Print the ratio at each rate; return the runs with chipmedic, in the order of the rates."""
    table, kept = [], []
    for name, job in jobs.items():
        ours = runs(job, draws["chipmedic"], given.days, given.seeds)
        others = runs(job, draws["by hand"], given.days, given.seeds)
        formula = expected_ratio(job, mean_loss(draws["chipmedic"]))
        table.append([
            name, f"{job.mean_seconds_between_failures / 60:.0f} min",
            f"{sum(one.failures for one in ours) / len(ours):.0f}",
            ratio_words(ours), f"{formula:.2%}", ratio_words(others),
        ])  # fmt: skip
        kept.append(ours)
    head = ["rate", "a failure each", "failures", "with chipmedic", "formula",
            "Slurm's defaults and a person"]  # fmt: skip
    print_table(head, table)
    return kept


def show_phases(ours: Sequence[Spent], others: Sequence[Spent]) -> None:
    """Print where the time goes, and what of it a failure costs."""
    sides = (shares(ours), shares(others))
    table = [[name, *(f"{side.get(name, 0.0):.3%}" for side in sides)] for name in PHASES]
    print_table(["where the time goes", "with chipmedic", "Slurm's defaults and a person"], table)
    failures = sum(one.failures for one in ours)
    per = {
        name: sum(one.seconds.get(name, 0.0) for one in ours) / failures
        for name in dict.fromkeys(name for one in ours for name in one.seconds)
        if name not in (PRODUCTIVE, CHECKPOINT)
    }
    own = sum(s for name, s in per.items() if name not in (START, RECOMPUTE, SPARE))
    print(
        f"\na failure costs {sum(per.values()):.1f} s: {own:.1f} s until the job is started again "
        f"(measured), {per[START]:.1f} s of its own start (assumed), {per[RECOMPUTE]:.1f} s of "
        f"steps made again (checkpoint interval), {per.get(SPARE, 0.0):.1f} s for a spare"
    )


def show_sensitivity(job: Job, draw: Draw, given: Any) -> None:
    """Print the ratio with one assumption changed at a time."""
    table = [["as above", "", ratio_words(runs(job, draw, given.days, given.seeds))]]
    for name, values in SENSITIVITY.items():
        for value in values:
            other = replace(job, **{name: value})
            words = ratio_words(runs(other, draw, given.days, given.seeds))
            table.append([name, f"{value:g}", words])
    print_table(["assumption", "instead", "with chipmedic"], table)


def parse(assumed: Mapping[str, Any]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--measured", type=Path, default=HERE / "ettr_measured.json",
                        help="JSON of bench/recovery.py")  # fmt: skip
    parser.add_argument("--days", type=float, default=180.0)
    parser.add_argument("--seeds", type=int, default=20)
    for name, value in assumed["job"].items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()


def main() -> int:
    """Simulate and print; the exit status says whether the target is reached."""
    assumed = tomllib.loads((HERE / "ettr.toml").read_text(encoding="utf-8"))
    given = parse(assumed)
    measured = Measured.read(given.measured)
    nodes = given.chips // given.chips_per_node
    names = [name for name in assumed["job"] if name not in ("chips", "chips_per_node")]
    jobs = {
        name: Job(
            nodes=nodes, failures_per_node_day=rate["per_1000_node_days"] / 1000,
            **{field: getattr(given, field) for field in names},
        )
        for name, rate in assumed["rates"].items()
    }  # fmt: skip
    baseline = assumed["baseline"]
    hang_share = baseline["hang_share"]
    draws = {
        "chipmedic": with_chipmedic(measured, baseline),
        "by hand": by_hand(baseline, hang_share),
    }
    print(f"{measured.words}; {given.chips:,} chips, {given.days:g} days, {given.seeds} seeds "
          "(± one standard deviation)\n")  # fmt: skip
    found = dict(zip(jobs, show_rates(jobs, draws, given), strict=True))
    target = jobs[TARGET_RATE]
    print(f"\nat {TARGET_RATE}'s rate:\n")
    show_phases(found[TARGET_RATE], runs(target, draws["by hand"], given.days, given.seeds))
    print()
    show_sensitivity(target, draws["chipmedic"], given)
    mean, _ = mean_and_spread([one.ratio for one in found[TARGET_RATE]])
    is_met = mean >= TARGET_RATIO
    print(f"\n{mean:.2%} at {TARGET_RATE}'s rate: target {'met' if is_met else 'NOT met'}")
    return 0 if is_met else 1


if __name__ == "__main__":
    raise SystemExit(main())
