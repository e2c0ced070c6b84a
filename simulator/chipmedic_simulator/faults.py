"""What can be broken in a simulated cluster, by name: the way that the real thing shows it.

A fault of a chip is seen where a real one is: in the kernel log, in NVML or npu-smi, in the
counters; and it kills the program that computes on the chip, where a real one does.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from chipmedic.errors import ChipmedicError
from chipmedic_simulator.ascend_tools.state import AscendChip, FaultCode
from chipmedic_simulator.host_root import set_port, write
from chipmedic_simulator.layout import Layout
from chipmedic_simulator.node import SimulatedNode, Vendor
from chipmedic_simulator.nvml.state import SimulatedNvml, read_state
from chipmedic_simulator.scheduler.state import Rank
from chipmedic_simulator.scheduler.state import read_state as read_scheduler
from chipmedic_simulator.training import control
from chipmedic_simulator.training.control import Control

HANG_SECONDS = 600.0
PUSH_SECONDS = 0.15
"""The driver prints before it tells NVML's listeners; our kernel log takes a moment to be read."""
RECOVERY_ACTION = 154
"""The one Xid whose line names no process."""
NVML_CALLS = ("nvmlDeviceGetTemperature", "nvmlDeviceGetFieldValues", "nvmlDeviceGetPowerUsage")
_CHIP_KEYS_KEPT = frozenset({"uuid", "serial", "pci", "minor", "ecc_corrected", "ecc_uncorrected"})
_HW_THERMAL_SLOWDOWN = 0x48
"""NVML's reasons: hardware slowdown and hardware thermal slowdown."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a fault is to be."""

    layout: Layout
    node: SimulatedNode
    chip: int

    @property
    def pci(self) -> str:
        """The chip's PCI address."""
        return self.node.pci(self.chip)

    @property
    def nvml(self) -> SimulatedNvml:
        """The node's NVIDIA chips."""
        return self.node.nvml

    def rank(self) -> Rank:
        """Return the rank on the node.

        Raises:
            ChipmedicError: none runs there.
        """
        rank = read_scheduler(self.layout.scheduler).rank_on(self.node.name)
        if rank is None or rank.exit_status is not None:
            raise ChipmedicError(f"no rank of the job runs on {self.node.name}")
        return rank

    def attempt(self) -> int:
        """Return which start of the job runs."""
        return read_scheduler(self.layout.scheduler).job.running_attempt

    def xids(self, *told: tuple[int, str]) -> None:
        """Let the driver write Xids into the kernel log, then push them to those who listen."""
        try:
            pid = self.rank().pid
            who = f"pid={pid}, name={_name_of(pid)}"
        except ChipmedicError:
            who = "pid='<unknown>', name=<unknown>"
        bus = self.pci.partition(".")[0]
        for number, words in told:
            said = words if number == RECOVERY_ACTION else f"{who}, {words}"
            self.node.kernel_log.write(f"NVRM: Xid (PCI:{bus}): {number}, {said}")
        time.sleep(PUSH_SECONDS)
        for number, _ in told:
            self.nvml.emit(self.chip, number)

    def kill_program(self, words: str) -> None:
        """Let the program on the chips die with these words, as the vendor's runtime does it."""
        write(self.node.trouble, words)


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return "<unknown>"


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault that can be injected."""

    words: str
    expectation: str
    inject: Callable[[Target], None]
    vendors: frozenset[Vendor] = frozenset(Vendor)


def inject(layout: Layout, name: str, node: str, chip: int) -> Injection:
    """Break something; return what it was.

    Raises:
        ChipmedicError: no such fault, node or chip; or the node has no such part.
    """
    injection = INJECTIONS.get(name)
    if injection is None:
        raise ChipmedicError(f"{name!r}: no such fault; chipmedic inject --list names them")
    hardware = layout.node(node)
    if not 0 <= chip < hardware.chips:
        raise ChipmedicError(f"--chip {chip}: {node} has chips 0 to {hardware.chips - 1}")
    if hardware.vendor not in injection.vendors:
        owners = ", ".join(sorted(injection.vendors))
        raise ChipmedicError(
            f"{name}: {node} has {hardware.vendor.value} chips; this is of {owners}"
        )
    injection.inject(Target(layout, hardware, chip))
    return injection


def _memory_uncorrectable(target: Target) -> None:
    if target.node.vendor is Vendor.ASCEND:
        target.kill_program("error code 507054: HBM multi-bit ECC error")
        with target.node.edit_ascend() as host:
            chip = host.chip(target.chip)
            chip.ecc_double += 1
            _alarm(chip, "80E18008", "HBM controller uncorrectable ECC")
        return
    with target.nvml.edit() as state:
        for key, step in (("ecc_uncorrected", 2), ("ecc_uncorrected_volatile", 2)):
            name = f"gpu.{target.chip}.{key}"
            state[name] = str(int(state.get(name, "0")) + step)
        state[f"gpu.{target.chip}.remap_pending"] = "1"
        state[f"gpu.{target.chip}.recovery_action"] = "4"
    target.kill_program("CUDA error: uncorrectable ECC error encountered")
    target.xids(
        (
            48,
            "An uncorrectable double bit error (DBE) has been detected on GPU in the framebuffer "
            "at physAddr 0x5e0a40 partition 5, subpartition 0.",
        ),
        (
            63,
            "Row Remapper: New row (0x00000000005e0a40) marked for remapping, reset gpu to "
            "activate.",
        ),
        (
            RECOVERY_ACTION,
            "GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)",
        ),
    )


def _chip_lost(target: Target) -> None:
    if target.node.vendor is Vendor.ASCEND:
        with target.node.edit_ascend() as host:
            host.chip(target.chip).is_lost = True
        target.node.kernel_log.write(
            "[ascend] [ERROR] [drv_soft_fault] [heart_beat_judge 318] <kworker/3:2:812> Heartbeat "
            f"lost! (device={target.chip}; old_count=911; new_count=911; lost_count=4; "
            "total_lost_count=4)"
        )
        target.kill_program("error code 507010: lost heartbeat of the device")
        return
    target.nvml.lose(target.chip)
    target.xids((79, "GPU has fallen off the bus."))
    target.node.kernel_log.write(f"NVRM: GPU {target.pci}: GPU has fallen off the bus.")
    target.kill_program("CUDA error: unspecified launch failure")


def _link_down(target: Target) -> None:
    if target.node.vendor is Vendor.ASCEND:
        with target.node.edit_ascend() as host:
            chip = host.chip(target.chip)
            chip.link, chip.link_downs = "DOWN", chip.link_downs + 1
        return
    target.nvml.set_link(target.chip, 3, up=0)
    words = "NVLink: fatal error detected on link 3(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)"
    target.xids((74, words))


def _thermal(target: Target) -> None:
    if target.node.vendor is Vendor.ASCEND:
        with target.node.edit_ascend() as host:
            host.chip(target.chip).temperature_celsius = 106
        return
    hot = {"temperature": 103, "throttle_reasons": _HW_THERMAL_SLOWDOWN}
    target.nvml.set(target.chip, **hot)


def _driver_hang(target: Target) -> None:
    if target.node.vendor is Vendor.ASCEND:
        with target.node.edit_ascend() as host:
            host.hang_seconds = HANG_SECONDS
        return
    for symbol in NVML_CALLS:
        target.nvml.hang(symbol, HANG_SECONDS, target.chip)


def _firmware(target: Target) -> None:
    words = (
        f"Timeout after 45s of waiting for RPC response from GPU{target.chip} GSP! "
        "Expected function 76 (GSP_RM_CONTROL) (0x20800a4c 0x4)."
    )
    target.xids((119, words))
    with target.nvml.edit() as state:
        state[f"gpu.{target.chip}.recovery_action"] = "1"
    target.kill_program("CUDA error: unspecified launch failure")


def _program_fault(target: Target) -> None:
    words = (
        "Ch 00000012, intr 00000000. MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ "
        "0x7f10_a2000000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ"
    )
    target.xids((31, words))


def _npu_alarm(target: Target) -> None:
    with target.node.edit_ascend() as host:
        _alarm(host.chip(target.chip), "80E18000", "HBM controller fault")


def _alarm(chip: AscendChip, code: str, words: str) -> None:
    chip.health = "Critical"
    text = f"node type=HBM, sensor type={words}, event state=fault"
    chip.codes.append(FaultCode(code=code, text=text, severity=3))


def _nic_down(target: Target) -> None:
    set_port(target.node.root, is_up=False)


def _hang(target: Target) -> None:
    trouble = Control(attempt=target.attempt(), hang_rank=target.rank().rank)
    control.write(target.layout.job, trouble)


def _crash(target: Target) -> None:
    trouble = Control(attempt=target.attempt(), crash_rank=target.rank().rank)
    control.write(target.layout.job, trouble)


def _slow(target: Target) -> None:
    trouble = Control(attempt=target.attempt(), slow_rank=target.rank().rank, slow_seconds=1.0)
    control.write(target.layout.job, trouble)


def _agent_pid(target: Target) -> int:
    pid = target.layout.pids().get(f"agent-{target.node.name}")
    if pid is None:
        raise ChipmedicError(f"no agent of {target.node.name} runs")
    return pid


def _node_silent(target: Target) -> None:
    os.kill(_agent_pid(target), signal.SIGSTOP)


def _agent_killed(target: Target) -> None:
    os.kill(_agent_pid(target), signal.SIGKILL)


def clear(target: Target) -> None:
    """Repair the node as its maker would: chips reset or seated anew, links up, agent awake."""
    node = target.node
    node.trouble.unlink(missing_ok=True)
    set_port(node.root, is_up=True)
    if node.vendor is Vendor.ASCEND:
        with node.edit_ascend() as host:
            healthy = type(host).simulated(node.chips)
            host.hang_seconds = 0.0
            host.chips = [
                replace(good, ecc_double=chip.ecc_double, processes=chip.processes)
                for good, chip in zip(healthy.chips, host.chips, strict=True)
            ]
    else:
        _repair_gpus(target)
    control.write(target.layout.job, Control())
    if (agent := target.layout.pids().get(f"agent-{node.name}")) is not None:
        os.kill(agent, signal.SIGCONT)


def _repair_gpus(target: Target) -> None:
    """Reset the chips: waiting rows are taken out of use, counters of a lifetime stay."""
    was = read_state(target.nvml.path)
    with target.nvml.edit() as state:
        for key in [key for key in state if _is_trouble(key)]:
            del state[key]
        for number in range(target.node.chips):
            state[f"gpu.{number}.temperature"] = str(38 + number)
            if was.get(f"gpu.{number}.remap_pending") == "1":
                state[f"gpu.{number}.remapped_uncorrected"] = "1"
    for number in range(target.node.chips):
        if was.get(f"gpu.{number}.recovery_action", "0") != "0":
            here = replace(target, chip=number)
            words = "GPU recovery action changed from 0x4 (Drain and Reset) to 0x0 (None)"
            here.xids((RECOVERY_ACTION, words))


def _is_trouble(key: str) -> bool:
    """Say whether a reset takes this key out of the state of NVML."""
    first, _, rest = key.partition(".")
    number, _, name = rest.partition(".")
    is_of_chip = first == "gpu" and number != "*" and name not in _CHIP_KEYS_KEPT
    return is_of_chip or first in ("fail", "hang", "crash")


def reboot(target: Target) -> None:
    """Repair the node and boot it: a new boot id, and every process that ran on it is gone."""
    agent = _agent_pid(target)
    clear(target)
    target.node.kernel_log.reboot()
    rank = read_scheduler(target.layout.scheduler).rank_on(target.node.name)
    for pid in [agent] + ([] if rank is None or rank.exit_status is not None else [rank.pid]):
        os.kill(pid, signal.SIGKILL)


_NVIDIA = frozenset({Vendor.NVIDIA})
_ASCEND = frozenset({Vendor.ASCEND})
_MOVED = "the node is isolated and the job goes on elsewhere"
_MOVED_LATER = f"after half a minute {_MOVED}"
_RESTARTED = "the job is restarted after about ten seconds"

INJECTIONS: dict[str, Injection] = {
    "memory-uncorrectable": Injection(
        "an uncorrectable memory error; the program on the chip dies", _MOVED, _memory_uncorrectable
    ),
    "chip-lost": Injection("the chip falls off the bus", _MOVED, _chip_lost),
    "firmware": Injection(
        "the chip's firmware does not answer (Xid 119)", _MOVED, _firmware, _NVIDIA
    ),
    "npu-alarm": Injection("npu-smi lists an HBM controller fault", _MOVED, _npu_alarm, _ASCEND),
    "link-down": Injection(
        "a chip-to-chip link (NVLink) or the chip's port goes down", _MOVED, _link_down
    ),
    "nic-down": Injection("the InfiniBand port goes down", _MOVED_LATER, _nic_down),
    "thermal": Injection("the chip is too hot", _MOVED_LATER, _thermal),
    "driver-hang": Injection(
        "every question to the driver hangs",
        "within a minute a notice that the driver does not answer, then the node is isolated",
        _driver_hang,
    ),
    "program-fault": Injection(
        "the program itself touches bad memory (Xid 31)",
        "a notice; hardware is not isolated for it",
        _program_fault,
        _NVIDIA,
    ),
    "hang": Injection("the rank on the node stops before the barrier", _RESTARTED, _hang),
    "crash": Injection("the rank on the node crashes; the others wait", _RESTARTED, _crash),
    "slow": Injection("the rank on the node takes a second longer for each step", "", _slow),
    "node-silent": Injection(
        "the agent of the node is stopped (SIGSTOP)",
        "node.unreachable in seconds; nothing is drained on silence alone",
        _node_silent,
    ),
    "agent-killed": Injection(
        "the agent is killed (SIGKILL) and started again",
        "nothing is lost, nobody is told",
        _agent_killed,
    ),
    "clear": Injection(
        "repair the node: chips reset, links up, agent awake",
        "an all-clear, and the node returns; for a lost chip it takes a reboot",
        clear,
    ),
    "reboot": Injection("repair and boot the node; what ran on it is gone", "an all-clear", reboot),
}
