"""The collector over the real binding over the fake C library, in a real child process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipmedic.faults.catalog import lookup
from chipmedic.metric import Metric
from chipmedic.model import Component, ComponentKind, GapReason
from chipmedic.testing import FakeHost
from chipmedic_collectors.nvidia.codes import CHIP_KINDS, DRIVER_KINDS, UNKNOWN
from nvml_rig import Rig, simulated


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with simulated(tmp_path) as rig:
        yield rig


def test_a_healthy_host_is_read_in_base_units(rig: Rig) -> None:
    rig.nvml.set(
        0,
        temperature=57,
        memory_temperature=63,
        power_milliwatts=412_500,
        utilization_percent=87,
        memory_used_bytes=51_000_000_000,
        ecc_corrected=12,
        ecc_uncorrected=3,
        remapped_corrected=1,
        remapped_uncorrected=2,
        remap_pending=1,
        pcie_replays=144,
    )
    scan = rig.scan()
    chip = scan.chips[0].component
    expected = {
        Metric.TEMPERATURE: 57,
        Metric.MEMORY_TEMPERATURE: 63,
        Metric.POWER: 412.5,
        Metric.POWER_LIMIT: 700,
        Metric.UTILIZATION: 0.87,
        Metric.MEMORY_USED: 51_000_000_000,
        Metric.MEMORY_TOTAL: 80 << 30,
        Metric.ECC_CORRECTED: 12,
        Metric.ECC_UNCORRECTED: 3,
        Metric.RETIRED_PAGES: 3,
        Metric.REMAP_PENDING: 1,
        Metric.REMAP_FAILED: 0,
        Metric.MEMORY_BANKS_LOW: 0,
        Metric.MEMORY_BANKS_SPENT: 0,
        Metric.SRAM_THRESHOLD: 0,
        Metric.PARTITIONS: 0,
        Metric.RECOVERY_ACTION: 0,
        Metric.THROTTLE_THERMAL: 0,
        Metric.THROTTLE_POWER: 0,
        Metric.PCIE_WIDTH: 16,
        Metric.PCIE_WIDTH_MAX: 16,
        Metric.PCIE_SPEED: 32e9,
        Metric.PCIE_SPEED_MAX: 32e9,
        Metric.PCIE_REPLAYS: 144,
        Metric.PRESENT: 1,
    }
    read = {r.metric: r.value for r in scan.readings if r.component == chip}
    assert read == pytest.approx(expected)
    assert scan.is_inventory
    assert not scan.gaps
    assert not scan.events


def test_a_chip_is_known_by_uuid_serial_and_pci(rig: Rig) -> None:
    rig.nvml.set(1, uuid="GPU-0b5c", serial="1323223000017", pci="0001:C1:00.0", name="NVIDIA H20")
    chip = rig.scan().chips[1]
    assert (chip.uid, chip.serial, chip.pci) == ("GPU-0b5c", "1323223000017", "0001:c1:00.0")
    assert (chip.vendor, chip.model, chip.index) == ("nvidia", "NVIDIA H20", 1)


def test_a_chip_without_uuid_is_known_by_its_address(rig: Rig) -> None:
    rig.nvml.set(0, uuid="", pci="0000:3b:00.0", serial="0")
    chip = rig.scan().chips[0]
    assert (chip.uid, chip.serial) == ("nvidia-0000:3b:00.0", None)


def test_groups_keep_their_own_periods(rig: Rig) -> None:
    def metrics(after_seconds: float) -> set[Metric]:
        return {reading.metric for reading in rig.scan(after_seconds).readings}

    assert {Metric.POWER_LIMIT, Metric.LINK_UP, Metric.TEMPERATURE} <= metrics(60)
    assert Metric.ECC_UNCORRECTED not in metrics(5)
    assert {Metric.TEMPERATURE, Metric.ECC_UNCORRECTED} <= metrics(25)
    assert Metric.POWER_LIMIT not in metrics(5)
    assert {Metric.POWER_LIMIT, Metric.ECC_UNCORRECTED} <= metrics(25)


@pytest.mark.parametrize(
    ("profile", "keys"),
    [
        ("v100", {"replays": 3, "recoveries": 2}),
        ("a100", {"replays": 3, "recoveries": 2}),
        ("h100", {"replays": 3, "recoveries": 2, "crc": 40}),
        ("b200", {"receive_errors": 3, "recovery_events": 2}),
    ],
)
def test_link_errors_come_from_the_counters_of_the_generation(
    tmp_path: Path, profile: str, keys: dict[str, int]
) -> None:
    with simulated(tmp_path, profile=profile, gpus=1) as rig:
        rig.nvml.set_link(0, 0, up=0)
        rig.nvml.set_link(0, 4, **keys)
        scan = rig.scan()
        uid = scan.chips[0].uid
        up, errors = scan.values(Metric.LINK_UP), scan.values(Metric.LINK_ERRORS)
        assert errors[Component(ComponentKind.LINK, f"{uid}/4")] == 5
        assert up[Component(ComponentKind.LINK, f"{uid}/0")] == 0
        assert Component(ComponentKind.LINK, f"{uid}/0") not in errors
        assert sum(up.values()) == len(up) - 1


def test_what_a_chip_lacks_is_a_gap_and_not_asked_again(tmp_path: Path) -> None:
    with simulated(tmp_path, profile="l40s", gpus=1) as rig:
        for _ in range(3):
            scan = rig.scan()
            lacking = {gap.metric for gap in scan.gaps if gap.reason is GapReason.UNSUPPORTED}
            assert {Metric.LINK_UP, Metric.MEMORY_TEMPERATURE} <= lacking
        calls = {symbol: timing.calls for symbol, timing in rig.collector.timings().items()}
        assert calls["nvmlDeviceGetNvLinkState"] == 1
        assert calls["nvmlDeviceGetGpuFabricInfoV"] == 1
        assert calls["nvmlDeviceGetTemperature"] == 3


def test_an_old_driver_is_asked_by_its_older_names(rig: Rig) -> None:
    rig.nvml.fail("nvmlDeviceGetCurrentClocksEventReasons", 13)
    rig.nvml.fail("nvmlDeviceGetMemoryInfo_v2", 13)
    rig.nvml.fail("nvmlDeviceGetFieldValues", 13)
    rig.nvml.set(0, throttle_reasons=0x48, ecc_uncorrected=7, remapped_corrected=2, remap_failed=1)
    scan = rig.scan()
    chip = scan.chips[0].component
    assert scan.values(Metric.THROTTLE_THERMAL)[chip] == 1
    assert scan.values(Metric.THROTTLE_POWER)[chip] == 0
    assert scan.values(Metric.MEMORY_TOTAL)[chip] == 80 << 30
    assert scan.values(Metric.ECC_UNCORRECTED)[chip] == 7
    assert scan.values(Metric.RETIRED_PAGES)[chip] == 2
    assert scan.values(Metric.REMAP_FAILED)[chip] == 1
    assert scan.values(Metric.LINK_UP)[Component(ComponentKind.LINK, f"{chip.name}/17")] == 1


def test_a_chip_lost_under_us_leaves_the_others_alone(tmp_path: Path) -> None:
    with simulated(tmp_path, gpus=8) as rig:
        lost = rig.scan().chips[3]
        rig.nvml.lose(3)
        scan = rig.scan(5)
        assert len(scan.chips) == 7
        assert lost not in scan.chips
        assert scan.is_inventory
        assert scan.values(Metric.PRESENT)[lost.component] == 0
        assert sum(scan.values(Metric.PRESENT).values()) == 7
        assert len(scan.values(Metric.TEMPERATURE)) == 7
        [gap] = scan.gaps
        assert (gap.component, gap.metric, gap.reason) == (lost.component, None, GapReason.FAILED)
        assert "nvml:15" in gap.detail
        rig.nvml.restore(3)
        assert rig.scan(5).values(Metric.PRESENT)[lost.component] == 1


def test_a_chip_lost_before_we_came_is_named_by_pci(tmp_path: Path) -> None:
    host = FakeHost(
        files={
            f"/sys/bus/pci/devices/0000:{bus}:00.0/{name}": text
            for bus in ("1a", "2b", "3c")
            for name, text in (("vendor", "0x10de\n"), ("class", "0x030200\n"))
        }
    )
    with simulated(tmp_path, gpus=3, host=host) as rig:
        rig.nvml.lose(1)
        first = rig.scan()
        pci = Component(ComponentKind.PCI, "0000:2b:00.0")
        assert [gap.component for gap in first.gaps] == [pci]
        assert not first.is_inventory
        assert not first.events
        assert pci not in first.values(Metric.PRESENT)
        second = rig.scan(5)
        assert second.is_inventory
        assert second.values(Metric.PRESENT)[pci] == 0
        [event] = second.events
        assert (event.code, event.kind, event.component) == ("nvml:999", "chip.lost", pci)


def test_a_chip_lost_across_a_restart_of_the_child_keeps_its_name(rig: Rig) -> None:
    lost = rig.scan().chips[1]
    rig.nvml.lose(1)
    rig.collector.close()
    assert lost in rig.scan(5).chips
    scan = rig.scan(5)
    assert lost not in scan.chips
    assert scan.values(Metric.PRESENT)[lost.component] == 0
    assert [event.code for event in scan.events] == ["nvml:999"]


def test_a_chip_that_enumeration_drops_is_missing(rig: Rig) -> None:
    lost = rig.scan().chips[1]
    with rig.nvml.edit() as state:
        state["count"] = "1"
    rig.collector.close()
    scan = rig.scan(5)
    assert scan.is_inventory
    assert scan.values(Metric.PRESENT)[lost.component] == 0
    [gap] = [gap for gap in scan.gaps if gap.metric is None]
    assert (gap.component, gap.reason) == (lost.component, GapReason.MISSING)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (3, GapReason.UNSUPPORTED),
        (13, GapReason.UNSUPPORTED),
        (4, GapReason.DENIED),
        (17, GapReason.DENIED),
        (10, GapReason.FAILED),
        (29, GapReason.FAILED),
        (16, GapReason.FAILED),
        (999, GapReason.FAILED),
    ],
)
def test_each_code_of_one_call_costs_that_value_only(
    rig: Rig, code: int, reason: GapReason
) -> None:
    rig.nvml.fail("nvmlDeviceGetUtilizationRates", code, gpu=1)
    scan = rig.scan()
    [gap] = scan.gaps
    assert (gap.component, gap.metric) == (scan.chips[1].component, Metric.UTILIZATION)
    assert gap.reason is reason
    assert f"nvml:{code} " in gap.detail
    assert len(scan.values(Metric.TEMPERATURE)) == 2
    assert len(scan.values(Metric.UTILIZATION)) == 1
    assert scan.values(Metric.PRESENT)[scan.chips[1].component] == 1


def test_reset_required_is_the_verdict_and_a_fault(rig: Rig) -> None:
    rig.nvml.fail("nvmlDeviceGetTemperature", 16, gpu=1)
    scan = rig.scan()
    chip = scan.chips[1].component
    assert scan.values(Metric.RECOVERY_ACTION)[chip] == 1
    assert [(e.component, e.code, e.kind) for e in scan.events] == [
        (chip, "nvml:16", "chip.reset_required")
    ]


def test_the_drivers_graver_verdict_stays(rig: Rig) -> None:
    rig.nvml.fail("nvmlDeviceGetTemperature", 16, gpu=1)
    rig.nvml.set(1, recovery_action=2)
    scan = rig.scan()
    assert scan.values(Metric.RECOVERY_ACTION)[scan.chips[1].component] == 2


def test_unknown_is_a_fault_only_when_it_lasts(rig: Rig) -> None:
    rig.nvml.fail("nvmlDeviceGetUtilizationRates", 999, gpu=0)
    assert not rig.scan().events
    rig.nvml.fail("nvmlDeviceGetUtilizationRates", 0, gpu=0)
    assert not rig.scan(5).events
    rig.nvml.fail("nvmlDeviceGetUtilizationRates", 999, gpu=0)
    assert not rig.scan(5).events
    scan = rig.scan(5)
    assert [(e.component, e.code, e.kind) for e in scan.events] == [
        (scan.chips[0].component, "nvml:999", "chip.internal")
    ]
    rig.nvml.fail("nvmlDeviceGetUtilizationRates", 0, gpu=0)
    assert not rig.scan(5).events


def test_a_trouble_of_a_rare_call_stands_until_that_call_is_made_again(rig: Rig) -> None:
    """A fault that came and went between two slow calls would look like a reset of the chip."""
    rig.nvml.fail("nvmlDeviceGetEnforcedPowerLimit", 16, gpu=0)
    chip = rig.scan().chips[0].component
    rig.nvml.fail("nvmlDeviceGetEnforcedPowerLimit", 0, gpu=0)
    for _ in range(3):
        scan = rig.scan(5)
        assert [event.code for event in scan.events] == ["nvml:16"]
        assert scan.values(Metric.RECOVERY_ACTION)[chip] == 1
    scan = rig.scan(60)
    assert not scan.events
    assert scan.values(Metric.RECOVERY_ACTION)[chip] == 0


def test_a_handle_that_is_denied_is_unknown_not_lost(rig: Rig) -> None:
    rig.nvml.fail("nvmlDeviceGetHandleByIndex_v2", 4, gpu=1)
    scan = rig.scan()
    assert len(scan.chips) == 1
    assert not scan.is_inventory
    assert [gap.reason for gap in scan.gaps] == [GapReason.DENIED]
    assert 0 not in scan.values(Metric.PRESENT).values()


def test_every_code_that_is_told_is_in_the_catalog() -> None:
    for code, kind in (CHIP_KINDS | DRIVER_KINDS).items():
        row = lookup(f"nvml:{code}")
        assert row.is_known
        assert row.kind == kind or code == UNKNOWN
    assert lookup("nvml:fabric").is_known


@pytest.mark.parametrize(
    ("code", "kind"), [(9, "driver.fault"), (12, "driver.fault"), (18, "driver.mismatch")]
)
def test_driver_trouble_is_told_and_calls_no_chip_lost(
    tmp_path: Path, code: int, kind: str
) -> None:
    host = FakeHost(
        files={
            "/sys/bus/pci/devices/0000:1a:00.0/vendor": "0x10de\n",
            "/sys/bus/pci/devices/0000:1a:00.0/class": "0x030200\n",
        }
    )
    with simulated(tmp_path, gpus=1, host=host) as rig:
        rig.nvml.fail("nvmlInitWithFlags", code)
        first = rig.scan()
        [gap] = first.gaps
        assert gap.component == Component(ComponentKind.PCI, "0000:1a:00.0")
        assert f"nvml:{code} " in gap.detail
        assert not first.events, "the host may still be starting"
        assert not first.chips
        assert not first.is_inventory
        [event] = rig.scan(60).events
        assert (str(event.component), event.code, event.kind) == ("host", f"nvml:{code}", kind)


def test_driver_trouble_after_it_worked_is_told_at_once(rig: Rig) -> None:
    chips = rig.scan().chips
    rig.nvml.fail("nvmlDeviceGetCount_v2", 18)
    scan = rig.scan(5)
    assert [event.code for event in scan.events] == ["nvml:18"]
    assert {gap.component for gap in scan.gaps} == {chip.component for chip in chips}
    assert not scan.is_inventory
    rig.nvml.fail("nvmlDeviceGetCount_v2", 0)
    assert rig.scan(5).is_inventory


def test_an_unhealthy_fabric_is_told(rig: Rig) -> None:
    rig.nvml.set(0, fabric_health_mask=0x1)
    rig.nvml.set(1, fabric_status=999)
    events = rig.scan().events
    assert [e.code for e in events] == ["nvml:fabric"] * 2
    assert "degraded bandwidth" in events[0].message


def test_a_fabric_that_registers_is_told_when_it_does_not_end(rig: Rig) -> None:
    rig.nvml.set(0, fabric_state=2)
    assert not rig.scan().events
    [event] = rig.scan().events
    assert "fabric manager" in event.message
    assert rig.scan(5).events, "told while it stands"
    rig.nvml.set(0, fabric_state=3)
    assert not rig.scan().events


def test_processes_stay_known_between_their_readings(rig: Rig) -> None:
    rig.nvml.set(1, processes="4242:1048576,4243:-")
    scan = rig.scan()
    uid = scan.chips[1].uid
    rows = [(p.chip, p.pid, p.memory_bytes) for p in scan.processes]
    assert rows == [(uid, 4242, 1048576), (uid, 4243, None)]
    rig.nvml.set(1, processes="")
    assert rig.scan(5).processes == scan.processes
    assert rig.scan(10).processes == ()


def test_an_xid_wakes_the_scanner(rig: Rig) -> None:
    chip = rig.scan().chips[1]
    rig.nvml.emit(1, 79)
    rig.wait_for_push()
    scan = rig.scan(0.2)
    [event] = scan.events
    assert (event.component, event.code) == (chip.component, "xid:79")
    assert chip.pci is not None
    assert chip.pci in event.message
    assert not scan.is_inventory
    assert rig.scan(5).is_inventory


def test_an_xid_is_passed_on_before_a_call_that_would_hang(tmp_path: Path) -> None:
    with simulated(tmp_path, answer_seconds=0.3) as rig:
        rig.scan()
        rig.nvml.hang("nvmlDeviceGetTemperature", 600)
        rig.nvml.emit(0, 119)
        rig.wait_for_push()
        assert [event.code for event in rig.scan(5).events] == ["xid:119"]


def test_a_storm_of_xids_does_not_stop_the_polling(rig: Rig) -> None:
    rig.scan()
    polled = 0
    for number in range(8):
        rig.nvml.emit(number % 2, 63)
        rig.wait_for_push()
        scan = rig.scan(5)
        assert [event.code for event in scan.events] == ["xid:63"]
        polled += bool(scan.readings)
    assert polled == 2


def test_a_chip_without_events_is_said(tmp_path: Path) -> None:
    with simulated(tmp_path, profile="l40s", gpus=1) as rig:
        details = [gap.detail for gap in rig.scan().gaps if gap.metric is None]
        assert details == [
            "no Xid events from NVML for GPU 0: nvml:3 not supported by this GPU, driver or mode"
        ]


def test_no_chip_at_all_is_never_a_healthy_host(tmp_path: Path) -> None:
    host = FakeHost(
        files={
            "/sys/bus/pci/devices/0000:1a:00.0/vendor": "0x10de\n",
            "/sys/bus/pci/devices/0000:1a:00.0/class": "0x030200\n",
        }
    )
    with simulated(tmp_path, gpus=0, host=host) as rig:
        [gap] = rig.scan().gaps
        assert gap.component == Component(ComponentKind.PCI, "0000:1a:00.0")
        assert gap.reason is GapReason.MISSING


def test_versions_and_timings_are_for_the_doctor(rig: Rig) -> None:
    rig.scan()
    timing = rig.collector.timings()["nvmlDeviceGetTemperature"]
    assert timing.calls == 2
    assert 0 < timing.slowest_microseconds <= timing.total_microseconds
    assert rig.collector.versions["driver_version"] == "570.158.01"


def test_one_connection_is_held(rig: Rig) -> None:
    for _ in range(5):
        rig.scan()
    calls = {symbol: timing.calls for symbol, timing in rig.collector.timings().items()}
    assert calls["nvmlInit"] == 1
    assert calls["nvmlDeviceGetHandleByIndex"] == 2
    assert calls["nvmlDeviceGetUUID"] == 2
    assert rig.child.starts == 1


def test_the_child_cannot_speak_to_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    with simulated(tmp_path) as rig:
        rig.scan()
        [worker] = [
            path
            for path in Path("/proc").glob("[0-9]*/environ")
            if str(rig.nvml.path).encode() in _read(path)
        ]
        assert b"NOTIFY_SOCKET" not in worker.read_bytes()
        assert os.getsid(int(worker.parent.name)) == int(worker.parent.name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
