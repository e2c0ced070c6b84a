"""What is asked of one chip, in groups by how fast it changes and what it costs; in the child.

Every group is a function from a chip to answers by name; nvml.py knows what the names mean.
Sources: nvml.h 13.3 and the field ids of nvidia-ml-py 13.615.
"""

from __future__ import annotations

from collections.abc import Callable

import pynvml

from chipmedic_collectors.nvidia.mig import (
    ask_processes,
    read_processes_of_slices,
    read_slices,
)
from chipmedic_collectors.nvidia.session import (
    ABSENT,
    FUNCTION_NOT_FOUND,
    INVALID_ARGUMENT,
    NOT_SUPPORTED,
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

LINK_COUNT_FIELD, LINK_STATE_FIELD = 91, 165
C2C_COUNT_FIELD, C2C_STATE_FIELD, C2C_REPLAYS_FIELD = 170, 171, 232
"""Of 231 to 233: a CRC error (231) causes a replay, one after the other (233) are replays too."""
C2C_LINKS_MAX = 64
INSTANT_POWER_FIELD = 186
LINK_ERROR_FIELDS = ((161, 162), (208, 215))
"""Errors that cost a retry or a recovery. Hopper: replays, recoveries (a CRC error causes a
replay, so 163 would count it twice). Blackwell, which lacks those: receive errors, recovery
events."""
LINK_ERROR_COUNTERS = (0, 1)
"""The same before Hopper, for nvmlDeviceGetNvLinkErrorCounter: replays, recoveries."""


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
    answers["links"] = _links(chip)
    answers["c2c"] = _c2c(chip)
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


def _c2c(chip: OpenChip) -> Answer:
    """Return the links between the chip and its CPU in rows like those of `_links`."""
    code, count = chip.fields([(C2C_COUNT_FIELD, 0)])[C2C_COUNT_FIELD, 0]
    if code != SUCCESS:
        return (code, None)
    links = range(min(count, C2C_LINKS_MAX))
    wanted = [(field, link) for link in links for field in (C2C_STATE_FIELD, C2C_REPLAYS_FIELD)]
    answers = chip.fields(wanted)
    rows = []
    for link in links:
        code, replays = answers[C2C_REPLAYS_FIELD, link]
        if code == INVALID_ARGUMENT:  # what drivers answer that count none
            code = NOT_SUPPORTED
        rows.append([link, *answers[C2C_STATE_FIELD, link], code, replays])
    return (SUCCESS, rows)


def _links(chip: OpenChip) -> Answer:
    """Rows of: link, code and value of its state, code and value of its errors."""
    code, count = chip.fields([(LINK_COUNT_FIELD, 0)])[LINK_COUNT_FIELD, 0]
    if code in ABSENT:
        count = pynvml.NVML_NVLINK_MAX_LINKS
    elif code != SUCCESS:
        return (code, None)
    states = _link_states(chip, count)
    if not states:
        return (NOT_SUPPORTED, None)
    errors = _link_errors(chip, [link for link, (_, is_up) in states.items() if is_up])
    nothing = (NOT_SUPPORTED, None)
    return (SUCCESS, [[link, *states[link], *errors.get(link, nothing)] for link in states])


def _link_states(chip: OpenChip, count: int) -> dict[int, Answer]:
    """Return the state of each link up to the first that is not supported: there the list ends."""
    fields = chip.fields([(LINK_STATE_FIELD, link) for link in range(count)])
    states: dict[int, Answer] = {}
    for link in range(count):
        answer = fields[LINK_STATE_FIELD, link]
        if answer[0] in ABSENT:
            answer = chip.ask("nvmlDeviceGetNvLinkState", link)
        if answer[0] in ABSENT:
            break
        states[link] = answer
    return states


def _link_errors(chip: OpenChip, links: list[int]) -> dict[int, Answer]:
    """Return the errors of the links that are up, by the counters of the chip's generation."""
    if not links:
        return {}
    if chip.link_errors is None:
        chip.link_errors = _link_error_fields(chip, links[0])
    if chip.link_errors:
        ids = chip.link_errors
        fields = chip.fields([(field, link) for link in links for field in ids])
        return {link: _sum([fields[field, link] for field in ids]) for link in links}
    return {
        link: _sum(
            [
                chip.ask("nvmlDeviceGetNvLinkErrorCounter", link, counter)
                for counter in LINK_ERROR_COUNTERS
            ]
        )
        for link in links
    }


def _link_error_fields(chip: OpenChip, link: int) -> tuple[int, ...] | None:
    """Find out which counters this chip has, on a link that is up."""
    for ids in LINK_ERROR_FIELDS:
        codes = [code for code, _ in chip.fields([(field, link) for field in ids]).values()]
        if all(code == SUCCESS for code in codes):
            return ids
        if any(code not in ABSENT for code in codes):
            return None
    return ()


def _sum(answers: list[Answer]) -> Answer:
    trouble = next((code for code, _ in answers if code != SUCCESS), None)
    return (SUCCESS, sum(value for _, value in answers)) if trouble is None else (trouble, None)
