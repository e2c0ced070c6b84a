"""What the words and values of Intel's tools mean, whatever layout they are printed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from chipmedic.tool_report import ChipReport, Health
from chipmedic_collectors.reading import fields
from chipmedic_collectors.reading.fields import Field, FieldMap
from chipmedic_collectors.reading.judging import worst_health
from chipmedic_collectors.values import is_placeholder

_STATES = {"ok": Health.OK, "warning": Health.WARNING, "critical": Health.CRITICAL}

FIELDS: FieldMap = {
    "device id": fields.INDEX,
    "deviceid": fields.INDEX,
    "device_id": fields.INDEX,
    "device_index": fields.INDEX,
    "device name": fields.NAME,
    "device_name": fields.NAME,
    "uuid": fields.UUID,
    "soc uuid": fields.UUID,
    "serial number": fields.SERIAL,
    "serial_number": fields.SERIAL,
    "pci bdf address": fields.PCI,
    "pci_bdf_address": fields.PCI,
    "pci bdf": fields.PCI,
    "pci_bdf": fields.PCI,
    "gpu core temperature": fields.TEMPERATURE,
    "gpu memory temperature": fields.MEMORY_TEMPERATURE,
    "gpu power": fields.POWER,
    "gpu utilization": fields.UTILIZATION,
    "average % utilization of all gpu engines": fields.UTILIZATION,
    "gpu memory used": fields.MEMORY_USED,
    "memory physical size": fields.MEMORY_TOTAL,
    "gpu memory util": fields.MEMORY_USED_RATIO,
    "gpu memory utilization": fields.MEMORY_USED_RATIO,
    "gpu memory errors correctable": fields.ECC_CORRECTED,
    "gpu memory errors uncorrectable": fields.ECC_UNCORRECTED,
    "offline memory pages": fields.RETIRED_PAGES,
    "offline_page_count": fields.RETIRED_PAGES,
    **fields.NVIDIA_LIKE,
}
"""Columns of `dump` and `discovery --dump`, keys of the tables and of JSON. Metric numbers moved
between 1.x and 2.0, names did not."""

CORRECTED = ("cache errors correctable", "mem errors correctable")
UNCORRECTED = ("cache errors uncorrectable", "mem errors uncorrectable")
"""Counters of one chip that belong together."""


def health_of(words: Iterable[str]) -> Health | None:
    """Return the worst of some status words; `Ok` and `OK` stand in one table."""
    return worst_health(
        _STATES.get(word.strip().lower(), Health.UNKNOWN) for word in words if word.strip()
    )


def state_word(text: str) -> str:
    """Return a device's state as a status word: `normal` is ok, every other one critical.

    Level Zero knows two others: wedged (`ZES_RESET_REASON_FLAG_WEDGED`) and waiting for a repair.
    """
    bare = text.strip().lower()
    if bare == "normal":
        return "ok"
    return "unknown" if is_placeholder(bare) else "critical"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


_OF_TILES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "temperature_celsius": max,
    "memory_temperature_celsius": max,
    "power_watts": sum,
    "utilization_ratio": _mean,
    "memory_used_bytes": sum,
    "memory_used_ratio": _mean,
    "ecc_corrected_total": sum,
    "ecc_uncorrected_total": sum,
}


def combine_tiles(chip: ChipReport, tiles: Sequence[ChipReport]) -> None:
    """Fill in what only the tiles of a chip state: sums, means, and the hottest."""
    for attribute, combine in _OF_TILES.items():
        values = [value for tile in tiles if (value := getattr(tile, attribute)) is not None]
        if values and getattr(chip, attribute) is None:
            setattr(chip, attribute, combine(values))


def fill_or_combine(chip: ChipReport, field: Field, texts: Sequence[str], unit: str) -> None:
    """Set one field from the texts of a chip's tiles; from one text, that."""
    tiles = [ChipReport() for _ in texts]
    for tile, text in zip(tiles, texts, strict=True):
        setattr(tile, field.attribute, field.read(text, unit))
    if len(tiles) == 1:
        setattr(chip, field.attribute, getattr(tiles[0], field.attribute))
    else:
        combine_tiles(chip, tiles)


def drop_redundant_ratio(chip: ChipReport) -> None:
    """A share of memory is for tools that print nothing else."""
    if chip.memory_used_bytes is not None:
        chip.memory_used_ratio = None
