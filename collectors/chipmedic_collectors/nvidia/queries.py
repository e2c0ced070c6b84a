"""What is asked of one chip, in groups by how fast it changes and what it costs; in the child.

Every group is a function from a chip to answers by name; nvml.py knows what the names mean.
Sources: nvml.h 13.3 and the field ids of nvidia-ml-py 13.615.
"""

from __future__ import annotations

from collections.abc import Callable

import pynvml

from chipmedic_collectors.nvidia.link_queries import ask_c2c, ask_link_blocks, ask_links
from chipmedic_collectors.nvidia.mig import (
    ask_processes,
    read_processes_of_slices,
    read_slices,
)
from chipmedic_collectors.nvidia.session import (
    ABSENT,
    FUNCTION_NOT_FOUND,
    SUCCESS,
    VERSION_MISMATCH,
    Answer,
    OpenChip,
)

Answers = dict[str, Answer]

OUTDATED = (FUNCTION_NOT_FOUND, VERSION_MISMATCH)
"""The driver does not know this call, or this structure of it; an older one may do."""
GPU_SENSOR = 0
CORRECTED, UNCORRECTED, AGGREGATE = 0, 1, 1

FAST_FIELDS = {82: "memory_temperature", 230: "recovery_action"}
MEDIUM_FIELDS = {5: "ecc_corrected", 6: "ecc_uncorrected", 94: "pcie_replays"}
SLOW_FIELDS = {
    29: "retired_single",
    30: "retired_double",
    31: "retired_pending",
    142: "remapped_corrected",
    143: "remapped_uncorrected",
    144: "remap_pending",
    145: "remap_failed",
    307: "bank_remap_pending",
}
REMAP_NAMES = ("remapped_corrected", "remapped_uncorrected", "remap_pending", "remap_failed")

INSTANT_POWER_FIELD = 186


def read_fast(chip: OpenChip) -> Answers:
    """Temperatures, power, use, memory, throttling and the driver's own verdict (field 230)."""
    return {
        "temperature": _temperature(chip),
        "power": _power(chip),
        "utilization": _utilization(chip),
        "memory": _memory(chip),
        "throttle": _throttle(chip),
        **_named_fields(chip, FAST_FIELDS),
    }


def read_medium(chip: OpenChip) -> Answers:
    """Error counters of memory, PCIe and NVLink, and the state of these links."""
    answers = _named_fields(chip, MEDIUM_FIELDS)
    for name, error in (("ecc_corrected", CORRECTED), ("ecc_uncorrected", UNCORRECTED)):
        if answers[name][0] in ABSENT:
            answers[name] = chip.ask("nvmlDeviceGetTotalEccErrors", error, AGGREGATE)
    answers["pcie_width"] = chip.ask("nvmlDeviceGetCurrPcieLinkWidth")
    answers["pcie_width_max"] = chip.ask("nvmlDeviceGetMaxPcieLinkWidth")
    answers["pcie_generation"] = chip.ask("nvmlDeviceGetCurrPcieLinkGeneration")
    answers["pcie_generation_max"] = chip.ask("nvmlDeviceGetMaxPcieLinkGeneration")
    answers["links"] = ask_links(chip)
    answers["link_blocks"] = ask_link_blocks(chip, answers["links"])
    answers["c2c"] = ask_c2c(chip)
    return answers


def read_slow(chip: OpenChip) -> Answers:
    """Slices, memory that wears out, the power limit, the NVSwitch fabric."""
    slices = read_slices(chip)
    answers = _named_fields(chip, SLOW_FIELDS)
    if all(answers[name][0] in ABSENT for name in REMAP_NAMES):
        code, rows = chip.ask("nvmlDeviceGetRemappedRows")
        for place, name in enumerate(REMAP_NAMES):
            answers[name] = (code, None if rows is None else rows[place])
    answers["mig"] = slices
    answers["sram_threshold"] = _sram_threshold(chip)
    answers["row_banks"] = _row_banks(chip)
    answers["repair_pending"] = _repair_pending(chip)
    answers["unrepairable_memory"] = chip.ask("nvmlDeviceGetUnrepairableMemoryFlag_v1")
    answers["power_limit"] = chip.ask("nvmlDeviceGetEnforcedPowerLimit")
    answers["fabric"] = _fabric(chip)
    return answers


