"""`chipmedic doctor --timing` on simulated nodes: the real command, library, tools and files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chipmedic_simulator.node import SimulatedNode, Vendor

pytestmark = pytest.mark.system

CHIPMEDIC = Path(sys.executable).with_name("chipmedic")


def timing(node: SimulatedNode, *more: str) -> subprocess.CompletedProcess[str]:
    variables, _ = node.environment()
    return subprocess.run(
        [CHIPMEDIC, "doctor", "--timing", "--scans", "2", "--root", str(node.root), *more],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", **variables},
    )


def rows(answer: str, collector: str) -> dict[str, dict[str, Any]]:
    cost = next(cost for cost in json.loads(answer) if cost["collector"] == collector)
    assert cost["trouble"] == ""
    assert len(cost["scan_seconds"]) == 2
    return {call["call"]: call for call in cost["calls"]}


def test_every_nvml_call_is_measured_in_the_child(tmp_path: Path) -> None:
    node = SimulatedNode.create(tmp_path / "gpu-1", Vendor.NVIDIA, 8)
    calls = rows(timing(node, "--json").stdout, "nvidia")
    for name in ("nvmlDeviceGetTemperature", "nvmlDeviceGetFieldValues"):
        assert calls[name]["times"] >= 8
        assert 0 < calls[name]["slowest_seconds"] <= calls[name]["total_seconds"]
    assert any(name.startswith("files: ") for name in calls)


def test_every_command_line_of_a_tool_is_measured(tmp_path: Path) -> None:
    node = SimulatedNode.create(tmp_path / "npu-1", Vendor.ASCEND, 4)
    calls = rows(timing(node, "--json").stdout, "ascend")
    assert calls["npu-smi info"]["times"] == 2
    assert calls["npu-smi info -t ecc -i N"]["times"] == 8
    assert calls["hccn_tool -i N -link -g"]["times"] >= 4
    assert calls["npu-smi info"]["total_seconds"] > 0
    shown = timing(node).stdout
    assert "ascend, first scan" in shown
    assert "hccn_tool -i N -link -g" in shown
