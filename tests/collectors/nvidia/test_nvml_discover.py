"""Is NVIDIA here? By PCI, by NVML, and here too when its driver hangs or is broken."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from chipmedic.errors import ToolBlocked
from chipmedic.host import LinuxHost
from chipmedic.testing import FakeHost
from chipmedic_collectors.nvidia import Nvidia
from chipmedic_collectors.nvidia.collector import WORKER_VARIABLE, worker_argv
from chipmedic_collectors.nvidia.pci import gpu_addresses
from chipmedic_simulator.nvml.environment import stand_in_environment
from chipmedic_simulator.nvml.state import SimulatedNvml, create


def device(address: str, vendor: str, device_class: str) -> dict[str, str]:
    folder = f"/sys/bus/pci/devices/{address}"
    return {f"{folder}/vendor": f"{vendor}\n", f"{folder}/class": f"{device_class}\n"}


@pytest.mark.parametrize(
    ("vendor", "device_class", "is_gpu"),
    [
        ("0x10de", "0x030200", True),
        ("0x10de", "0x030000", True),
        ("0x10de", "0x040300", False),
        ("0x10de", "0x068000", False),
        ("0x1002", "0x030000", False),
    ],
)
def test_pci_alone_is_enough(vendor: str, device_class: str, is_gpu: bool) -> None:
    host = FakeHost(files=device("0000:b3:00.0", vendor, device_class))
    assert (Nvidia.discover(host) is not None) is is_gpu


def test_a_gpu_that_a_virtual_machine_has_is_not_ours() -> None:
    files = device("0000:b3:00.0", "0x10de", "0x030200") | device(
        "0000:c4:00.0", "0x10de", "0x030200"
    )
    files["/sys/bus/pci/drivers/vfio-pci/0000:b3:00.0"] = ""
    assert gpu_addresses(FakeHost(files=files)) == ("0000:c4:00.0",)


def test_a_device_that_is_being_removed_is_passed_over() -> None:
    files: dict[str, str | OSError] = {**device("0000:b3:00.0", "0x10de", "0x030200")}
    files["/sys/bus/pci/devices/0000:b3:00.0/class"] = OSError(19, "No such device")
    assert gpu_addresses(FakeHost(files=files)) == ()


def test_a_probe_that_hangs_is_a_gpu_that_is_here() -> None:
    blocked = ToolBlocked("python: no answer in 10 s")
    host = FakeHost(tools={worker_argv()[0]: blocked}, files={"/dev/nvidiactl": ""})
    assert Nvidia.discover(host) is not None


def test_nothing_here_is_none() -> None:
    host = FakeHost(tools={worker_argv()[0]: ""})
    assert Nvidia.discover(host) is None
    assert not host.ran, "where there is no driver no process is started to ask it"


@pytest.fixture
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimulatedNvml:
    """The stand-in as this process's NVML, on a host whose PCI shows nothing."""
    nvml = create(tmp_path / "state", gpus=3)
    for key, value in stand_in_environment(nvml.path).items():
        monkeypatch.setenv(key, value)
    return nvml


def test_nvml_alone_is_enough(nvml: SimulatedNvml, tmp_path: Path) -> None:
    collector = Nvidia.discover(LinuxHost(str(tmp_path)))
    assert collector is not None
    assert len(collector.scan().chips) == 3
    collector.close()


@pytest.mark.parametrize("code", [9, 12, 18])
def test_a_library_without_driver_or_gpu_is_none(
    nvml: SimulatedNvml, tmp_path: Path, code: int
) -> None:
    nvml.fail("nvmlInitWithFlags", code)
    assert Nvidia.discover(LinuxHost(str(tmp_path))) is None


def test_the_real_worker_without_a_library_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WORKER_VARIABLE, raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.setenv("CHIPMEDIC_NVML_LIBRARY", str(tmp_path / "libnvidia-ml.so.1"))
    host = LinuxHost(str(tmp_path))
    answer = host.run([*worker_argv(), "--probe"], timeout_seconds=20)
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this host has a real NVML")
    assert json.loads(answer.stdout) == {"code": 12, "count": None}
    assert Nvidia.discover(host) is None


def test_the_child_loads_little() -> None:
    """What it holds is held on every node of the fleet: no agent, no gRPC, not even the model."""
    program = (
        "import sys, chipmedic_collectors.nvidia.worker\n"
        "print([m for m in sys.modules if m.split('.')[0] in"
        " ('chipmedic', 'dataclasses', 'grpc', 'google', 'psutil', 'asyncio')])"
    )
    answer = LinuxHost().run([sys.executable, "-c", program], timeout_seconds=20)
    assert answer.stdout.strip() == "[]", answer.stderr