def read_processes(chip: OpenChip) -> Answers:
    """The processes that compute on the chip, each with the slice that it runs in."""
    answer = ask_processes(chip)
    if answer[0] != SUCCESS and chip.slices:
        answer = read_processes_of_slices(chip)
    return {"processes": answer}


GROUPS: dict[str, Callable[[OpenChip], Answers]] = {
    "fast": read_fast,
    "medium": read_medium,
    "slow": read_slow,
    "processes": read_processes,
}


def _named_fields(chip: OpenChip, names: dict[int, str]) -> Answers:
    answers = chip.fields([(field, 0) for field in names])
    return {name: answers[field, 0] for field, name in names.items()}


def _temperature(chip: OpenChip) -> Answer:
    """Degrees of the chip; the call without a version goes with CUDA 14."""
    answer = chip.ask("nvmlDeviceGetTemperature", GPU_SENSOR)
    if answer[0] in ABSENT:
        answer = chip.ask("nvmlDeviceGetTemperatureV", GPU_SENSOR)
    return answer


def _power(chip: OpenChip) -> Answer:
    """Milliwatts: the average of a second where the chip has that, else of the moment."""
    answer = chip.ask("nvmlDeviceGetPowerUsage")
    if answer[0] in ABSENT:
        answer = chip.fields([(INSTANT_POWER_FIELD, 0)])[INSTANT_POWER_FIELD, 0]
    return answer


def _utilization(chip: OpenChip) -> Answer:
    code, rates = chip.ask("nvmlDeviceGetUtilizationRates")
    return (code, None if rates is None else rates.gpu)


def _memory(chip: OpenChip) -> Answer:
    """Used and total bytes; version 2 keeps what the driver reserves apart from what is used."""
    code, memory = chip.ask("nvmlDeviceGetMemoryInfo", pynvml.nvmlMemory_v2)
    if code in ABSENT:
        code, memory = chip.ask("nvmlDeviceGetMemoryInfo")
    return (code, None if memory is None else [memory.used, memory.total])


def _throttle(chip: OpenChip) -> Answer:
    answer = chip.ask("nvmlDeviceGetCurrentClocksEventReasons")
    if answer[0] in ABSENT:  # drivers before 535 know the older name only
        answer = chip.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    return answer


def _sram_threshold(chip: OpenChip) -> Answer:
    """Say whether the SRAM has more uncorrectable errors than the vendor accepts; root only."""
    status = pynvml.c_nvmlEccSramErrorStatus_v1_t()
    code, _ = chip.ask("nvmlDeviceGetSramEccErrorStatus", into=status)
    return (code, status.bThresholdExceeded if code == SUCCESS else None)


def _row_banks(chip: OpenChip) -> Answer:
    """Count the banks of memory by how many of their spare rows are left: all ... none."""
    code, rows = chip.ask("nvmlDeviceGetRowRemapperHistogram")
    if rows is None:
        return (code, None)
    return (code, [rows.max, rows.high, rows.partial, rows.low, rows.none])


def _repair_pending(chip: OpenChip) -> Answer:
    """Say whether the repair of a memory channel or of a processing cluster waits for a reset."""
    code, pending = chip.ask("nvmlDeviceGetRepairStatus")
    return (code, None if pending is None else int(any(pending)))


def _fabric(chip: OpenChip) -> Answer:
    """State, status, health mask and summary of the chip's place in the NVSwitch fabric.

    0: not told. The mask came with driver 550, the summary after it; before there was the state.
    """
    code = FUNCTION_NOT_FOUND
    for symbol, structure in (
        ("nvmlDeviceGetGpuFabricInfoV", "c_nvmlGpuFabricInfo_v3_t"),
        ("nvmlDeviceGetGpuFabricInfoV", "c_nvmlGpuFabricInfo_v2_t"),
        ("nvmlDeviceGetGpuFabricInfo", "c_nvmlGpuFabricInfo_t"),
    ):
        if not hasattr(pynvml, structure):  # a binding older than the structure
            continue
        code, info = chip.ask(symbol, into=getattr(pynvml, structure)())
        if code == SUCCESS:
            told = [getattr(info, name, 0) for name in ("healthMask", "healthSummary")]
            return (code, [info.state, info.status, *told])
        if code not in OUTDATED:
            break
    return (code, None)
