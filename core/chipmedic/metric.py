"""The catalogue of what can be read of a component: name, kind, help.

A name ends in its base unit (Prometheus convention), so no reading needs a unit beside it.
Collectors convert at the edge; nothing inside chipmedic knows MiB, milliwatt or percent.
"""

from __future__ import annotations

from enum import StrEnum


class Metric(StrEnum):
    """One quantity of one component."""

    __hash__ = str.__hash__  # Enum's own is written in Python, and every reading is looked up

    TEMPERATURE = "temperature_celsius"
    """The chip itself: edge or junction where a vendor prints both."""
    MEMORY_TEMPERATURE = "memory_temperature_celsius"
    POWER = "power_watts"
    POWER_LIMIT = "power_limit_watts"
    UTILIZATION = "utilization_ratio"
    """Compute engines busy, 0..1; not memory bandwidth."""
    MEMORY_USED = "memory_used_bytes"
    MEMORY_TOTAL = "memory_total_bytes"
    ECC_CORRECTED = "ecc_corrected_total"
    """Corrected memory errors over the chip's life; falls only when a counter is reset."""
    ECC_UNCORRECTED = "ecc_uncorrected_total"
    ECC_DEFERRED = "ecc_deferred_total"
    """Bad data that was marked and not used yet (AMD); the job fails when it is used."""
    RETIRED_PAGES = "retired_pages_total"
    """Retired pages plus remapped rows, both causes. Ascend: isolated pages."""
    REMAP_PENDING = "remap_pending"
    """1 while a row or page waits for a reset to be taken out of use."""
    REMAP_FAILED = "remap_failed"
    """1 when the chip has no spare row left for a bank: the vendor's criterion for return."""
    MEMORY_BANKS_LOW = "memory_banks_low"
    """Banks of memory of which most spare rows are used up."""
    MEMORY_BANKS_SPENT = "memory_banks_spent"
    """Banks of memory without a spare row: the next bad row in one of them cannot be replaced."""
    SRAM_THRESHOLD = "sram_threshold_exceeded"
    """1 when the chip's own SRAM has had more uncorrectable errors than the vendor accepts."""
    UNREPAIRABLE_MEMORY = "unrepairable_memory"
    """NVML's flag of that name (driver 590 on). No fault by itself: driver 615 has set it on every
    GPU of a Rubin tray whose rows, repairs and recovery action were all in order."""
    PARTITIONS = "partitions"
    """Slices that the chip is cut into (MIG), 0 while it is whole."""
    RECOVERY_ACTION = "recovery_action_code"
    """NVML field 230: 0 none, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset, 5 IMEX,
    6 bus reset, 7 system reboot."""
    HEALTH = "health_code"
    """The state that the vendor's tool itself names: 0 ok, 1 warning, 2 critical."""
    PRESENT = "present"
    """1 when the component answers, 0 when it is known and gone."""
    THROTTLE_THERMAL = "throttle_thermal"
    """1 while the clock is lowered because of heat."""
    THROTTLE_POWER = "throttle_power"
    """1 while a power brake or hardware slowdown lowers the clock (not the set power cap)."""
    LINK_UP = "link_up"
    """1 when the port or lane group is active, 0 when it is not."""
    LINK_ERRORS = "link_errors_total"
    """Errors that cost a retry or a recovery; a healthy link stays at rest."""
    LINK_DOWNED = "link_downed_total"
    """How often the port went down, as its own counter says (InfiniBand: saturates at 255)."""
    LINK_RATE = "link_rate_bits_per_second"
    PCIE_WIDTH = "pcie_width_lanes"
    PCIE_WIDTH_MAX = "pcie_width_max_lanes"
    PCIE_SPEED = "pcie_speed_transfers_per_second"
    PCIE_SPEED_MAX = "pcie_speed_max_transfers_per_second"
    PCIE_REPLAYS = "pcie_replays_total"
    PCIE_ERRORS_CORRECTABLE = "pcie_errors_correctable_total"
    PCIE_ERRORS_NONFATAL = "pcie_errors_nonfatal_total"
    PCIE_ERRORS_FATAL = "pcie_errors_fatal_total"
    HOST_MEMORY_AVAILABLE = "host_memory_available_bytes"
    HOST_MEMORY_TOTAL = "host_memory_total_bytes"
    HOST_OOM_KILLS = "host_oom_kills_total"
    HOST_EDAC_CORRECTED = "host_edac_corrected_total"
    HOST_EDAC_UNCORRECTED = "host_edac_uncorrected_total"
    HOST_LOAD_RATIO = "host_pressure_ratio"
    """Share of the last 10 s in which some task waited for memory (PSI `some`), 0..1."""
    DISK_FREE = "disk_free_bytes"
    DISK_TOTAL = "disk_total_bytes"
    DISK_READ_ONLY = "disk_read_only"
    """1 when a file system that was mounted for writing has become read-only."""
