"""What is asked of one chip, in groups by how fast it changes and what it costs; in the child.

Every group is a function from a chip to answers by name; nvml.py knows what the names mean.
Sources: nvml.h 13.3 and the field ids of nvidia-ml-py 13.615.
"""

from __future__ import annotations

from collections.abc import Callable

import pynvml

from chipmedic_collectors.nvidia.session import (
    FUNCTION_NOT_FOUND,
    NOT_SUPPORTED,
    SUCCESS,
    VERSION_MISMATCH,
    Answer,
    OpenChip,
)

Answers = dict[str, Answer]

ABSENT = (NOT_SUPPORTED, FUNCTION_NOT_FOUND, VERSION_MISMATCH)
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
}
REMAP_NAMES = ("remapped_corrected", "remapped_uncorrected", "remap_pending", "remap_failed")

LINK_COUNT_FIELD, LINK_STATE_FIELD = 91, 165
LINK_ERROR_FIELDS = ((161, 162), (208, 215))
"""Errors that cost a retry or a recovery. Hopper: replays, recoveries (a CRC error causes a
replay, so 163 would count it twice). Blackwell, which lacks those: receive errors, recovery
events."""
LINK_ERROR_COUNTERS = (0, 1)
"""The same before Hopper, for nvmlDeviceGetNvLinkErrorCounter: replays, recoveries."""


def read_fast(chip: OpenChip) -> Answers:
    """Temperatures, power, use, memory, throttling and the driver's own verdict (field 230)."""
    return {
        "temperature": chip.ask("nvmlDeviceGetTemperature", GPU_SENSOR),
        "power": chip.ask("nvmlDeviceGetPowerUsage"),
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
    return answers


def read_slow(chip: OpenChip) -> Answers:
    """Rows and pages out of use, the power limit, the NVSwitch fabric."""
    answers = _named_fields(chip, SLOW_FIELDS)
    if all(answers[name][0] in ABSENT for name in REMAP_NAMES):
        code, rows = chip.ask("nvmlDeviceGetRemappedRows")
        for place, name in enumerate(REMAP_NAMES):
            answers[name] = (code, None if rows is None else rows[place])
    answers["power_limit"] = chip.ask("nvmlDeviceGetEnforcedPowerLimit")
    answers["fabric"] = _fabric(chip)
    return answers


def read_processes(chip: OpenChip) -> Answers:
    """The processes that compute on the chip."""
    code, processes = chip.ask("nvmlDeviceGetComputeRunningProcesses")
    if code != SUCCESS:
        return {"processes": (code, None)}
    return {"processes": (code, [[process.pid, process.usedGpuMemory] for process in processes])}


GROUPS: dict[str, Callable[[OpenChip], Answers]] = {
    "fast": read_fast,
    "medium": read_medium,
    "slow": read_slow,
    "processes": read_processes,
}


def _named_fields(chip: OpenChip, names: dict[int, str]) -> Answers:
    answers = chip.fields([(field, 0) for field in names])
    return {name: answers[field, 0] for field, name in names.items()}


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


def _fabric(chip: OpenChip) -> Answer:
    """State, status and health mask of the chip's place in the NVSwitch fabric."""
    code, info = chip.ask("nvmlDeviceGetGpuFabricInfoV", into=pynvml.c_nvmlGpuFabricInfo_v2_t())
    return (code, None if info is None else [info.state, info.status, info.healthMask])


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
