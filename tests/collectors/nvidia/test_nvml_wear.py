"""MIG slices, worn memory, links to the CPU, the fabric of old drivers: the whole way from C."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chipmedic.metric import Metric
from chipmedic.model import Component, ComponentKind, Gap, GapReason, Scan
from nvml_rig import Rig, simulated

GIB = 1 << 30


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with simulated(tmp_path) as rig:
        yield rig


def gaps_of(scan: Scan, metric: Metric) -> list[Gap]:
    return [gap for gap in scan.gaps if gap.metric is metric]


def slice_of(uid: str, place: str) -> Component:
    return Component(ComponentKind.PARTITION, f"{uid}/{place}")


def test_the_slices_of_a_chip_are_parts_of_it(rig: Rig) -> None:
    rig.nvml.cut(1, (1, 0, 5 * GIB, 20 * GIB), (2, 1, 0, 10 * GIB))
    scan = rig.scan()
    whole, cut = scan.chips
    assert scan.values(Metric.PARTITIONS) == {whole.component: 0, cut.component: 2}
    used, total = scan.values(Metric.MEMORY_USED), scan.values(Metric.MEMORY_TOTAL)
    assert used[slice_of(cut.uid, "1/0")] == 5 * GIB
    assert total[slice_of(cut.uid, "2/1")] == 10 * GIB
    assert total[cut.component] == 80 * GIB


def test_a_process_is_named_with_its_slice(rig: Rig) -> None:
    [uuid] = rig.nvml.cut(0, (3, 0, 0, 20 * GIB))
    rig.nvml.set(0, processes="71:4096:3:0,72:-:9:2")
    rig.nvml.set(1, processes="73:1")
    scan = rig.scan()
    assert {process.pid: process.partition for process in scan.processes} == {
        71: f"{uuid} (GPU instance 3, compute instance 0)",
        72: "GPU instance 9, compute instance 2",
        73: None,
    }
    assert {process.chip for process in scan.processes} == {chip.uid for chip in scan.chips}


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ((3, 0), "in MIG-"),
        ((5, 1), "in GPU instance 5, compute instance 1"),
        ((3, 0xFFFFFFFF), "in GPU instance 3"),
    ],
)
def test_an_xid_is_named_with_its_slice(rig: Rig, place: tuple[int, int], words: str) -> None:
    rig.nvml.cut(0, (3, 0, 0, 20 * GIB))
    rig.scan()
    rig.nvml.emit(0, 94, place=place)
    rig.wait_for_push()
    [event] = rig.scan(1).events
    assert (event.component, event.code) == (rig.scan().chips[0].component, "xid:94")
    assert words in event.message


def test_who_may_not_see_the_whole_chip_asks_its_slices(rig: Rig) -> None:
    rig.nvml.cut(0, (3, 0, 0, 20 * GIB), (4, 0, 0, 20 * GIB))
    rig.nvml.set(0, processes="71:4096:3:0,72:-:4:0")
    rig.nvml.set(0, whole_denied=1)
    assert {process.pid for process in rig.scan().processes} == {71, 72}


def test_slices_that_are_made_and_destroyed_while_we_watch(rig: Rig) -> None:
    chip = rig.scan().chips[0]
    rig.nvml.cut(0, (3, 0, 1, 20 * GIB))
    assert slice_of(chip.uid, "3/0") in rig.scan().values(Metric.MEMORY_USED)
    rig.nvml.forget("gpu.0.mig.1")
    scan = rig.scan()
    assert scan.values(Metric.PARTITIONS)[chip.component] == 0
    assert slice_of(chip.uid, "3/0") not in scan.values(Metric.MEMORY_USED)


def test_what_mig_hides_is_asked_again_when_it_ends(rig: Rig) -> None:
    rig.nvml.set(0, mig=1, field_code__142=3)
    rig.nvml.fail("nvmlDeviceGetUtilizationRates", 3, gpu=0)
    chip = rig.scan().chips[0].component
    assert chip not in rig.scan().values(Metric.UTILIZATION)
    rig.nvml.set(0, mig=0)
    rig.nvml.fail("nvmlDeviceGetUtilizationRates", 0, gpu=0)
    rig.scan()
    assert chip in rig.scan().values(Metric.UTILIZATION)


@pytest.mark.parametrize(
    ("symbol", "code", "reason"),
    [
        ("nvmlDeviceGetMigMode", 13, GapReason.UNSUPPORTED),
        ("nvmlDeviceGetMaxMigDeviceCount", 999, GapReason.FAILED),
        ("nvmlDeviceGetMigDeviceHandleByIndex", 4, GapReason.DENIED),
        ("nvmlDeviceGetGpuInstanceId", 17, GapReason.DENIED),
    ],
)
def test_slices_that_cannot_be_listed_are_a_gap(
    rig: Rig, symbol: str, code: int, reason: GapReason
) -> None:
    rig.nvml.cut(0, (1, 0, 5, 20 * GIB))
    rig.nvml.fail(symbol, code, gpu=0)
    scan = rig.scan()
    [gap] = gaps_of(scan, Metric.PARTITIONS)
    assert (gap.component, gap.reason) == (scan.chips[0].component, reason)
    assert scan.values(Metric.PRESENT)[gap.component] == 1


def test_worn_memory(rig: Rig) -> None:
    rig.nvml.set(0, row_banks="2500,40,10,7,3", sram_threshold=1)
    scan = rig.scan()
    chip = scan.chips[0].component
    assert scan.values(Metric.MEMORY_BANKS_LOW)[chip] == 7
    assert scan.values(Metric.MEMORY_BANKS_SPENT)[chip] == 3
    assert scan.values(Metric.SRAM_THRESHOLD)[chip] == 1
    assert scan.values(Metric.REMAP_FAILED)[chip] == 0, "no spare row left is no failed remap"


def test_repairs_that_wait_and_memory_that_is_called_unrepairable(tmp_path: Path) -> None:
    with simulated(tmp_path, profile="b200") as rig:
        rig.nvml.set(0, repair_pending=1)
        rig.nvml.set(1, unrepairable_memory=1)
        scan = rig.scan()
        waiting, spoilt = (chip.component for chip in scan.chips)
        assert scan.values(Metric.REMAP_PENDING) == {waiting: 1, spoilt: 0}
        assert scan.values(Metric.UNREPAIRABLE_MEMORY) == {waiting: 0, spoilt: 1}
        assert scan.values(Metric.REMAP_FAILED) == {waiting: 0, spoilt: 0}


def test_sram_needs_rights_and_says_so(rig: Rig) -> None:
    rig.nvml.fail("nvmlDeviceGetSramEccErrorStatus", 4)
    assert {gap.reason for gap in gaps_of(rig.scan(), Metric.SRAM_THRESHOLD)} == {GapReason.DENIED}


NEWER_CALLS = (
    "nvmlDeviceGetSramEccErrorStatus",
    "nvmlDeviceGetRowRemapperHistogram",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetRepairStatus",
    "nvmlDeviceGetUnrepairableMemoryFlag_v1",
    "nvmlDeviceGetGpuFabricInfoV",
    "nvmlDeviceGetGpuFabricInfo",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetCurrentClocksEventReasons",
)


def test_a_driver_that_knows_none_of_it_answers_the_rest(rig: Rig) -> None:
    for symbol in NEWER_CALLS:
        rig.nvml.fail(symbol, 13)
    rig.nvml.set(0, processes="71:4096")
    scan = rig.scan()
    lacking = {gap.metric: gap.reason for gap in scan.gaps if gap.component.name}
    assert lacking == dict.fromkeys(
        (
            Metric.SRAM_THRESHOLD,
            Metric.MEMORY_BANKS_LOW,
            Metric.MEMORY_BANKS_SPENT,
            Metric.PARTITIONS,
        ),
        GapReason.UNSUPPORTED,
    )
    assert [process.pid for process in scan.processes] == [71]
    assert len(scan.values(Metric.REMAP_PENDING)) == 2


def test_a_driver_that_has_dropped_old_calls_is_asked_by_the_new_ones(rig: Rig) -> None:
    rig.nvml.fail("nvmlDeviceGetTemperature", 26)
    rig.nvml.fail("nvmlDeviceGetPowerUsage", 13)
    rig.nvml.set(0, temperature=63, power_milliwatts=512_000)
    scan = rig.scan()
    chip = scan.chips[0].component
    assert scan.values(Metric.TEMPERATURE)[chip] == 63
    assert scan.values(Metric.POWER)[chip] == 512
    assert not scan.gaps


def test_links_between_chip_and_cpu(rig: Rig) -> None:
    rig.nvml.set(0, c2c_count=2, c2c__1__up=0)
    scan = rig.scan()
    uid = scan.chips[0].uid
    up = {c.name: v for c, v in scan.values(Metric.LINK_UP).items() if "/c2c" in c.name}
    assert up == {f"{uid}/c2c0": 1, f"{uid}/c2c1": 0}
    assert not gaps_of(scan, Metric.LINK_UP)
    assert not [gap for gap in scan.gaps if "/c2c" in gap.component.name], "replays: not offered"


def test_replays_between_chip_and_cpu_are_errors_of_the_link(rig: Rig) -> None:
    rig.nvml.set(0, c2c_count=2, c2c__0__replays=7, c2c__1__replays=9, c2c__1__up=0)
    scan = rig.scan()
    uid = scan.chips[0].uid
    errors = {c.name: v for c, v in scan.values(Metric.LINK_ERRORS).items() if "/c2c" in c.name}
    assert errors == {f"{uid}/c2c0": 7}, "of a link that is down nothing is said"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_fabric_is_read_by_what_the_driver_knows(rig: Rig, version: int) -> None:
    rig.nvml.set(0, fabric_version=version, fabric_status=999)
    [event] = rig.scan().events
    assert event.code == "nvml:fabric"


def test_the_fabric_in_one_word(rig: Rig) -> None:
    rig.nvml.set(1, fabric_health_summary=3)
    [event] = rig.scan().events
    assert "limited capacity" in event.message
