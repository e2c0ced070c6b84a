"""Budgets: who is counted, over which nodes, and that one may always leave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic_watchdog.recover import budgets
from chipmedic_watchdog.recover.budgets import Capacity
from chipmedic_watchdog.recover.settings import BudgetSettings, Scope

FLEET = frozenset(f"n{number}" for number in range(20))
RACK = frozenset({"n0", "n1", "n2", "n3"})


def capacity(*out: str) -> Capacity:
    groups = {
        Scope.RACK: {"r1": RACK},
        Scope.PARTITION: {"train": FLEET, "debug": frozenset({"n0", "n1"})},
        Scope.JOB: {"slurm:7": RACK},
    }
    return Capacity(known=FLEET, out=frozenset(out), groups=groups)


def said(*out: str, **budget: object) -> str | None:
    return budgets.refusal("n0", capacity(*out), [BudgetSettings(**budget)])  # type: ignore[arg-type]  # by test tables


def test_the_fleet_is_counted_with_whoever_is_out() -> None:
    assert said("n8", per=Scope.FLEET, nodes=2) is None
    assert said("n8", "n9", per=Scope.FLEET, nodes=2) == (
        "budget: 2 of 20 nodes are out of service already (n8, n9) and the limit is 2"
    )


def test_the_smaller_of_both_bounds_counts() -> None:
    assert said("n8", "n9", per=Scope.FLEET, nodes=9, percent=10) is not None
    assert said("n8", "n9", per=Scope.FLEET, nodes=3, percent=50) is None


@pytest.mark.parametrize(
    ("scope", "where"),
    [(Scope.RACK, "of rack r1"), (Scope.JOB, "of job slurm:7")],
)
def test_a_part_has_a_budget_of_its_own(scope: Scope, where: str) -> None:
    assert said("n9", per=scope, nodes=1) is None
    assert where in str(said("n2", per=scope, nodes=1))
    assert "1 of 4 nodes" in str(said("n2", per=scope, nodes=1))


def test_a_budget_names_the_parts_that_it_is_for() -> None:
    assert said("n1", per=Scope.PARTITION, names=("train",), nodes=2) is None
    assert said("n1", per=Scope.PARTITION, names=("deb*",), nodes=1) is not None


def test_a_node_in_no_part_falls_under_no_budget_of_parts() -> None:
    lone = Capacity(known=FLEET, out=frozenset({"n1"}), groups={})
    assert budgets.refusal("n0", lone, [BudgetSettings(per=Scope.RACK, nodes=1)]) is None


@pytest.mark.parametrize("known", [0, 1, 5, 9])
def test_one_node_may_always_leave(known: int) -> None:
    assert budgets.limit(BudgetSettings(per=Scope.FLEET, nodes=4, percent=1), known) == 1


@given(
    out=st.sets(st.sampled_from(sorted(FLEET)), max_size=20),
    nodes=st.integers(1, 20),
    percent=st.floats(0.1, 100),
)
def test_whatever_is_out_no_isolation_brings_a_part_over_its_bound(
    out: set[str], nodes: int, percent: float
) -> None:
    budget = BudgetSettings(per=Scope.RACK, nodes=nodes, percent=percent)
    if budgets.refusal("n0", capacity(*out), [budget]) is None:
        assert len((out | {"n0"}) & RACK) <= max(1, min(nodes, int(percent * len(RACK) / 100)))


@pytest.mark.parametrize(
    ("given_values", "problem"),
    [
        ({}, "at least one of them is needed"),
        ({"nodes": 0}, "not a positive number"),
        ({"percent": 101}, "more than 100"),
        ({"nodes": 1, "names": ()}, "at least one pattern"),
    ],
)
def test_a_budget_that_bounds_nothing_is_refused(
    given_values: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        BudgetSettings(per=Scope.RACK, **given_values)  # type: ignore[arg-type]  # wrong on purpose
