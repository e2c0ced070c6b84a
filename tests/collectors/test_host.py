"""The host's own files: what is read, and what is said of what is not there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.host import LinuxHost
from chipmedic.metric import Metric
from chipmedic.model import HOST, Component, ComponentKind, GapReason, Scan
from chipmedic.testing import FakeHost
from chipmedic_collectors.host import (
    HostHealth,
    read_memory,
    read_mounts,
    read_oom_kills,
    read_pressure,
)

MEMINFO = (
    "MemTotal:       2113406444 kB\nMemFree: 812 kB\n"
    "MemAvailable:   1900211000 kB\nHugePages_Total: 0\n"
)
PRESSURE = (
    "some avg10=12.50 avg60=3.20 avg300=0.90 total=81\nfull avg10=1.00 avg60=0 avg300=0 total=4\n"
)
VMSTAT = "nr_free_pages 181\noom_kill 3\npgfault 99\n"
MOUNTS = """\
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
31 22 259:2 /etc /srv/etc ro,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
40 22 253:7 / /data\\040one rw,noatime shared:9 - xfs /dev/mapper/vg-one rw,attr2
50 22 0:51 / /home rw,relatime shared:12 - nfs4 filer:/home rw,vers=4.2,hard
60 22 0:23 / /proc rw,nosuid - proc proc rw
70 22 7:1 / /snap/core ro,nodev - squashfs /dev/loop1 ro
a line that is none
"""
FILES = {
    "/proc/meminfo": MEMINFO,
    "/proc/pressure/memory": PRESSURE,
    "/proc/vmstat": VMSTAT,
    "/proc/self/mountinfo": MOUNTS,
    "/sys/devices/system/edac/mc/mc0/ce_count": "4\n",
    "/sys/devices/system/edac/mc/mc0/ue_count": "0\n",
    "/sys/devices/system/edac/mc/mc1/ce_count": "5\n",
    "/sys/devices/system/edac/mc/mc1/ue_count": "1\n",
}


def disk(point: str) -> Component:
    return Component(ComponentKind.DISK, point)


def test_what_a_healthy_host_tells() -> None:
    scan = HostHealth(FakeHost(files=FILES)).scan()
    assert scan.values(Metric.HOST_MEMORY_TOTAL) == {HOST: 2113406444 * 1024}
    assert scan.values(Metric.HOST_MEMORY_AVAILABLE) == {HOST: 1900211000 * 1024}
    assert scan.values(Metric.HOST_LOAD_RATIO) == {HOST: 0.125}
    assert scan.values(Metric.HOST_OOM_KILLS) == {HOST: 3}
    assert scan.values(Metric.HOST_EDAC_CORRECTED) == {HOST: 9}
    assert scan.values(Metric.HOST_EDAC_UNCORRECTED) == {HOST: 1}
    assert scan.values(Metric.DISK_READ_ONLY) == {disk("/"): 0, disk("/data one"): 0}
    assert scan.values(Metric.DISK_TOTAL)[disk("/")] > scan.values(Metric.DISK_FREE)[disk("/")] > 0


def gaps(scan: Scan) -> dict[Metric | None, GapReason]:
    return {gap.metric: gap.reason for gap in scan.gaps}


def test_what_is_not_there_is_a_gap_and_never_a_zero() -> None:
    scan = HostHealth(FakeHost(files={})).scan()
    assert scan.readings == ()
    assert gaps(scan) == {
        Metric.HOST_MEMORY_AVAILABLE: GapReason.UNSUPPORTED,
        Metric.HOST_LOAD_RATIO: GapReason.UNSUPPORTED,
        Metric.HOST_OOM_KILLS: GapReason.UNSUPPORTED,
        Metric.HOST_EDAC_CORRECTED: GapReason.UNSUPPORTED,
        Metric.HOST_EDAC_UNCORRECTED: GapReason.UNSUPPORTED,
        None: GapReason.UNSUPPORTED,
    }


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (PermissionError(13, "Permission denied"), GapReason.DENIED),
        (OSError(5, "Input/output error"), GapReason.FAILED),
        ("many", GapReason.MALFORMED),
    ],
)
def test_one_memory_controller_that_cannot_be_read_makes_the_sum_unknown(
    answer: str | OSError, reason: GapReason
) -> None:
    files = FILES | {"/sys/devices/system/edac/mc/mc1/ce_count": answer}
    scan = HostHealth(FakeHost(files=files)).scan()
    assert HOST not in scan.values(Metric.HOST_EDAC_CORRECTED)
    assert gaps(scan)[Metric.HOST_EDAC_CORRECTED] is reason
    assert scan.values(Metric.HOST_EDAC_UNCORRECTED) == {HOST: 1}


def test_a_file_system_that_has_become_read_only_is_told_and_one_that_always_was_is_not() -> None:
    files: dict[str, str | OSError] = dict(FILES)
    host = FakeHost(files=files)
    collector = HostHealth(host)
    collector.scan()
    files["/proc/self/mountinfo"] = MOUNTS.replace("xfs /dev/mapper/vg-one rw", "xfs /dev/x ro")
    host.at += 60
    assert collector.scan().values(Metric.DISK_READ_ONLY) == {disk("/"): 0, disk("/data one"): 1}
    fresh = HostHealth(host).scan()
    assert disk("/data one") not in fresh.values(Metric.DISK_READ_ONLY)


def test_disks_are_looked_at_every_thirty_seconds_only() -> None:
    files: dict[str, str | OSError] = dict(FILES)
    host = FakeHost(files=files)
    collector = HostHealth(host)
    before = collector.scan().values(Metric.DISK_FREE)
    files["/proc/self/mountinfo"] = ""
    host.at += 15
    assert collector.scan().values(Metric.DISK_FREE) == before
    host.at += 15
    assert collector.scan().values(Metric.DISK_FREE) == {}


def test_mounts_are_local_each_device_once_and_unescaped() -> None:
    assert [(m.point, m.is_read_only) for m in read_mounts(MOUNTS)] == [
        ("/", False),
        ("/data one", False),
    ]


def test_this_very_host_can_be_read() -> None:
    scan = HostHealth(LinuxHost()).scan()
    assert scan.values(Metric.HOST_MEMORY_TOTAL)[HOST] > 1e8


LINES = st.lists(
    st.sampled_from([*MEMINFO.splitlines(), *PRESSURE.splitlines(), *VMSTAT.splitlines()])
    | st.builds(
        "{}{}{}".format,
        st.sampled_from(["MemTotal:  ", "MemAvailable: ", "oom_kill ", "some avg10="]),
        st.integers(-5, 10**25) | st.text(max_size=5),
        st.sampled_from(["", " kB", ".5"]),
    )
    | st.text(max_size=40)
).map("\n".join)


@given(LINES)
def test_what_is_read_of_any_text_is_possible_and_of_the_host(text: str) -> None:
    for read, metrics in (
        (read_memory, {Metric.HOST_MEMORY_TOTAL, Metric.HOST_MEMORY_AVAILABLE}),
        (read_pressure, {Metric.HOST_LOAD_RATIO}),
        (read_oom_kills, {Metric.HOST_OOM_KILLS}),
    ):
        for reading in read(text):
            assert reading.component == HOST
            assert reading.metric in metrics
            assert reading.value >= 0
            assert reading.metric is not Metric.HOST_LOAD_RATIO or reading.value <= 1


@given(st.lists(st.sampled_from(MOUNTS.splitlines()) | st.text(max_size=40)))
def test_what_is_no_line_of_mounts_changes_no_mount(lines: list[str]) -> None:
    found = read_mounts("\n".join(lines))
    points = [mount.point for mount in found]
    assert len(points) == len(set(points)) <= len(lines)
    known = [line for line in lines if line in MOUNTS.splitlines()]
    assert read_mounts("\n".join(known)) == found
