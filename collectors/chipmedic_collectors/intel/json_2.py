"""The JSON of `xpu-smi stats` 2.x: values by group and tile, counters, pages out of use.

Source: the command's own printer in xpumanager 2.0 (cli, cmd_stats). A device is named by
`device_index` and `pci_bdf` there, and a failed question has its own entry with `error`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chipmedic.tool_report import ChipReport
from chipmedic_collectors.intel import facts
from chipmedic_collectors.reading import fields
from chipmedic_collectors.reading.cells import counter
from chipmedic_collectors.reading.fields import Field

_VALUES: Mapping[tuple[str, str], tuple[Field, str]] = {
    ("utilization", "gpu_percent"): (fields.UTILIZATION, "%"),
    ("power", "gpu_power_w"): (fields.POWER, "W"),
    ("temperature", "gpu_core_celsius"): (fields.TEMPERATURE, "C"),
    ("temperature", "memory_celsius"): (fields.MEMORY_TEMPERATURE, "C"),
    ("memory", "used_mib"): (fields.MEMORY_USED, "MiB"),
    ("memory", "util_percent"): (fields.MEMORY_USED_RATIO, "%"),
}
_MEMORY_ERRORS = ("Cache Errors", "Mem Errors")
_LOST = "DEVICE_LOST"
"""Of `ZE_RESULT_ERROR_DEVICE_LOST`."""


def fill(chip: ChipReport, entry: Mapping[str, Any]) -> None:
    """Fill a chip from its entry; what the entry does not hold stays as it is."""
    for (group, name), (field, unit) in _VALUES.items():
        texts = list(_texts(_inside(entry, group, name)))
        if texts:
            facts.fill_or_combine(chip, field, texts, unit)
    for attribute, key in (
        ("ecc_corrected_total", "correctable_total"),
        ("ecc_uncorrected_total", "uncorrectable_total"),
    ):
        counts = [
            count
            for kind in _MEMORY_ERRORS
            if (count := counter(str(_inside(entry, "ras_errors", kind, key)))) is not None
        ]
        if counts:
            setattr(chip, attribute, sum(counts))
    chip.lost = True if _LOST in str(entry.get("error", "")) else None


def _inside(entry: Any, *keys: str) -> Any:
    for key in keys:
        entry = entry.get(key) if isinstance(entry, Mapping) else None
    return entry


def _texts(tiles: Any) -> Iterator[str]:
    """Yield a value for each tile: a number, or the last of several samples."""
    if not isinstance(tiles, Mapping):
        return
    for name, value in tiles.items():
        value = value.get("current") if isinstance(value, Mapping) else value
        if name.startswith("tile_") and isinstance(value, int | float):
            yield str(value)
