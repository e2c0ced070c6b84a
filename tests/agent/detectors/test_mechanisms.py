"""Stories of the readings: what fires, what stays silent, what clears."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chipmedic.metric import Metric
from chipmedic.model import (
    HOST,
    Cleared,
    Component,
    ComponentKind,
    Gap,
    GapReason,
    Reading,
    Scan,
    collector_component,
)
from chipmedic_agent.detectors.flap import Downs, look
from detector_story import CHIP, LINK, NIC, boot, chip, detector, readings, replay, run, words

M = Metric
DISK = Component(ComponentKind.DISK, "/scratch")


@pytest.mark.parametrize(
    ("name", "metric", "every", "values", "story"),
    [
        # Uncorrected errors: growth alone counts, a first sight is a baseline, silence is no cure.
        ("memory_uncorrected", M.ECC_UNCORRECTED, 30, [412, 412, 412], ""),
        ("memory_uncorrected", M.ECC_UNCORRECTED, 30, [0, 1, 1, None], "raised@30"),
        ("memory_uncorrected", M.ECC_UNCORRECTED, 30, [0, 1, 3], "raised@30 updated@60"),
        ("memory_uncorrected", M.ECC_UNCORRECTED, 30, [5, 7, 0, 0], "raised@30 cleared@60"),
        ("memory_uncorrected", M.ECC_UNCORRECTED, 30, [5, None, None, 6], "raised@90"),
        # Corrected errors: by their number within an hour (limit 10,000, clear below 2,500).
        ("memory_corrected", M.ECC_CORRECTED, 600, [9e6, 9e6 + 9_000, 9e6 + 9_000], ""),
        ("memory_corrected", M.ECC_CORRECTED, 600, [100, 20_000, 20_000], "raised@600"),
        (
            "memory_corrected",
            M.ECC_CORRECTED,
            1200,
            [0, 15_000, 15_000, 15_000, 15_000, 15_000],
            "raised@1200 cleared@4800",
        ),
        ("memory_corrected", M.ECC_CORRECTED, 36_000, [0, 50_000, 100_000], ""),  # 5,000 per hour
        ("memory_corrected", M.ECC_CORRECTED, 600, [0, 15_000, 3, 4], "raised@600 cleared@1200"),
        # Deferred errors: each new one is said, an old one is a baseline.
        ("memory_deferred", M.ECC_DEFERRED, 600, [7, 7, 7], ""),
        ("memory_deferred", M.ECC_DEFERRED, 1800, [7, 8, 8, 8], "raised@1800 cleared@5400"),
        # What the chip says of itself counts at first sight.
        ("remap_pending", M.REMAP_PENDING, 60, [1, 1, 0], "raised@0 cleared@120"),
        ("remap_failed", M.REMAP_FAILED, 60, [0, 1, None], "raised@60"),
        ("sram_spent", M.SRAM_THRESHOLD, 60, [0, 1, 1, None, 0], "raised@60 cleared@240"),
        ("sram_spent", M.SRAM_THRESHOLD, 60, [0, None, 0], ""),
        # Heat: a short peak is no fault, flickering does not start the hold again.
        ("thermal_throttle", M.THROTTLE_THERMAL, 15, [1, 1, 1, 0, 0, 0], ""),
        ("thermal_throttle", M.THROTTLE_THERMAL, 15, [1, 1, 1, 1, 1], "raised@60"),
        ("thermal_throttle", M.THROTTLE_THERMAL, 10, [1, 0, 1, 0, 1, 0, 1], "raised@60"),
        ("thermal_throttle", M.THROTTLE_THERMAL, 60, [1, 1, 0, 0, 0, 0], "raised@60 cleared@240"),
        ("thermal_throttle", M.THROTTLE_THERMAL, 60, [1, 1, None, None], "raised@60"),
        ("power_throttle", M.THROTTLE_POWER, 60, [0, 1, 1], "raised@120"),
        ("temperature", M.TEMPERATURE, 15, [98, 99, 99, 99], ""),
        ("temperature", M.TEMPERATURE, 15, [101, 101, 94, 101, 101], ""),
        ("temperature", M.TEMPERATURE, 15, [101, 103, 104, 97, 94], "raised@30 cleared@60"),
        ("memory_temperature", M.MEMORY_TEMPERATURE, 15, [107, 110, 110, 110], "raised@45"),
        # The driver's wish, and the tool's word without a code.
        ("chip_recovery", M.RECOVERY_ACTION, 5, [0, 1, 1, 0], "raised@5 cleared@15"),
        ("chip_recovery", M.RECOVERY_ACTION, 5, [0, 1, 2], "raised@5 updated@10"),
        ("chip_health", M.HEALTH, 15, [2, 0, 2, 2, 2], ""),
        ("chip_health", M.HEALTH, 15, [1, 1, 1, 1, 2, 0], "raised@60 cleared@75"),
        ("chip_health", M.HEALTH, 20, [2, 2, 2, 2], "raised@60"),
        # PCIe errors that were not corrected are over after an hour of quiet.
        ("pcie_nonfatal", M.PCIE_ERRORS_NONFATAL, 1800, [0, 1, 1, 1], "raised@1800 cleared@5400"),
        ("pcie_fatal", M.PCIE_ERRORS_FATAL, 60, [3, 3, 4], "raised@120"),
        ("pcie_replays", M.PCIE_REPLAYS, 60, [144, 150, 150], ""),
        ("pcie_correctable", M.PCIE_ERRORS_CORRECTABLE, 60, [0, 2_000], "raised@60"),
    ],
)
def test_story_of_a_chip(
    name: str, metric: Metric, every: float, values: list[float | None], story: str
) -> None:
    assert replay(name, metric, values, every=every) == story


@pytest.mark.parametrize(
    ("name", "metric", "component", "every", "values", "story"),
    [
        ("oom_kills", M.HOST_OOM_KILLS, HOST, 300, [3, 3, 4, 4, 4], "raised@600 cleared@1200"),
        ("oom_kills", M.HOST_OOM_KILLS, HOST, 300, [7, 0, 0], ""),
        ("edac_uncorrected", M.HOST_EDAC_UNCORRECTED, HOST, 900, [0, 1, 1, 1, 1, 1], "raised@900"),
        ("edac_corrected", M.HOST_EDAC_CORRECTED, HOST, 60, [0, 1, 2, 3], ""),
        ("edac_corrected", M.HOST_EDAC_CORRECTED, HOST, 60, [0, 200], "raised@60"),
        ("disk_read_only", M.DISK_READ_ONLY, DISK, 30, [0, 1, None, 0], "raised@30 cleared@90"),
        ("link_errors", M.LINK_ERRORS, LINK, 60, [10, 30, 50], ""),
        ("link_errors", M.LINK_ERRORS, LINK, 60, [0, 150], "raised@60"),
        ("link_errors", M.LINK_ERRORS, NIC, 60, [0, 150], ""),
        ("link_retries", M.LINK_RETRIES, LINK, 60, [0, 1e-6, 9e-4, 9e-4, 9e-4], ""),
        ("link_retries", M.LINK_RETRIES, LINK, 60, [0, 0.2, 0, 0.2, 0], ""),
        (
            "link_retries",
            M.LINK_RETRIES,
            LINK,
            60,
            [0.002, None, 0.002, 0.002, 7e-4, 1e-4, None, 1e-4],
            "raised@180 cleared@420",
        ),
        ("nic_errors", M.LINK_ERRORS, NIC, 60, [65_000, 65_535, 65_535], "raised@60"),
    ],
)
def test_story_of_the_host(
    name: str,
    metric: Metric,
    component: Component,
    every: float,
    values: list[float | None],
    story: str,
) -> None:
    assert replay(name, metric, values, every=every, component=component) == story


@pytest.mark.parametrize(
    ("component", "up", "every", "story"),
    [
        # A port that never was up is inactive by design.
        (LINK, [0, 0, 0, 0], 30, ""),
        (NIC, [0, 0, 0, 0], 30, ""),
        # One flap is survived (HCCL and NCCL wait as long).
        (NIC, [1, 0, 1, 1, 1], 15, ""),
        (NIC, [1, 0, 0, 0, 0], 15, "raised@45"),
        (NIC, [1, 0, 0, 0, 1, 1, 1], 15, "raised@45 cleared@90"),
        (NIC, [1, 0, 0, 0, None, None], 15, "raised@45"),
        (LINK, [1, 0, 0], 30, "raised@60"),
    ],
)
def test_story_of_a_port(
    component: Component, up: list[float | None], every: float, story: str
) -> None:
    name = "links" if component is LINK else "nics"
    # A scan of another source carries the silence: a port that its own source leaves out is down.
    scans = [
        Scan(source="other", at=number * every)
        if value is None
        else readings(number * every, (component, M.LINK_UP, value))
        for number, value in enumerate(up)
    ]
    assert words(run(detector(name), scans)) == story


def test_two_downs_in_five_minutes_are_flapping_until_it_is_quiet() -> None:
    up = [1, 0, 1, 1, 0, 1, *[1] * 125]
    scans = [readings(n * 15, (NIC, M.LINK_UP, value)) for n, value in enumerate(up)]
    told = run(detector("nics"), scans)
    assert words(told, with_kind=True) == "nic.flap:raised@60 nic.flap:cleared@1860"


def test_flaps_between_two_looks_show_in_the_counter_alone() -> None:
    counts = [7, 7, 9, 9]
    scans = [
        readings(n * 15, (NIC, M.LINK_UP, 1), (NIC, M.LINK_DOWNED, count))
        for n, count in enumerate(counts)
    ]
    assert words(run(detector("nics"), scans), with_kind=True) == "nic.flap:raised@30"


def test_a_saturated_counter_leaves_the_word_to_the_state() -> None:
    scans = [
        readings(n * 15, (NIC, M.LINK_UP, value), (NIC, M.LINK_DOWNED, 255))
        for n, value in enumerate([1, 0, 1, 0, 1])
    ]
    assert words(run(detector("nics"), scans), with_kind=True) == "nic.flap:raised@45"


@pytest.mark.parametrize(
    "looks",
    [
        [(True, 3), (False, 3), (False, 4), (True, 4)],  # the state first
        [(True, 3), (True, 4), (False, 4), (True, 4)],  # the counter first
        [(True, 3), (False, 4), (True, 4), (True, 4)],  # both at once
        [(True, None), (False, None), (True, None), (True, None)],  # no counter at all
        # The counter is read more seldom than the state.
        [(True, 3), (False, None), (False, None), (False, 4)],
        [(True, 3), (False, None), (True, None), (True, 4)],
        [(True, 3), (True, 4), (True, None), (False, None)],
        [(True, 255), (False, None), (True, None), (True, 255)],
    ],
)
def test_one_down_counts_once_whoever_tells_it_first(
    looks: list[tuple[bool, float | None]],
) -> None:
    downs = Downs()
    for n, (is_up, counter) in enumerate(looks):
        downs = look(downs, is_up=is_up, counter=counter, at=n * 5.0, window_seconds=300)
    assert len(downs.at) == 1


def test_links_that_train_after_a_boot_do_not_flap() -> None:
    scans = [
        readings(0, (NIC, M.LINK_UP, 1)),
        boot(100),
        *[readings(110 + n * 10, (NIC, M.LINK_UP, v)) for n, v in enumerate([0, 1, 0, 1, 0, 1])],
    ]
    assert words(run(detector("nics"), scans)) == ""


def test_a_network_port_that_its_source_no_longer_lists_is_down() -> None:
    other = Component(ComponentKind.NIC, "mlx5_3/1")
    scans = [
        readings(0, (NIC, M.LINK_UP, 1), (other, M.LINK_UP, 1), source="rdma"),
        *[readings(n * 10, (other, M.LINK_UP, 1), source="rdma") for n in range(1, 6)],
    ]
    assert words(run(detector("nics"), scans), with_kind=True) == "nic.down:raised@40"


def test_a_source_that_could_not_look_takes_no_port_down() -> None:
    blocked = Gap(collector_component("rdma"), None, GapReason.TIMED_OUT, "stuck")
    scans = [
        readings(0, (NIC, M.LINK_UP, 1), source="rdma"),
        *[Scan(source="rdma", at=n * 10.0, gaps=(blocked,)) for n in range(1, 6)],
    ]
    assert words(run(detector("nics"), scans)) == ""


@pytest.mark.parametrize(
    ("width", "speed", "load", "is_virtual", "story"),
    [
        (16, 32e9, 0.9, False, ""),
        (8, 32e9, 0.0, False, "raised@120"),
        (16, 2.5e9, 0.02, False, ""),  # an idle link slows down by design
        (16, 16e9, 0.9, False, "raised@120"),
        (8, 32e9, 0.9, True, ""),
    ],
)
def test_story_of_a_pcie_link(
    width: float, speed: float, load: float, is_virtual: bool, story: str
) -> None:
    why = "virtual machine"
    gap = Gap(HOST, M.PCIE_WIDTH, GapReason.UNSUPPORTED, why)
    given = (
        Reading(CHIP, M.PCIE_WIDTH, width),
        Reading(CHIP, M.PCIE_WIDTH_MAX, 16),
        Reading(CHIP, M.PCIE_SPEED, speed),
        Reading(CHIP, M.PCIE_SPEED_MAX, 32e9),
        Reading(CHIP, M.UTILIZATION, load),
    )
    gaps = (gap,) if is_virtual else ()
    scans = [Scan(source="pcie", at=n * 60.0, readings=given, gaps=gaps) for n in range(4)]
    assert words(run(detector("pcie_link"), scans)) == story


def test_pages_are_judged_by_the_limits_of_their_vendor() -> None:
    def scan(at: float, pages: float, vendor: str) -> Scan:
        return Scan(
            source=vendor,
            at=at,
            chips=(chip(vendor=vendor),),
            readings=(Reading(CHIP, M.RETIRED_PAGES, pages),),
        )

    ascend = [scan(n, pages, "ascend") for n, pages in enumerate([3.0, 16.0, 64.0])]
    assert words(run(detector("pages_worn"), ascend)) == "raised@1"
    assert words(run(detector("pages_spent"), ascend)) == "raised@2"
    nvidia = [scan(n, pages, "nvidia") for n, pages in enumerate([3.0, 400.0])]
    assert words(run(detector("pages_worn"), nvidia)) == ""


@pytest.mark.parametrize(
    ("available", "pressure", "story"),
    [(0.30, 0.9, ""), (0.01, 0.0, ""), (0.01, 0.8, "raised@60"), (0.01, None, "raised@60")],
)
def test_story_of_host_memory(available: float, pressure: float | None, story: str) -> None:
    given = [
        (HOST, M.HOST_MEMORY_AVAILABLE, available * 1e12),
        (HOST, M.HOST_MEMORY_TOTAL, 1e12),
    ]
    if pressure is not None:
        given.append((HOST, M.HOST_LOAD_RATIO, pressure))
    scans = [readings(n * 15, *given) for n in range(6)]
    assert words(run(detector("host_memory"), scans)) == story


@pytest.mark.parametrize("name", ["disk_read_only", "disk_full"])
def test_a_file_system_that_is_not_mounted_any_more_is_no_trouble(name: str) -> None:
    root = Component(ComponentKind.DISK, "/")
    well = [(root, M.DISK_READ_ONLY, 0.0), (root, M.DISK_FREE, 9e11), (root, M.DISK_TOTAL, 1e12)]
    ill = [(DISK, M.DISK_READ_ONLY, 1.0), (DISK, M.DISK_FREE, 0.0), (DISK, M.DISK_TOTAL, 1e12)]
    silent = Gap(DISK, None, GapReason.TIMED_OUT)
    scans = [readings(n * 60, *well, *ill) for n in range(3)]
    scans += [replace(readings(180, *well), gaps=(silent,)), readings(240), readings(300, *well)]
    (_, raised), (at, cleared) = run(detector(name), scans)
    assert (at, raised.fault.component) == (300, DISK)
    assert isinstance(cleared, Cleared)
    assert cleared.reason == "not there any more"


@pytest.mark.parametrize(("total", "story"), [(1e12, "raised@60"), (5e8, "")])
def test_a_full_file_system_is_told_unless_it_is_a_small_one(total: float, story: str) -> None:
    given = ((DISK, M.DISK_FREE, total / 200), (DISK, M.DISK_TOTAL, total))
    assert words(run(detector("disk_full"), [readings(n * 30, *given) for n in range(4)])) == story
