"""The stand-in in Python answers what the C library answers: the same scans for the same states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chipmedic.model import Scan
from chipmedic_simulator.nvml.state import PROFILES, SimulatedNvml
from nvml_rig import simulated

STORIES: dict[str, Callable[[SimulatedNvml], object]] = {
    "healthy": lambda nvml: None,
    "busy": lambda nvml: nvml.set(
        0,
        temperature=71,
        utilization_percent=99,
        power_milliwatts=688_123,
        memory_used_bytes=70_123_456_789,
        throttle_reasons="0x44",
        processes="101:5,102:-,103:0x10",
    ),
    "worn": lambda nvml: nvml.set(
        1,
        ecc_corrected=(1 << 62) + 1,
        ecc_uncorrected=4,
        remapped_uncorrected=3,
        remap_pending=1,
        remap_failed=1,
        retired_double=9,
        recovery_action=1,
        pcie_width=8,
        pcie_generation=1,
    ),
    "link down": lambda nvml: nvml.set_link(1, 2, up=0, replays=7),
    "link errors": lambda nvml: nvml.set_link(0, 0, replays=1, recoveries=2, receive_errors=3),
    "blocks": lambda nvml: nvml.set_link(1, 3, blocks=9_000_000, blocks_again=9_000),
    "fabric": lambda nvml: nvml.set(0, fabric_state=3, fabric_status=999),
    "lost slice": lambda nvml: (nvml.cut(1, (1, 0, 1, 2)), nvml.lose(1)),
    "lost": lambda nvml: nvml.lose(1),
    "mig": lambda nvml: nvml.set(0, mig=1, field_code__142=3, field_code__5=4),
    "cut": lambda nvml: (
        nvml.cut(0, (1, 0, 5 << 30, 20 << 30), (5, 0, 0, 10 << 30)),
        nvml.set(0, processes="31:4096:1:0,32:-:5:0"),
    ),
    "cut and denied": lambda nvml: (
        nvml.cut(1, (1, 0, 5 << 30, 20 << 30)),
        nvml.set(1, processes="31:4096:1:0"),
        nvml.set(1, whole_denied=1),
    ),
    "c2c": lambda nvml: nvml.set(0, c2c_count=3, c2c__1__up=0, c2c__2__replays=4),
    "spent": lambda nvml: nvml.set(0, sram_threshold=1, row_banks="2500,40,10,7,3"),
    "repairs": lambda nvml: nvml.set(
        0, repair_pending=1, unrepairable_memory=1, bank_remap_pending=1
    ),
    "fabric of an older driver": lambda nvml: nvml.set(0, fabric_version=2, fabric_health_mask=1),
    "fabric of an old driver": lambda nvml: nvml.set(0, fabric_version=1, fabric_status=999),
    "fabric in one word": lambda nvml: nvml.set(1, fabric_health_summary=3),
    "no serial": lambda nvml: nvml.forget("gpu.0.serial", "gpu.*.temperature"),
    "denied": lambda nvml: nvml.fail("nvmlDeviceGetMemoryInfo_v2", 4, gpu=0),
    "old": lambda nvml: nvml.fail("nvmlDeviceGetFieldValues", 13),
    "new": lambda nvml: (
        nvml.fail("nvmlDeviceGetTemperature", 26),
        nvml.fail("nvmlDeviceGetPowerUsage", 13),
    ),
    "reset": lambda nvml: nvml.fail("nvmlDeviceGetFieldValues", 16, gpu=1),
    "no driver": lambda nvml: nvml.fail("nvmlInitWithFlags", 9),
    "mismatch": lambda nvml: nvml.fail("nvmlDeviceGetCount_v2", 18),
    "no handle": lambda nvml: nvml.fail("nvmlDeviceGetHandleByIndex_v2", 17, gpu=0),
    "no events": lambda nvml: nvml.fail("nvmlEventSetCreate", 3),
    "deaf": lambda nvml: nvml.fail("nvmlDeviceRegisterEvents", 3, gpu=1),
}


def scans(
    folder: Path, profile: str, change: Callable[[SimulatedNvml], object], *, is_stand_in: bool
) -> list[Scan]:
    """Scan before the change (a chip that was never seen cannot be missed) and twice after it."""
    folder.mkdir()
    with simulated(folder, profile=profile, is_stand_in=is_stand_in) as rig:
        found = [rig.scan()]
        rig.collector.close()
        change(rig.nvml)
        found += [rig.scan(), rig.scan()]
        return found


@pytest.mark.parametrize("name", STORIES)
def test_the_same_scans_for_the_same_state(tmp_path: Path, name: str) -> None:
    from_library = scans(tmp_path / "c", "h100", STORIES[name], is_stand_in=False)
    from_stand_in = scans(tmp_path / "python", "h100", STORIES[name], is_stand_in=True)
    assert from_library == from_stand_in


@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_scans_for_each_generation(tmp_path: Path, profile: str) -> None:
    change = STORIES["busy"]
    from_library = scans(tmp_path / "c", profile, change, is_stand_in=False)
    from_stand_in = scans(tmp_path / "python", profile, change, is_stand_in=True)
    assert from_library == from_stand_in


def test_the_same_xid_from_both(tmp_path: Path) -> None:
    codes = []
    for is_stand_in in (False, True):
        folder = tmp_path / str(is_stand_in)
        folder.mkdir()
        with simulated(folder, is_stand_in=is_stand_in) as rig:
            uid = rig.scan().chips[1].uid
            rig.nvml.cut(1, (2, 0, 1, 2))
            rig.scan()
            rig.nvml.emit(1, 94, place=(2, 0))
            rig.wait_for_push()
            [event] = rig.scan(1).events
            codes.append((event.code, event.message, event.component.name == uid))
    assert codes[0] == codes[1]
