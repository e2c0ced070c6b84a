"""The host: memory, its errors, file systems."""

from __future__ import annotations

from collections.abc import Iterator

from chipmedic.metric import Metric
from chipmedic.model import HOST, ComponentKind, Scan, Severity
from chipmedic_agent.detectors.growth import Growth
from chipmedic_agent.detectors.level import Hold, Judge, Level, Sight
from chipmedic_agent.detectors.rate import Rate
from chipmedic_agent.detectors.settings import DetectorSettings
from chipmedic_agent.detectors.thermal import flag

GIB = 1024.0**3


def memory_short(available_ratio: float, pressure_ratio: float) -> Judge:
    """Return a judge of the host's memory: hardly any left, and tasks that wait for it.

    Little available memory alone is normal (hugepages, pinned buffers of training jobs); waiting
    alone is a busy page cache. Where the kernel tells no pressure, the memory left decides.
    """

    def judge(scan: Scan) -> Iterator[Sight]:
        available = scan.values(Metric.HOST_MEMORY_AVAILABLE).get(HOST)
        total = scan.values(Metric.HOST_MEMORY_TOTAL).get(HOST)
        pressure = scan.values(Metric.HOST_LOAD_RATIO).get(HOST)
        if available is None or not total:
            return
        waits = pressure is None or pressure >= pressure_ratio
        is_short = available / total < available_ratio
        yield Sight(
            HOST,
            is_bad=is_short and waits,
            is_good=available / total >= 2 * available_ratio,
            summary=f"{available / GIB:.1f} of {total / GIB:.0f} GiB of host memory are left",
            severity=Severity.WARNING,
            evidence=(
                f"{Metric.HOST_MEMORY_AVAILABLE.value} {available:.0f}",
                f"{Metric.HOST_LOAD_RATIO.value} {pressure}",
            ),
        )

    return judge


def disk_full(free_ratio: float, minimum_bytes: float) -> Judge:
    """Return a judge of the space on file systems, small ones excepted."""

    def judge(scan: Scan) -> Iterator[Sight]:
        totals = scan.values(Metric.DISK_TOTAL)
        for component, free in scan.values(Metric.DISK_FREE).items():
            total = totals.get(component, 0.0)
            if total >= minimum_bytes:
                yield Sight(
                    component,
                    is_bad=free / total < free_ratio,
                    is_good=free / total >= 2 * free_ratio,
                    summary=f"{component.name} is full: {free / GIB:.1f} GiB are free",
                    severity=Severity.WARNING,
                    evidence=(f"{Metric.DISK_FREE.value} {free:.0f} of {total:.0f}",),
                )

    return judge


def host_detectors(settings: DetectorSettings) -> list[Level | Growth | Rate]:
    """Return the detectors of the host itself."""
    return [
        Growth(
            name="oom_kills",
            metric=Metric.HOST_OOM_KILLS,
            kind="host.oom",
            words="processes killed for want of memory",
            quiet_seconds=settings.expiry_seconds,
        ),
        Level(
            name="host_memory",
            kind="host.oom",
            judge=memory_short(settings.memory_available_ratio, settings.memory_pressure_ratio),
            hold=Hold(raise_seconds=settings.memory_hold_seconds, clear_seconds=30.0),
        ),
        Growth(
            name="edac_uncorrected",
            metric=Metric.HOST_EDAC_UNCORRECTED,
            kind="host.memory_error",
            words="uncorrected errors of host memory",
        ),
        Rate(
            name="edac_corrected",
            metric=Metric.HOST_EDAC_CORRECTED,
            kind="host.memory_error",
            words="corrected errors of host memory",
            per_hour=settings.edac_corrected_per_hour,
            clear_per_hour=settings.edac_corrected_per_hour / 4,
            severity=Severity.WARNING,
        ),
        Level(
            name="disk_full",
            kind="host.disk_error",
            judge=disk_full(settings.disk_free_ratio, settings.disk_minimum_bytes),
            hold=Hold(raise_seconds=settings.memory_hold_seconds, clear_seconds=30.0),
            listed=ComponentKind.DISK,
        ),
        Level(
            name="disk_read_only",
            kind="host.fs_error",
            judge=flag(Metric.DISK_READ_ONLY, "was mounted for writing and has become read-only"),
            listed=ComponentKind.DISK,
        ),
    ]
