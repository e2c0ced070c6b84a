"""One simulated node: its chips, its kernel's files and its kernel log, in a folder.

Everything that an agent reads of real hardware is here at the interface where the hardware would
be: NVML by the fake library (or its stand-in), `npu-smi` on PATH, sysfs and `/dev/kmsg` below a
root. Processes are the real ones of this machine.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from chipmedic_simulator import ascend_tools
from chipmedic_simulator.ascend_tools.state import STATE_VARIABLE as ASCEND_STATE_VARIABLE
from chipmedic_simulator.host_root import gpu, make_root, npu, write
from chipmedic_simulator.kernel_log import SimulatedKernelLog
from chipmedic_simulator.nvml.environment import environment as nvml_environment
from chipmedic_simulator.nvml.state import GIB, SimulatedNvml, read_state
from chipmedic_simulator.nvml.state import create as create_nvml

_ATTACHED_BYTES = 61 * GIB
_IDLE_NPU_MB, _ATTACHED_NPU_MB = 3_400, 58_600


class Vendor(StrEnum):
    """Whose chips a node has."""

    NVIDIA = "nvidia"
    ASCEND = "ascend"


@dataclass(frozen=True, slots=True)
class SimulatedNode:
    """The hardware of one node; every method is one edit of its files."""

    folder: Path
    vendor: Vendor
    chips: int

    @classmethod
    def create(cls, folder: Path, vendor: Vendor, chips: int) -> Self:
        """Make a healthy node; what identifies its chips follows from the folder's name."""
        folder.mkdir(parents=True)
        node = cls(folder, vendor, chips)
        write(folder / "node.json", json.dumps({"vendor": vendor.value, "chips": chips}))
        if vendor is Vendor.NVIDIA:
            create_nvml(node.nvml.path, gpus=chips, node=folder.name)
            devices = [gpu(node.pci(chip)) for chip in range(chips)]
        else:
            host = ascend_tools.AscendHost.simulated(chips)
            ascend_tools.save(host, node._ascend_path)
            ascend_tools.install(folder / "bin")
            devices = [npu(chip.pci) for chip in host.chips]
        make_root(node.root, devices)
        _ = node.kernel_log
        return node

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Return a node that was made before.

        Raises:
            OSError: there is none.
        """
        kept = json.loads((folder / "node.json").read_text(encoding="utf-8"))
        return cls(folder, Vendor(kept["vendor"]), int(kept["chips"]))

    @property
    def name(self) -> str:
        """The node's name."""
        return self.folder.name

    @property
    def root(self) -> Path:
        """What is `/` for the collectors of this node."""
        return self.folder / "root"

    @property
    def kernel_log(self) -> SimulatedKernelLog:
        """Its kernel log."""
        return SimulatedKernelLog(self.root)

    @property
    def nvml(self) -> SimulatedNvml:
        """Its NVIDIA chips."""
        return SimulatedNvml(self.folder / "nvml.state")

    @property
    def trouble(self) -> Path:
        """While this file exists a program on the chips dies with the words that are in it."""
        return self.folder / "trouble"

    @property
    def _ascend_path(self) -> Path:
        return self.folder / "ascend.json"

    @contextmanager
    def edit_ascend(self) -> Iterator[ascend_tools.AscendHost]:
        """Yield the Ascend chips to be changed; nobody else changes them meanwhile."""
        with (self.folder / "ascend.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            host = ascend_tools.load(self._ascend_path)
            yield host
            ascend_tools.save(host, self._ascend_path)

    def pci(self, chip: int) -> str:
        """Return the PCI address of a chip, as the kernel writes it."""
        if self.vendor is Vendor.NVIDIA:
            return read_state(self.nvml.path)[f"gpu.{chip}.pci"]
        return ascend_tools.load(self._ascend_path).chip(chip).pci.lower()

    def environment(self) -> tuple[dict[str, str], str]:
        """Return the variables with which an agent sees these chips, and what stands for them."""
        if self.vendor is Vendor.NVIDIA:
            return nvml_environment(self.nvml.path)
        path = os.pathsep.join((str(self.folder / "bin"), os.environ.get("PATH", os.defpath)))
        variables = {ASCEND_STATE_VARIABLE: str(self._ascend_path), "PATH": path}
        return variables, "npu-smi is the simulated one"

    def attach(self, pid: int) -> None:
        """Let a process hold all chips of the node, as a training process does."""
        if self.vendor is Vendor.NVIDIA:
            self.nvml.set(
                None,
                processes=f"{pid}:{_ATTACHED_BYTES}",
                memory_used_bytes=_ATTACHED_BYTES,
                utilization_percent=98,
                power_milliwatts=612_400,
            )
            return
        with self.edit_ascend() as host:
            for chip in host.chips:
                chip.processes = [ascend_tools.Process(pid, memory_mb=_ATTACHED_NPU_MB)]
                chip.hbm_used_mb = _ATTACHED_NPU_MB
                chip.utilization_percent = 97

    def detach(self) -> None:
        """Let go of all chips."""
        if self.vendor is Vendor.NVIDIA:
            self.nvml.set(
                None,
                processes="",
                memory_used_bytes=0,
                utilization_percent=0,
                power_milliwatts=71_230,
            )
            return
        with self.edit_ascend() as host:
            for chip in host.chips:
                chip.processes = []
                chip.hbm_used_mb = _IDLE_NPU_MB
                chip.utilization_percent = 0
