"""The simulation behind bench/ettr.py: it adds up, and agrees with the published formula."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def load(name: str) -> ModuleType:
    path = Path(__file__).parents[2] / "bench" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"bench_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


model = load("training_time")
TEN_SECONDS = model.Loss({"detect": 2.0, "isolate": 3.0, "restart": 5.0}, takes_node=True)


def ten_seconds(_: random.Random) -> Any:
    return TEN_SECONDS


def a_job(**changes: Any) -> Any:
    whole: dict[str, Any] = {
        "nodes": 1_250, "failures_per_node_day": 0.0065, "checkpoint_interval_seconds": 60.0,
        "checkpoint_stall_seconds": 0.5, "job_start_seconds": 45.0,
    }  # fmt: skip
    return model.Job(**(whole | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"failures_per_node_day": 0.00234},
        {"checkpoint_interval_seconds": 600.0, "checkpoint_stall_seconds": 5.0},
        {"nodes": 100, "job_start_seconds": 600.0},
    ],
)
def test_it_agrees_with_the_formula_within_its_spread(changes: dict[str, Any]) -> None:
    """The formula is of the first order: its error is the square of the share that is lost."""
    job = a_job(**changes)
    found = [model.simulate(job, ten_seconds, 180.0, seed).ratio for seed in range(20)]
    mean, spread = model.mean_and_spread(found)
    formula = model.expected_ratio(job, 10.0)
    assert abs(mean - formula) <= 3 * spread / len(found) ** 0.5 + (1 - formula) ** 2


@settings(max_examples=40, deadline=None)
@given(
    nodes=st.integers(1, 3_000),
    rate=st.floats(0.0001, 0.02),
    interval=st.floats(1.0, 3_600.0),
    stall=st.floats(0.0, 30.0),
    spares=st.none() | st.integers(0, 300),
    second=st.floats(0.0, 0.5),
    seed=st.integers(0, 1_000),
)
def test_every_second_is_counted_once(
    nodes: int, rate: float, interval: float, stall: float, spares: int | None, second: float,
    seed: int,
) -> None:  # fmt: skip
    job = a_job(
        nodes=nodes, failures_per_node_day=rate, checkpoint_interval_seconds=interval,
        checkpoint_stall_seconds=stall, spare_nodes=spares, repair_p50_days=0.1,
        repair_p90_days=0.3, second_fault_share=second,
    )  # fmt: skip
    spent = model.simulate(job, ten_seconds, 20.0, seed)
    assert all(seconds >= -1e-6 for seconds in spent.seconds.values())
    assert spent.wall_seconds >= 20 * model.DAY_SECONDS
    assert 0.0 <= spent.ratio <= 1.0
    assert spent.failures >= 1


def test_the_same_seed_tells_the_same_months() -> None:
    assert model.simulate(a_job(), ten_seconds, 30.0, 7) == model.simulate(
        a_job(), ten_seconds, 30.0, 7
    )


def test_without_spares_a_job_waits_for_repairs() -> None:
    few = a_job(spare_nodes=1, repair_p50_days=2.0, repair_p90_days=4.0)
    many = a_job(spare_nodes=500, repair_p50_days=2.0, repair_p90_days=4.0)
    waits = [model.simulate(job, ten_seconds, 60.0, 1).seconds[model.SPARE] for job in (few, many)]
    assert waits[0] > model.DAY_SECONDS
    assert waits[1] == 0.0


def test_a_fault_that_takes_no_node_needs_no_spare() -> None:
    job = a_job(spare_nodes=0, repair_p50_days=2.0, repair_p90_days=4.0)
    loss = model.Loss({"detect": 1.0}, takes_node=False)
    assert model.SPARE not in model.simulate(job, lambda _: loss, 30.0, 1).seconds
