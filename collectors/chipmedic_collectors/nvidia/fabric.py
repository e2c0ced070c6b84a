"""A chip's place in the NVSwitch fabric: what its state, status and health mask say. Pure.

Source: nvmlGpuFabricInfo_v3_t in nvml.h. Without a registration that completed well, no job of
more than one chip starts (CUDA answers 802, system not yet initialised).
"""

from __future__ import annotations

from collections.abc import Iterator

from chipmedic_collectors.nvidia.chip_readings import is_whole
from chipmedic_collectors.nvidia.codes import words
from chipmedic_collectors.nvidia.reply import SUCCESS, Answer

NOT_STARTED, IN_PROGRESS, COMPLETED = 1, 2, 3
TRUE = 1
HEALTH_FLAGS = {
    0: "degraded bandwidth",
    2: "route recovery in progress",
    4: "route unhealthy",
    6: "access timeout recovery",
}
"""Name of each two-bit flag by its place in the mask; 1 means true, 0 and 2 do not."""
SUMMARIES = {2: "unhealthy", 3: "limited capacity"}
"""What the fabric says of the chip in one word, where that is no good one."""
CONFIGURATION_SHIFT, CONFIGURATION_MASK, CONFIGURATION_GOOD = 8, 0xF, (0, 1)
CONFIGURATIONS = {
    2: "incorrect system GUID",
    3: "incorrect chassis serial number",
    4: "no partition",
    5: "insufficient NVLinks",
    6: "incompatible GPU firmware",
    7: "invalid location",
    8: "invalid state of the GPU",
}
"""What is wrong with the configuration, as `nvidia-smi -q` names it."""


def fabric_trouble(answer: Answer) -> str | None:
    """Return what is wrong with a fabric whose registration has completed, or None."""
    code, row = answer
    if code != SUCCESS or not _is_row(row) or row[0] != COMPLETED:
        return None
    _, status, mask, summary = row
    if status != SUCCESS:
        return f"NVSwitch fabric: registration failed with {words(status)}"
    flags = [*_flags(mask), *_summaries(summary)]
    return f"NVSwitch fabric: {', '.join(flags)} (mask {mask:#x})" if flags else None


def is_waiting(answer: Answer) -> bool:
    """Say whether the chip still waits for the fabric manager; normal while the host starts."""
    code, row = answer
    return code == SUCCESS and _is_row(row) and row[0] in (NOT_STARTED, IN_PROGRESS)


def _flags(mask: int) -> Iterator[str]:
    for shift, name in HEALTH_FLAGS.items():
        if mask >> shift & 0b11 == TRUE:
            yield name
    configuration = mask >> CONFIGURATION_SHIFT & CONFIGURATION_MASK
    if configuration not in CONFIGURATION_GOOD:
        yield f"incorrect configuration: {CONFIGURATIONS.get(configuration, configuration)}"


def _summaries(summary: int) -> Iterator[str]:
    if summary in SUMMARIES:
        yield SUMMARIES[summary]


def _is_row(row: object) -> bool:
    return isinstance(row, list) and len(row) == 4 and all(is_whole(value) for value in row)
