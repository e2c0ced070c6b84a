"""The JSON of `xpu-smi`: discovery, health, stats, processes, and errors.

Source: cli/src/comlet_*.cpp of xpumanager 1.2 and 1.3. Numbers come as numbers or as text; a
question about one device answers with its object, about all with a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chipmedic.tool_report import ChipReport, ProblemKind, ProcessReport, ToolReport
from chipmedic_collectors.intel import facts, json_2
from chipmedic_collectors.reading import fields
from chipmedic_collectors.reading.cells import counter
from chipmedic_collectors.reading.command_line import CommandLine
from chipmedic_collectors.reading.json_text import first_document, has_json
from chipmedic_collectors.reading.samples import Samples
from chipmedic_collectors.values import identity, integer, memory_bytes, process_id

_STATS = {
    "XPUM_STATS_GPU_UTILIZATION": (fields.UTILIZATION, "%"),
    "XPUM_STATS_POWER": (fields.POWER, "W"),
    "XPUM_STATS_GPU_CORE_TEMPERATURE": (fields.TEMPERATURE, "C"),
    "XPUM_STATS_MEMORY_TEMPERATURE": (fields.MEMORY_TEMPERATURE, "C"),
    "XPUM_STATS_MEMORY_USED": (fields.MEMORY_USED, "MiB"),
    "XPUM_STATS_MEMORY_UTILIZATION": (fields.MEMORY_USED_RATIO, "%"),
}
_ECC = "XPUM_STATS_RAS_ERROR_CAT_"
_KINDS_OF_ERRORS = ("CACHE_ERRORS", "NON_COMPUTE_ERRORS")
"""The tables call the second `Mem Errors`."""
_ERRORS = (
    ("no device", ProblemKind.NO_DEVICES),
    ("not found", ProblemKind.CHIP_LOST),
    ("device_lost", ProblemKind.CHIP_LOST),
    ("initialization", ProblemKind.DRIVER_DOWN),
    ("permission", ProblemKind.PERMISSION),
    ("privilege", ProblemKind.PERMISSION),
    ("not support", ProblemKind.UNSUPPORTED),
    ("unsupport", ProblemKind.UNSUPPORTED),
    ("invalid", ProblemKind.UNSUPPORTED),
)
_EMPTY = {
    "device_list": ProblemKind.NO_DEVICES,
    "device_util_by_proc_list": ProblemKind.PARTIAL,
}
"""What it means that a list is empty; without a process no device is named."""
_ERRNO = {
    2: ProblemKind.UNSUPPORTED,
    4: ProblemKind.CHIP_LOST,
    32: ProblemKind.UNSUPPORTED,
    39: ProblemKind.DRIVER_DOWN,
}
"""As the exit statuses of 1.x."""


def is_json(text: str, command: CommandLine) -> bool:
    """Say whether this is JSON or its beginning."""
    return has_json(text)


def read_json(text: str, command: CommandLine, report: ToolReport) -> None:
    """Read an answer; one that is no whole JSON was cut."""
    try:
        answer = first_document(text)
    except ValueError as e:
        report.add_problem(ProblemKind.TRUNCATED, f"the JSON is not whole: {e}")
        return
    samples = Samples(report)
    is_known = False
    for entry in _entries(answer):
        if "error" in entry:
            _note_error(entry, report)
            is_known = True
        if "process_id" in entry:
            _add_process(entry, samples)
            is_known = True
        elif (index := _index(entry)) is not None:
            samples.add(index, _device(index, entry, report))
            is_known = True
    if not is_known:
        keys = answer.keys() if isinstance(answer, dict) else ()
        kind = next((_EMPTY[key] for key in keys if key in _EMPTY), ProblemKind.MALFORMED)
        report.add_problem(kind, "the JSON names no device")


def _entries(answer: Any) -> Iterator[dict[str, Any]]:
    """Yield the objects of an answer: of a list, of a list inside an object, or the object."""
    if isinstance(answer, dict):
        lists = [
            answer[key]
            for key in ("device_list", "device_util_by_proc_list", "datas")
            if isinstance(answer.get(key), list)
        ]
        if "error" in answer or not lists:
            yield answer
        for inner in lists:
            yield from _entries(inner)
    elif isinstance(answer, list):
        for one in answer:
            if isinstance(one, dict):
                yield one


def _index(entry: dict[str, Any]) -> int | None:
    """Return the device's number: `device_id`, in some answers of 2.x `device_index`."""
    return integer(str(entry.get("device_id", entry.get("device_index", ""))))


def _note_error(entry: dict[str, Any], report: ToolReport) -> None:
    words = str(entry["error"])
    kind = next((kind for word, kind in _ERRORS if word in words.lower()), None)
    code = integer(str(entry.get("errno", "")))
    kind = kind or _ERRNO.get(code or 0, ProblemKind.PARTIAL)
    report.add_problem(kind, words)


def _device(index: int, entry: dict[str, Any], report: ToolReport) -> ChipReport:
    chip = ChipReport(index=index)
    pairs = [(key, str(value)) for key, value in entry.items() if _is_plain(value)]
    fields.fill(chip, pairs, facts.FIELDS)
    report.driver_version = identity(str(entry.get("driver_version", ""))) or report.driver_version
    total = memory_bytes(str(entry.get("memory_physical_size_byte", "")), "b")
    free = memory_bytes(str(entry.get("memory_free_size_byte", "")), "b")
    if total:
        chip.memory_total_bytes = total
        chip.memory_used_bytes = total - free if free is not None and free <= total else None
    states = [
        str(value["status"])
        for value in entry.values()
        if isinstance(value, dict) and "status" in value
    ]
    if isinstance(state := entry.get("device_state"), str):
        states.append(facts.state_word(state))
    chip.health = facts.health_of(states)
    _fill_stats(chip, entry.get("device_level"))
    tiles: list[ChipReport] = []
    for tile in entry.get("tile_level") or []:
        if isinstance(tile, dict):
            tiles.append(ChipReport(die=len(tiles)))
            _fill_stats(tiles[-1], tile.get("data_list"))
    facts.combine_tiles(chip, tiles)
    json_2.fill(chip, entry)
    facts.drop_redundant_ratio(chip)
    return chip


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _fill_stats(chip: ChipReport, level: Any) -> None:
    if not isinstance(level, list):
        return
    values = {
        str(entry.get("metrics_type")): str(entry.get("value", ""))
        for entry in level
        if isinstance(entry, dict) and _is_plain(entry.get("value"))
    }
    for name, (field, unit) in _STATS.items():
        if name in values:
            setattr(chip, field.attribute, field.read(values[name], unit))
    chip.ecc_corrected_total = _sum(values, "CORRECTABLE")
    chip.ecc_uncorrected_total = _sum(values, "UNCORRECTABLE")


def _sum(values: dict[str, str], which: str) -> int | None:
    counts = [
        count
        for kind in _KINDS_OF_ERRORS
        if (count := counter(values.get(f"{_ECC}{kind}_{which}", ""))) is not None
    ]
    return sum(counts) if counts else None


def _add_process(entry: dict[str, Any], samples: Samples) -> None:
    index, pid = integer(str(entry.get("device_id", ""))), process_id(str(entry["process_id"]))
    if index is None or pid is None:
        return
    memory = memory_bytes(str(entry.get("mem_size", "")), "kB")
    process = ProcessReport(pid, identity(str(entry.get("process_name", ""))), memory)
    chip = samples.add(index, ChipReport(index=index))
    chip.processes = [*(chip.processes or []), process]
