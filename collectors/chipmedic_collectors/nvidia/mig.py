"""What is asked of a chip that MIG has cut into slices; in the child.

A slice has a handle of its own, valid until somebody destroys it, so the list is made anew each
time. Source: nvml.h 13.3, "Multi Instance GPU Management".
"""

from __future__ import annotations

from chipmedic_collectors.nvidia.session import ABSENT, SUCCESS, Answer, OpenChip

NOT_FOUND, INVALID_ARGUMENT = 6, 2
SLICES_MAX = 16


def read_slices(chip: OpenChip) -> Answer:
    """Return rows of: GPU instance, compute instance, UUID, code and value of its memory.

    No rows: MIG is off, or on and nothing is cut yet. When the mode has changed, what the chip did
    not support before is asked anew.
    """
    code, modes = chip.ask("nvmlDeviceGetMigMode")
    is_on = code == SUCCESS and bool(modes[0])
    if is_on is not chip.is_cut:
        chip.forget_unsupported()
        chip.is_cut, chip.slices = is_on, {}
    if not is_on:
        return (code, None if code != SUCCESS else [])
    code, count = chip.ask("nvmlDeviceGetMaxMigDeviceCount")
    if code != SUCCESS:
        return (code, None)
    slices: dict[tuple[int, int], OpenChip] = {}
    rows = []
    for number in range(min(count, SLICES_MAX)):
        code, handle = chip.call("nvmlDeviceGetMigDeviceHandleByIndex", number)
        if code in (NOT_FOUND, INVALID_ARGUMENT):
            continue  # a place that is not in use
        if code != SUCCESS:
            return (code, None)
        one = chip.slice(handle)
        place = (one.ask("nvmlDeviceGetGpuInstanceId"), one.ask("nvmlDeviceGetComputeInstanceId"))
        failed = next((code for code, _ in place if code != SUCCESS), None)
        if failed is not None:
            return (failed, None)
        slices[place[0][1], place[1][1]] = one
        _, uuid = one.ask("nvmlDeviceGetUUID")
        rows.append([place[0][1], place[1][1], uuid, *_memory(one)])
    chip.slices = slices
    return (SUCCESS, rows)


def _memory(one: OpenChip) -> Answer:
    code, memory = one.ask("nvmlDeviceGetMemoryInfo")
    return (code, None if memory is None else [memory.used, memory.total])


def read_processes_of_slices(chip: OpenChip) -> Answer:
    """Return the processes of all slices; the call over the whole chip takes more rights."""
    rows: list[list[int | None]] = []
    for place, one in chip.slices.items():
        code, found = ask_processes(one)
        if code != SUCCESS:
            return (code, None)
        rows += [[*row[:2], *place] for row in found]
    return (SUCCESS, rows)


def ask_processes(chip: OpenChip) -> Answer:
    """Return rows of: pid, bytes or None, GPU instance, compute instance.

    Drivers before 510 know the older name only.
    """
    code, processes = chip.ask("nvmlDeviceGetComputeRunningProcesses_v3")
    if code in ABSENT:
        code, processes = chip.ask("nvmlDeviceGetComputeRunningProcesses_v2")
    if code != SUCCESS:
        return (code, None)
    return (
        code,
        [[p.pid, p.usedGpuMemory, p.gpuInstanceId, p.computeInstanceId] for p in processes],
    )
