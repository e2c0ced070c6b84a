"""The names that rocm-smi and its forks give to a card's values, and what each means.

AMD renamed keys in 6.1 (`Card series` became `Card Series`), Hygon says DCU or HCU where AMD says
GPU and prints MiB where AMD prints bytes; the units stand in the names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from chipmedic.tool_report import ChipReport, Health, ProblemKind, ToolReport
from chipmedic_collectors.reading.fields import (
    MEMORY_TOTAL,
    MEMORY_USED,
    PCI,
    SERIAL,
    UUID,
    Field,
    FieldMap,
    fill,
    split_unit,
)
from chipmedic_collectors.values import identity, number

WORDS = "GPU|DCU|HCU"
"""How the tools call a card."""
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_NODE_SERIAL = re.compile(r"\bSN:\s*(\S+)")
_HBM = re.compile(r"temperature \(sensor hbm \d+\)")


def positive(text: str) -> float | None:
    """Return a measured quantity; 0 W and 0 degrees are sensors that are not populated."""
    value = number(text)
    return value if value is not None and value > 0 else None


def share(text: str) -> float | None:
    """Return a percentage as 0..1; an accumulating counter is none."""
    value = number(text)
    return value / 100 if value is not None and 0 <= value <= 100 else None


def model(text: str) -> str | None:
    """Return a card's name; old versions print a PCI id where they know none."""
    name = identity(text)
    return None if name is None or _HEXADECIMAL.fullmatch(name) else name


_NAME = Field("name", lambda text, unit: model(text))
_TEMPERATURE = Field("temperature_celsius", lambda text, unit: positive(text))
_MEMORY_TEMPERATURE = Field("memory_temperature_celsius", lambda text, unit: positive(text))
_POWER = Field("power_watts", lambda text, unit: positive(text))
_POWER_LIMIT = Field("power_limit_watts", lambda text, unit: positive(text))
_UTILIZATION = Field("utilization_ratio", lambda text, unit: share(text))
_MEMORY_SHARE = Field("memory_used_ratio", lambda text, unit: share(text))
_POWERS = ("average graphics package power", "current socket graphics package power")
_TEMPERATURES = tuple(f"temperature (sensor {name})" for name in ("junction", "edge", "core"))

KNOWN: FieldMap = {
    "card series": _NAME,
    "device name": _NAME,
    "card model": _NAME,
    "unique id": UUID,
    "serial number": SERIAL,
    "pci bus": PCI,
    **dict.fromkeys((*_TEMPERATURES, "temperature"), _TEMPERATURE),
    "temperature (sensor memory)": _MEMORY_TEMPERATURE,
    "temperature (sensor mem)": _MEMORY_TEMPERATURE,
    **dict.fromkeys((*_POWERS, "average gpu power"), _POWER),
    "max graphics package power": _POWER_LIMIT,
    **{f"{word} use": _UTILIZATION for word in ("gpu", "dcu", "hcu")},
    "vram total memory": MEMORY_TOTAL,
    "vram total used memory": MEMORY_USED,
}
"""`GFX Activity` and `Memory Activity` are accumulators, `GPU memory use` is the activity of the
memory bus; none of them is here."""
_SHARES: FieldMap = {
    "gpu memory allocated": _MEMORY_SHARE,
    "dcu memory use": _MEMORY_SHARE,
    "hcu memory use": _MEMORY_SHARE,
}


def fill_card(chip: ChipReport, pairs: Iterable[tuple[str, str]]) -> None:
    """Fill a chip from the (key, text) pairs that were printed of it."""
    pairs = list(_unpacked(pairs))
    fill(chip, pairs, KNOWN)
    if chip.memory_used_bytes is None:
        fill(chip, pairs, _SHARES)
    if chip.memory_temperature_celsius is None:
        texts = (text for key, text in pairs if _HBM.fullmatch(split_unit(key)[0]))
        hot = [value for value in map(positive, texts) if value is not None]
        chip.memory_temperature_celsius = max(hot, default=None)


def judge_card(chip: ChipReport, pairs: Iterable[tuple[str, str]], report: ToolReport) -> None:
    """Note a card that answers nothing: sensors and power were asked and none has a value.

    The tool prints 0 % of use and 0 bytes of memory for it all the same, which are no readings.
    """
    names = {split_unit(key)[0] for key, _ in pairs}
    asked = names.intersection(_TEMPERATURES) and names.intersection(_POWERS)
    if asked and chip.temperature_celsius is None and chip.power_watts is None:
        mark_silent(chip, report)


def mark_silent(chip: ChipReport, report: ToolReport) -> None:
    """Note that a row is no answer: what it prints beside its placeholders says nothing."""
    chip.utilization_ratio = chip.memory_used_bytes = chip.memory_used_ratio = None
    chip.health = Health.UNKNOWN
    report.add_problem(ProblemKind.PARTIAL, f"chip {chip.index} does not answer: no sensor value")


def _unpacked(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Take apart `PCI Bus: 0000:09:00.0 --> SN: ... --> OAM ID: 1`."""
    for key, text in pairs:
        place, *more = text.split("-->")
        yield key, place if more else text
        if more and (serial := _NODE_SERIAL.search(text)):
            yield "Serial Number", serial[1]
