"""The thresholds of the detectors: section `[detectors]` of the agent's configuration.

Where vendors or operators publish a figure it is named; the others are our judgement, chosen so
that the known decoys (a short heat peak, one link flap, a burst of corrected errors, a long
checkpoint) stay silent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chipmedic.faults.escalation import builtin_rules
from chipmedic.section import Section, numbers_above_zero


@dataclass(frozen=True, slots=True, kw_only=True)
class PageLimits(Section):
    """How many retired or isolated memory pages a chip may have."""

    worn: int
    """From here on it is said, and a reset is asked for."""
    spent: int
    """From here on the chip goes back to its maker."""

    CHECKS = (numbers_above_zero,)


@dataclass(frozen=True, slots=True, kw_only=True)
class HangSettings(Section):
    """When a job's silence is a hang: `[detectors.hang]`."""

    floor_seconds: float = 10.0
    """Never earlier than this, for a job that names its phases."""
    unphased_floor_seconds: float = 60.0
    """Never earlier than this, for a job that tells steps only: an evaluation looks like a hang."""
    log_floor_seconds: float = 300.0
    """Never earlier than this, for a job that is known by the age of its log alone."""
    median_factor: float = 5.0
    """Silence as a multiple of the job's median step."""
    pause_factor: float = 1.5
    """Silence as a multiple of the long pauses that the job has shown to be its own."""
    first_steps: int = 3
    """Steps after a start before the step time is trusted (compilation, cold caches)."""
    first_step_seconds: float = 1800.0
    """How long a start may take up to then."""
    phase_seconds: float = 1800.0
    """How long a phase other than training may last while the job has no history of it."""
    phase_floor_seconds: float = 120.0
    """Never earlier than this in such a phase, whatever its history."""
    phase_factor: float = 5.0
    """Limit of such a phase as a multiple of its longest run so far, once it has run twice."""
    distrust_seconds: float = 15.0
    """When the agent itself was away for longer than this, silence counts from its return."""

    CHECKS = (numbers_above_zero,)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorSettings(Section):
    """Limits and times of all detectors."""

    expiry_seconds: float = 600.0
    """A fault that happened once (a program's error, an OOM kill) is over after so long without
    a repeat."""
    corrected_per_hour: float = 10_000.0
    """Corrected memory errors of a chip; operators publish lifetime limits only (10^4 of SRAM,
    10^7 of DRAM)."""
    page_limits: dict[str, PageLimits] = field(
        default_factory=lambda: {
            rule.vendor: PageLimits(worn=rule.worn, spent=rule.spent)
            for rule in builtin_rules().pages
        }
    )
    """By vendor; the defaults are escalation rules. Ascend: the vendor's own, 16 and 64 (events
    80E18401, 80E18402). NVIDIA chips say it themselves (remapping failed)."""
    contained_seconds: float = 120.0
    """An uncorrected error this near to a report that it was contained is the contained one."""
    health_hold_seconds: float = 60.0
    """How long a tool must state ill health without a code before it is a fault."""
    health_explained_seconds: float = 300.0
    """A code this recent explains a tool's word of ill health."""
    link_down_seconds: float = 30.0
    """HCCL and NCCL survive a shorter loss of a port."""
    nic_down_seconds: float = 30.0
    port_up_seconds: float = 20.0
    """A port must stay up so long before its down is over."""
    flap_count: int = 2
    flap_window_seconds: float = 300.0
    flap_slow_count: int = 5
    flap_slow_window_seconds: float = 86_400.0
    flap_quiet_seconds: float = 1800.0
    """Flapping is over after so long without a down."""
    boot_grace_seconds: float = 300.0
    link_errors_per_hour: float = 100.0
    link_retry_ratio: float = 0.001
    """Share of its blocks that a link may send again; ours, no vendor publishes one."""
    link_retry_hold_seconds: float = 120.0
    nic_errors_per_hour: float = 120.0
    """NVSentinel's limit for symbol errors."""
    pcie_hold_seconds: float = 120.0
    pcie_busy_ratio: float = 0.5
    """PCIe speed is judged only above this utilization: an idle link slows down by design."""
    pcie_correctable_per_hour: float = 1000.0
    pcie_replays_per_hour: float = 1000.0
    throttle_hold_seconds: float = 60.0
    throttle_clear_seconds: float = 120.0
    critical_celsius: float = 100.0
    critical_memory_celsius: float = 108.0
    critical_margin_celsius: float = 5.0
    critical_hold_seconds: float = 30.0
    memory_available_ratio: float = 0.02
    memory_pressure_ratio: float = 0.5
    """Share of time in which some task waited for memory."""
    memory_hold_seconds: float = 60.0
    edac_corrected_per_hour: float = 100.0
    disk_free_ratio: float = 0.02
    disk_minimum_bytes: float = 8.0 * 1024**3
    """Smaller file systems (boot, EFI) are full by design."""
    collector_failures: int = 3
    """Failed scans in a row before a collector's failure is said."""
    driver_blocked_seconds: float = 20.0
    """A vendor's collector blocked so long, or twice in a row: its driver does not answer."""
    hang: HangSettings = field(default_factory=HangSettings)

    CHECKS = (numbers_above_zero,)
