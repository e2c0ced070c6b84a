"""The check before a return: what makes a node unfit, and loads that really run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chipmedic.metric import Metric
from chipmedic.model import Component, ComponentKind, Coverage, Verdict
from chipmedic_agent import host_load
from chipmedic_agent.config import AgentSettings, GateSettings
from chipmedic_agent.gate import QUIET, Gate, Sight, problems
from chipmedic_agent.pipeline import Pipeline
from chipmedic_agent.roster import Roster

CHIP = Component(ComponentKind.CHIP, "GPU-11")
OK = Coverage("nvidia", 1.0, Verdict.OK)


def sight(*coverage: Coverage, missing: tuple[str, ...] = (), **counts: float) -> Sight:
    return Sight(
        coverage=coverage or (OK,),
        missing=missing,
        counts={(CHIP, Metric[name]): value for name, value in counts.items()},
    )


def unfit(before: Sight, after: Sight, *ignored: str) -> list[str]:
    return list(problems(before, after, ignored))


def test_a_whole_quiet_node_is_fit() -> None:
    before = sight(ECC_UNCORRECTED=3, ECC_CORRECTED=100)
    assert unfit(before, sight(ECC_UNCORRECTED=3, ECC_CORRECTED=110)) == []


@pytest.mark.parametrize("metric", QUIET)
def test_a_counter_that_grows_under_the_load_is_not_quiet(metric: Metric) -> None:
    before, most = sight(**{metric.name: 7}), QUIET[metric]
    assert unfit(before, sight(**{metric.name: 7 + most})) == []
    (said,) = unfit(before, sight(**{metric.name: 8 + most}))
    assert said == f"{CHIP}: {metric.value} grew by {most + 1} under the load"


def test_a_missing_chip_and_what_cannot_look_are_said() -> None:
    blind = Coverage("rdma", 1.0, Verdict.UNKNOWN, "permission denied")
    bad = Coverage("nvidia", 1.0, Verdict.FAULT)
    assert unfit(sight(), sight(bad, blind, missing=("GPU-12",))) == [
        "chip GPU-12 is missing",
        "check nvidia says fault",
        "check rdma says unknown: permission denied",
    ]
    assert unfit(sight(), sight(OK, blind), "rdma") == []


def test_a_node_at_which_nobody_looks_is_not_fit() -> None:
    empty = Sight(coverage=(), missing=(), counts={})
    assert unfit(empty, empty) == ["no check looks at this node"]


def a_gate(folder: Path, *command: str, timeout_seconds: float = 20.0) -> Gate:
    pipeline = Pipeline([], boot_id="b")
    roster = Roster([], now=lambda: 1.0, is_open_for=pipeline.is_open_for, disabled=lambda _: None)
    settings = AgentSettings(
        state_directory=str(folder),
        gate=GateSettings(command=command, timeout_seconds=timeout_seconds, host_load_seconds=0.1),
    )
    return Gate(settings, roster, pipeline)


async def test_the_load_of_the_host_runs(tmp_path: Path) -> None:
    ok, words = await a_gate(tmp_path).check(1.0)
    assert (ok, words) == (False, "no check looks at this node")
    answer = host_load.check(str(tmp_path), 0.1)
    assert answer == ""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("/bin/sh", "-c", "echo burning; echo chip 3 is sick >&2; exit 3"), "ended with 3"),
        (("/no/such/burn",), "not installed"),
    ],
)
async def test_a_load_that_fails_says_why(
    tmp_path: Path, command: tuple[str, ...], said: str
) -> None:
    ok, words = await a_gate(tmp_path, *command).check(1.0)
    assert not ok
    assert words.startswith("load: ")
    assert said in words


async def test_a_load_that_hangs_is_killed(tmp_path: Path) -> None:
    ok, words = await a_gate(
        tmp_path, sys.executable, "-c", "import time; time.sleep(60)", timeout_seconds=0.3
    ).check(1.0)
    assert not ok
    assert "load: " in words


def test_a_disk_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["host_load", str(tmp_path / "none"), "0"])
    assert host_load.main() == 1
    assert "No such file" in capsys.readouterr().out
