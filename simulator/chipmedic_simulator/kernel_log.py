"""A kernel log that can be written to: the file, the boot id and the boot time below a host's root.

`LinuxHost(root)` with the same root reads it where a real host has `/dev/kmsg`. Records have the
form that the kernel gives them, facility 0, and are appended in one write, so a reader never sees
half of one.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WARNING = 4
USER_FACILITY = 1

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "off-bus": (
        "NVRM: GPU at PCI:{bus}: GPU-5c1e07aa-90d2-4b13-8f6e-3a7c51d2e904",
        "NVRM: Xid (PCI:{bus}): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
        "NVRM: GPU {pci}: GPU has fallen off the bus.",
    ),
    "off-bus-unnumbered": (
        "NVRM: The NVIDIA GPU {pci}",
        "NVRM: (PCI ID: 10de:2330) installed in this system has",
        "NVRM: fallen off the bus and is not responding to commands.",
    ),
    "ecc": (
        "NVRM: Xid (PCI:{bus}): 48, pid=4711, name=python, An uncorrectable double bit error (DBE) "
        "has been detected on GPU in the framebuffer at physAddr 0x2a41c0 partition 3, "
        "subpartition 1.",
        "NVRM: Xid (PCI:{bus}): 63, pid=4711, name=python, Row Remapper: New row "
        "(0x00000000002a41c0) marked for remapping, reset gpu to activate.",
        "NVRM: Xid (PCI:{bus}): 154, GPU recovery action changed from 0x0 (None) to 0x4 "
        "(Drain and Reset)",
    ),
    "remap-failed": (
        "NVRM: Xid (PCI:{bus}): 64, pid='<unknown>', name=<unknown>, Row Remapper Error: "
        "(0x00000000002a41c0) - All reserved rows for bank are remapped",
    ),
    "gsp": (
        "NVRM: Xid (PCI:{bus}): 119, pid=4711, name=python, Timeout after 45s of waiting for RPC "
        "response from GPU2 GSP! Expected function 76 (GSP_RM_CONTROL) (0x20800a4c 0x4).",
    ),
    "program": (
        "NVRM: Xid (PCI:{bus}): 31, pid=4711, name=python, Ch 00000012, intr 00000000. MMU Fault: "
        "ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ 0x7f10_a2000000. Fault is of type FAULT_PDE "
        "ACCESS_TYPE_VIRT_READ",
    ),
    "nvswitch": (
        "nvidia-nvswitch0: SXid (PCI:{pci}): 20034, Fatal, Link 17 LTSSM Fault Up",
        "nvidia-nvswitch0: SXid (PCI:{pci}): 20034, Severity 1 Engine instance 17 "
        "Sub-engine instance 00",
        "nvidia-nvswitch0: SXid (PCI:{pci}): 20034, Data {{0x50610002, 0x10100030}}",
    ),
    "npu-lost": (
        "[ascend] [ERROR] [drv_soft_fault] [heart_beat_judge 318] <kworker/3:2:812> Heartbeat "
        "lost! "
        "(device=2; old_count=911; new_count=911; lost_count=4; total_lost_count=4)",
    ),
    "amd-ecc": (
        "amdgpu {pci}: amdgpu: uncorrectable hardware error(ERREVENT_ATHUB_INTERRUPT) detected!",
        "amdgpu {pci}: amdgpu: GPU reset begin!. Source:  2",
    ),
    "aer": (
        "pcieport {pci}: AER: Multiple Uncorrected (Fatal) error received: {pci}",
        "pcieport {pci}: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer, "
        "(Receiver ID)",
        "pcieport {pci}:   device [8086:352a] error status/mask=00000020/00010000",
        "pcieport {pci}:    [ 5] SDES                   (First)",
    ),
    "oom": (
        "python invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE), order=0, "
        "oom_score_adj=0",
        "Out of memory: Killed process 4711 (python) total-vm:104857600kB, anon-rss:99614720kB, "
        "file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:204800kB oom_score_adj:0",
    ),
    "hung-task": ("INFO: task python:4711 blocked for more than 120 seconds.",),
    "nvme": ("nvme nvme1: I/O 77 QID 3 timeout, reset controller",),
    "nic-down": ("mlx5_core {pci} mlx5_2: Port: 1 Link DOWN",),
}
"""What a kernel writes for a fault, by a short name; `{pci}` with function, `{bus}` without."""


class SimulatedKernelLog:
    """The kernel log of one simulated host."""

    def __init__(self, root: Path) -> None:
        self.path = root / "dev/kmsg"
        self._next = root / "dev/.kmsg-next"
        self._boot_id = root / "proc/sys/kernel/random/boot_id"
        self._stat = root / "proc/stat"
        if not self.path.exists():
            self.reboot()

    def write(
        self,
        text: str,
        *,
        level: int = WARNING,
        facility: int = 0,
        device: str | None = None,
        at: float | None = None,
    ) -> int:
        """Append one record and return its sequence number; `device` is a PCI address."""
        now = time.time() if at is None else at
        usec = max(0, int((now - self._booted_at()) * 1e6))
        more = f" SUBSYSTEM=pci\n DEVICE=+pci:{device}\n" if device else ""
        with self._locked() as sequence:
            record = f"{facility << 3 | level},{sequence},{usec},-;{text}\n{more}"
            self._append(record.encode())
            self._next.write_text(str(sequence + 1), encoding="ascii")
        return sequence

    def say(self, name: str, pci: str = "0000:3b:00.0", *, at: float | None = None) -> list[int]:
        """Write what a kernel writes for a fault of `EXAMPLES`; return the sequence numbers.

        Raises:
            KeyError: there is no such example.
        """
        bus = pci.split(".", maxsplit=1)[0]
        return [self.write(line.format(pci=pci, bus=bus), at=at) for line in EXAMPLES[name]]

    def write_raw(self, record: bytes) -> None:
        """Append bytes as they are: a record that is none."""
        self._append(record)

    def lose(self, count: int) -> None:
        """Skip sequence numbers, as if the ring had run over a slow reader."""
        with self._locked() as sequence:
            self._next.write_text(str(sequence + count), encoding="ascii")

    def reboot(self, at: float | None = None) -> str:
        """Begin a new boot with an empty log; return its id."""
        boot_id = str(uuid.uuid4())
        began = time.time() if at is None else at
        for path in (self.path, self._boot_id, self._stat):
            path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")
        self._next.write_text("0", encoding="ascii")
        self._stat.write_text(f"btime {int(began)}\n", encoding="ascii")
        self._boot_id.write_text(f"{boot_id}\n", encoding="ascii")  # last: it announces the rest
        return boot_id

    def _booted_at(self) -> float:
        return float(self._stat.read_text(encoding="ascii").split()[1])

    def _append(self, data: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Yield the next sequence number while no other process takes one."""
        with self._next.open("r+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield int(file.read() or 0)
