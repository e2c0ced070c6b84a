"""The slices that MIG cuts a chip into: their memory, and which process runs in which. Pure.

The parent stays the chip: faults, inventory and recovery are about it. A slice is a part of it,
named `<chip uid>/<GPU instance>/<compute instance>`, as the kernel log's `GPU-I` and `GPU-CI` are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chipmedic.metric import Metric
from chipmedic.model import ChipProcess, Component, ComponentKind
from chipmedic_collectors.nvidia.chip_readings import ChipReadings, is_row, is_whole
from chipmedic_collectors.nvidia.reply import SUCCESS, Answer

NO_INSTANCE = 0xFFFFFFFF
"""What NVML writes for the instance of a process that runs in none."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One slice of a chip."""

    gpu_instance: int
    compute_instance: int
    uuid: str | None
    memory: Answer
    """Bytes used and in all."""

    @property
    def words(self) -> str:
        """The slice as a person asks for it: by its UUID, and by its instances."""
        place = f"GPU instance {self.gpu_instance}, compute instance {self.compute_instance}"
        return f"{self.uuid} ({place})" if self.uuid else place


def read_partitions(chip: ChipReadings) -> None:
    """Read how many slices there are, and the memory of each; 0: MIG is off, or nothing is cut."""
    code, raw = chip.answers["mig"]
    if code != SUCCESS:
        chip.miss(Metric.PARTITIONS, code)
        return
    if not isinstance(raw, list):
        chip.doubt(Metric.PARTITIONS, raw)
        return
    found = partitions(chip.answers["mig"])
    if len(found) < len(raw):
        chip.doubt(Metric.PARTITIONS, raw)
    else:
        chip.read(Metric.PARTITIONS, len(found))
    for one in found:
        name = f"{chip.uid}/{one.gpu_instance}/{one.compute_instance}"
        _read_memory(chip, Component(ComponentKind.PARTITION, name), one.memory)


def _read_memory(chip: ChipReadings, partition: Component, answer: Answer) -> None:
    code, sizes = answer
    for place, metric in enumerate((Metric.MEMORY_USED, Metric.MEMORY_TOTAL)):
        if code != SUCCESS:
            chip.miss(metric, code, partition)
        elif is_row(sizes, 2) and 0 < sizes[1] >= sizes[0]:
            chip.read(metric, sizes[place], partition)
        else:
            chip.doubt(metric, sizes, partition)


def partitions(answer: Answer) -> list[Partition]:
    """Return the slices that an answer names; what is no slice is left out."""
    code, raw = answer
    if code != SUCCESS or not isinstance(raw, list):
        return []
    return [found for row in raw if (found := _partition(row)) is not None]


def _partition(row: Any) -> Partition | None:
    if not isinstance(row, list) or len(row) != 5 or not is_whole(row[3]):
        return None
    gpu_instance, compute_instance, uuid, code, memory = row
    if not is_row([gpu_instance, compute_instance], 2):
        return None
    name = uuid if isinstance(uuid, str) and uuid.strip() else None
    return Partition(gpu_instance, compute_instance, name, (code, memory))


def processes_of(uid: str, rows: Any, slices: list[Partition]) -> tuple[ChipProcess, ...]:
    """Return the processes of a chip, each with the slice that it runs in; others are left out."""
    if not isinstance(rows, list):
        return ()
    return tuple(
        ChipProcess(
            chip=uid,
            pid=row[0],
            memory_bytes=row[1] if is_whole(row[1]) else None,
            partition=words_of(row[2:], slices),
        )
        for row in rows
        if isinstance(row, list) and len(row) == 4 and is_whole(row[0])
    )


def words_of(place: object, slices: list[Partition]) -> str | None:
    """Return the words for `[GPU instance, compute instance]`, also when it is not listed yet.

    None: no slice. An event may name the GPU instance alone, as it was in all parts of that.
    """
    if not isinstance(place, list) or not is_row(place, 2) or place[0] == NO_INSTANCE:
        return None
    gpu_instance, compute_instance = place
    if compute_instance == NO_INSTANCE:
        return f"GPU instance {gpu_instance}"
    for one in slices:
        if (one.gpu_instance, one.compute_instance) == (gpu_instance, compute_instance):
            return one.words
    return Partition(gpu_instance, compute_instance, None, (SUCCESS, None)).words
