"""What each `key : value` of `npu-smi info -t ...` says of a chip."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from chipmedic.tool_report import ChipReport, Health, LinkReport, ProblemKind, ToolReport
from chipmedic_collectors.ascend import cells, hccs
from chipmedic_collectors.values import identity, integer, memory_bytes, normalise_pci

Fields = Mapping[str, str]

_EVENT = re.compile(
    r"event[ _]id\s*[=:]\s*(?:0x)?(?P<code>[0-9a-f]{2,9})"
    r"(?:\s*,\s*severity\s*[=:]\s*(?P<severity>\d))?",
    re.IGNORECASE,
)
_EVENT_HEALTH = (Health.OK, Health.WARNING, Health.CRITICAL, Health.CRITICAL)
"""By severity: warning, minor, major, critical (the driver counts a warning as healthy)."""
_WORSE = (Health.OK, Health.WARNING, Health.CRITICAL)
_ECC = re.compile(
    r"(?:(?P<memory>ddr|hbm) )?(?P<bits>single|double)[ -]bit (?P<what>error count"
    r"|aggregate total err cnt|isolated pages count|next[- ]isolated pages count)"
)
_DIE_PARTS = 5


def normal_key(key: str) -> str:
    """Return a key as this module names it: lower case, single blanks, none before a bracket."""
    return " ".join(key.lower().split()).replace(" (", "(")


def fill(chip: ChipReport, fields: Fields, topic: str | None) -> None:
    """Set on `chip` what `fields` (by `normal_key`) state."""
    _fill_identity(chip, fields)
    _fill_readings(chip, fields)
    _fill_memory(chip, fields, is_memory_topic=topic == "memory")
    _fill_ecc(chip, fields)
    _fill_health(chip, fields)
    _fill_hccs(chip, fields)


def fill_report(report: ToolReport, fields: Fields) -> None:
    """Set on `report` what `fields` say of the driver."""
    if version := cells.name(fields.get("software version", "")):
        report.driver_version = version
    if fields.get("compatibility", "").strip().upper() == "NOK":
        report.add_problem(ProblemKind.DRIVER_DOWN, "Compatibility : NOK (driver and firmware)")


def _first(fields: Fields, keys: Sequence[str]) -> str:
    return next((fields[key] for key in keys if key in fields), "")


def _fill_identity(chip: ChipReport, fields: Fields) -> None:
    names = (cells.name(fields.get(key, "")) for key in ("chip name", "npu name", "product name"))
    chip.name = next((name for name in names if name), None)
    chip.serial = cells.name(fields.get("serial number", ""))
    chip.pci = normalise_pci(fields.get("pcie bus info", ""))
    die = _first(fields, ("vdie id", "ddie id", "die id")).rpartition(",")[2]
    if len(die.split()) == _DIE_PARTS:
        chip.uuid = identity(die)


def _fill_readings(chip: ChipReport, fields: Fields) -> None:
    chip.temperature_celsius = cells.measured(
        _first(
            fields,
            (
                "npu temperature(c)",
                "temperature(c)",
                "chip temperature(c)",
                "soc max temperature(c)",
            ),
        )
    )
    chip.memory_temperature_celsius = cells.measured(fields.get("hbm temperature(c)", ""))
    # "Rated Power Dissipation" of the 310 is a limit of the design, not a reading.
    chip.power_watts = cells.measured(
        _first(fields, ("npu real-time power(w)", "power dissipation(w)"))
    )
    chip.utilization_ratio = cells.ratio(
        _first(fields, ("aicore usage rate(%)", "npu utilization(%)"))
    )


def _fill_memory(chip: ChipReport, fields: Fields, *, is_memory_topic: bool) -> None:
    hbm_total = memory_bytes(fields.get("hbm capacity(mb)", ""))
    ddr_keys = ["ddr capacity(mb)", "memory capacity(mb)"]
    if is_memory_topic:
        ddr_keys.append("capacity(mb)")  # elsewhere this is the flash
    has_hbm = bool(hbm_total) or (hbm_total is None and "hbm usage rate(%)" in fields)
    chip.memory_total_bytes = hbm_total or memory_bytes(_first(fields, ddr_keys)) or None
    rate = "hbm usage rate(%)" if has_hbm else ""
    chip.memory_used_ratio = cells.ratio(
        fields.get(rate) or _first(fields, ("ddr usage rate(%)", "memory usage rate(%)"))
    )
    if has_hbm and rate not in fields:
        chip.memory_used_ratio = None  # what is left is the rate of the DDR


def _fill_ecc(chip: ChipReport, fields: Fields) -> None:
    sums: dict[tuple[str, str], int] = {}
    for key, text in fields.items():
        match, value = _ECC.fullmatch(key), cells.count(text)
        if match is not None and value is not None:
            place = (match["bits"], match["what"])
            sums[place] = sums.get(place, 0) + value
    lifetime, volatile = "aggregate total err cnt", "error count"
    chip.ecc_corrected_total = sums.get(("single", lifetime), sums.get(("single", volatile)))
    chip.ecc_uncorrected_total = sums.get(("double", lifetime), sums.get(("double", volatile)))
    isolated = [n for (_, what), n in sums.items() if what == "isolated pages count"]
    isolated += _counts(fields, "hbm isolated page count")
    chip.retired_pages = sum(isolated) if isolated else None
    pending = [n for (_, what), n in sums.items() if what.startswith("next")]
    pending += _counts(fields, "hbm pending retire page count")
    chip.remap_pending = any(pending) if pending else None


def _counts(fields: Fields, key: str) -> list[int]:
    """Return the counter of one key, the 950's word for a sum of both kinds; nothing without it."""
    value = cells.count(fields.get(key, ""))
    return [] if value is None else [value]


def _fill_health(chip: ChipReport, fields: Fields) -> None:
    stated = _first(fields, ("health status", "health"))
    if stated:
        chip.health = cells.health(stated)
    if "error code" in fields:
        chip.error_codes = cells.error_codes(fields["error code"])
    events = [match for text in fields.values() for match in _EVENT.finditer(text)]
    if events:
        codes = [event["code"].upper() for event in events]
        chip.error_codes = list(dict.fromkeys([*(chip.error_codes or []), *codes]))
        severities = [int(event["severity"]) for event in events if event["severity"]]
        states = [_EVENT_HEALTH[min(severity, 3)] for severity in severities]
        if states and not stated:
            chip.health = max(states, key=_WORSE.index)
    elif integer(fields.get("fault event count", "")) == 0:
        chip.error_codes = chip.error_codes or []


def _fill_hccs(chip: ChipReport, fields: Fields) -> None:
    """Chip-to-chip links."""
    text = "\n".join(f"{key} : {value}" for key, value in fields.items())
    links = hccs.read(text)
    if links.is_ok is False:
        chip.health = Health.CRITICAL
    chip.links = [LinkReport(index, link.is_up) for index, link in links.lanes.items()] or None
