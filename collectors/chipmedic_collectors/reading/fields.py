"""Named values of a chip: which name of a tool means which field of the report.

Columns of a query, keys of a block and keys of JSON are the same thing: a name, a text, perhaps a
unit. A vendor says once which names it uses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chipmedic.tool_report import ChipReport, ToolReport
from chipmedic_collectors.reading import cells
from chipmedic_collectors.values import identity, integer, memory_bytes, normalise_pci

_UNIT = re.compile(r"\s*[\[(]([^\])]*)[\])]\s*$")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a `ChipReport` and how its text is read; the second argument is the unit."""

    attribute: str
    read: Callable[[str, str], Any]


def _bytes(text: str, unit: str) -> int | None:
    return memory_bytes(text, unit or "MiB")


def _unitless(read: Callable[[str], Any]) -> Callable[[str, str], Any]:
    return lambda text, unit: read(text)


def _watts(text: str, unit: str) -> float | None:
    value = cells.measured(text)
    return value / 1000 if value is not None and unit.lower() == "mw" else value


INDEX = Field("index", _unitless(integer))
NAME = Field("name", _unitless(identity))
UUID = Field("uuid", _unitless(identity))
SERIAL = Field("serial", _unitless(identity))
PCI = Field("pci", _unitless(normalise_pci))
TEMPERATURE = Field("temperature_celsius", _unitless(cells.measured))
MEMORY_TEMPERATURE = Field("memory_temperature_celsius", _unitless(cells.measured))
POWER = Field("power_watts", _watts)
POWER_LIMIT = Field("power_limit_watts", _watts)
UTILIZATION = Field("utilization_ratio", _unitless(cells.ratio))
MEMORY_USED = Field("memory_used_bytes", _bytes)
MEMORY_TOTAL = Field("memory_total_bytes", _bytes)
MEMORY_USED_RATIO = Field("memory_used_ratio", _unitless(cells.ratio))
ECC_CORRECTED = Field("ecc_corrected_total", _unitless(cells.counter))
ECC_UNCORRECTED = Field("ecc_uncorrected_total", _unitless(cells.counter))
RETIRED_PAGES = Field("retired_pages", _unitless(cells.counter))

FieldMap = Mapping[str, Field]
"""Field by name, lower case, without unit. Of two names of one field the first that was read
counts: list the better one first."""

NVIDIA_LIKE: FieldMap = {
    "index": INDEX,
    "name": NAME,
    "gpu_name": NAME,
    "uuid": UUID,
    "gpu_uuid": UUID,
    "serial": SERIAL,
    "gpu_serial": SERIAL,
    "pci.bus_id": PCI,
    "gpu_bus_id": PCI,
    "bus_id": PCI,
    "temperature.gpu": TEMPERATURE,
    "temperature.memory": MEMORY_TEMPERATURE,
    "gpu.power.draw": POWER,
    "power.draw": POWER,
    "gpu.power.limit": POWER_LIMIT,
    "power.limit": POWER_LIMIT,
    "utilization.gpu": UTILIZATION,
    "memory.used": MEMORY_USED,
    "memory.total": MEMORY_TOTAL,
    "ecc.errors.corrected.aggregate.total": ECC_CORRECTED,
    "ecc.errors.corrected.volatile.total": ECC_CORRECTED,
    "ecc.errors.uncorrected.aggregate.total": ECC_UNCORRECTED,
    "ecc.errors.uncorrected.volatile.total": ECC_UNCORRECTED,
}
"""Columns of `--query-gpu`, which several vendors copied."""


def split_unit(name: str) -> tuple[str, str]:
    """Return a column's name in lower case and its unit: `memory.used [MiB]`, `Power (W)`."""
    match = _UNIT.search(name)
    unit = match[1].strip() if match else ""
    return " ".join(_UNIT.sub("", name).lower().split()), unit


def fill(chip: ChipReport, values: Iterable[tuple[str, str]], known: FieldMap) -> None:
    """Fill a chip from (name with unit, text) pairs; names that are not known mean nothing here."""
    texts: dict[str, tuple[str, str]] = {}
    for name, text in values:
        bare, unit = split_unit(name)
        texts.setdefault(bare, (text, unit))
    for name, field in known.items():
        if name in texts and getattr(chip, field.attribute) is None:
            text, unit = texts[name]
            setattr(chip, field.attribute, field.read(text, unit))


def note_driver(report: ToolReport, values: Iterable[tuple[str, str]]) -> None:
    """Take the driver's version from a column or key of that name."""
    for name, text in values:
        if split_unit(name)[0].replace(" ", "_") == "driver_version":
            report.driver_version = identity(text) or report.driver_version
