"""The fake library by itself, read by the real nvidia-ml-py, as any other tool would read it."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chipmedic.errors import ToolFailed, ToolMissing
from chipmedic_simulator.nvml.build import SONAME, SOURCES, build
from chipmedic_simulator.nvml.environment import environment
from chipmedic_simulator.nvml.state import SimulatedNvml, create
from nvml_rig import library

SYMBOLS = [
    "nvmlInitWithFlags",
    "nvmlInit_v2",
    "nvmlShutdown",
    "nvmlErrorString",
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetNVMLVersion",
    "nvmlSystemGetCudaDriverVersion",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetHandleByPciBusId_v2",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGpuFabricInfoV",
    "nvmlDeviceGetFieldValues",
    "nvmlEventSetCreate",
    "nvmlEventSetWait_v2",
    "nvmlEventSetFree",
    "nvmlDeviceRegisterEvents",
    "nvmlDeviceGetRemappedRows",
    "nvmlDeviceGetRowRemapperHistogram",
    "nvmlDeviceGetNvLinkState",
    "nvmlDeviceGetNvLinkErrorCounter",
    "nvmlDeviceGetTotalEccErrors",
    "nvmlDeviceGetMigMode",
]


@pytest.fixture
def nvml(tmp_path: Path) -> SimulatedNvml:
    return create(tmp_path / "state", gpus=4)


def run(nvml: SimulatedNvml, program: str) -> Any:
    """Run lines after `import pynvml as n`, where the loader finds the fake; return their JSON."""
    env = os.environ | {
        "LD_LIBRARY_PATH": str(library().parent),
        "CHIPMEDIC_SIMULATOR_NVML_STATE": str(nvml.path),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "STATE": str(nvml.path),
    }
    prelude = (
        "import json, os, pathlib, threading, time\n"
        "import pynvml as n\n"
        "from chipmedic_simulator.nvml.state import SimulatedNvml\n"
        "sim = SimulatedNvml(pathlib.Path(os.environ['STATE']))\n"
        "def code(function, *arguments):\n"
        "    try:\n"
        "        function(*arguments)\n"
        "    except n.NVMLError as e:\n"
        "        return e.value\n"
        "    return 0\n"
        "n.nvmlInit()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + program],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_has_the_symbols_of_the_real_one() -> None:
    loaded = ctypes.CDLL(str(library()))
    assert [symbol for symbol in SYMBOLS if not hasattr(loaded, symbol)] == []
    assert library().name == SONAME


def test_the_binding_finds_it_by_its_name(nvml: SimulatedNvml) -> None:
    nvml.set(2, temperature=66, pci="0000:9A:00.0")
    answer = run(
        nvml,
        "h = n.nvmlDeviceGetHandleByIndex(2)\n"
        "print(json.dumps([n.nvmlDeviceGetCount(), n.nvmlSystemGetDriverVersion(),\n"
        "  n.nvmlDeviceGetName(h), n.nvmlDeviceGetTemperature(h, 0),\n"
        "  n.nvmlDeviceGetPciInfo(h).busId, n.nvmlDeviceGetMemoryInfo(h, n.nvmlMemory_v2).total,\n"
        "  n.nvmlDeviceGetCudaComputeCapability(h), n.nvmlDeviceGetIndex(h)]))\n",
    )
    assert answer == [
        *(4, "570.158.01", "NVIDIA H100 80GB HBM3", 66),
        *("00000000:9A:00.0", 80 << 30, [9, 0], 2),
    ]


def test_the_state_is_read_again_at_each_call(nvml: SimulatedNvml) -> None:
    answer = run(
        nvml,
        "h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "sim.set(0, temperature=50); before = n.nvmlDeviceGetTemperature(h, 0)\n"
        "sim.set(0, temperature=91); after = n.nvmlDeviceGetTemperature(h, 0)\n"
        "print(json.dumps([before, after]))\n",
    )
    assert answer == [50, 91]


def test_a_lost_chip_is_15_by_handle_and_999_anew(nvml: SimulatedNvml) -> None:
    answer = run(
        nvml,
        "h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "sim.lose(0); sim.lose(1)\n"
        "print(json.dumps([code(n.nvmlDeviceGetTemperature, h, 0),\n"
        "  code(n.nvmlDeviceGetHandleByIndex, 0), code(n.nvmlDeviceGetHandleByIndex, 1),\n"
        "  n.nvmlDeviceGetCount(), code(n.nvmlDeviceGetHandleByIndex, 2)]))\n",
    )
    assert answer == [15, 15, 999, 4, 0]


def test_a_hang_blocks_its_thread_alone_and_can_be_ended(nvml: SimulatedNvml) -> None:
    answer = run(
        nvml,
        "h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "sim.hang('nvmlDeviceGetPowerUsage', 600, gpu=0)\n"
        "t = threading.Thread(target=n.nvmlDeviceGetPowerUsage, args=(h,)); t.start()\n"
        "other = n.nvmlDeviceGetTemperature(h, 0); time.sleep(0.1); stuck = t.is_alive()\n"
        "sim.hang('nvmlDeviceGetPowerUsage', 0, gpu=0); t.join(100)\n"
        "print(json.dumps([other, stuck, t.is_alive()]))\n",
    )
    assert answer == [37, True, False]


def test_field_values_succeed_when_any_does(nvml: SimulatedNvml) -> None:
    nvml.set(0, ecc_uncorrected=5)
    answer = run(
        nvml,
        "h = n.nvmlDeviceGetHandleByIndex(0)\n"
        "v = n.nvmlDeviceGetFieldValues(h, [6, 29, (165, 3), (165, 18)])\n"
        "print(json.dumps([[f.nvmlReturn for f in v], v[0].value.ullVal,\n"
        "  code(n.nvmlDeviceGetFieldValues, h, [29, 30])]))\n",
    )
    assert answer == [[0, 3, 0, 3], 5, 3]


def test_events_come_to_those_who_registered_after_they_did(nvml: SimulatedNvml) -> None:
    answer = run(
        nvml,
        "sim.emit(0, 31)\n"
        "h = n.nvmlDeviceGetHandleByIndex(1)\n"
        "s = n.nvmlEventSetCreate(); n.nvmlDeviceRegisterEvents(h, 8, s)\n"
        "early = code(n.nvmlEventSetWait_v2, s, 50)\n"
        "sim.emit(0, 43); sim.emit(1, 94)\n"
        "e = n.nvmlEventSetWait_v2(s, 2000)\n"
        "print(json.dumps([early, e.eventType, e.eventData, n.nvmlDeviceGetIndex(e.device),\n"
        "  code(n.nvmlEventSetWait_v2, s, 50)]))\n",
    )
    assert answer == [10, 8, 94, 1, 10]


def test_without_a_state_the_driver_is_not_loaded(nvml: SimulatedNvml) -> None:
    answer = run(
        nvml, "nvml = n; nvml.nvmlShutdown(); sim.path.unlink()\nprint(code(n.nvmlInit))\n"
    )
    assert answer == 9


def test_without_a_compiler_it_says_so_and_the_stand_in_steps_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ToolMissing, match="no C compiler"):
        build(tmp_path / "cache")
    variables, words = environment(tmp_path / "state", tmp_path / "cache")
    assert variables["CHIPMEDIC_NVML_WORKER"] == "chipmedic_simulator.nvml.stand_in_worker"
    assert "stand-in in Python: no C compiler" in words


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "broken-cc"
    compiler.write_text("#!/bin/sh\necho 'ld: no space left' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(ToolFailed, match="no space left"):
        build(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.so*")), "half a library is never left"


def test_a_built_library_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library()
    first = build(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert build(tmp_path) == first


def test_the_sources_travel_with_the_package() -> None:
    import chipmedic_simulator.nvml as package

    folder = Path(package.__file__ or "").parent
    assert all((folder / name).is_file() for name in SOURCES)
