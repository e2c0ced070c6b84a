"""The kinds of fault: `domain.condition`, with severity and action where no code says more.

A table of data; docs/faults.md explains each row with an example.
"""

from __future__ import annotations

from dataclasses import dataclass

from chipmedic.model import Action, Severity

INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault and its defaults."""

    name: str
    severity: Severity
    action: Action


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("memory.uncorrectable", CRITICAL, Action.RESET_CHIP),
        Kind("memory.correctable", WARNING, Action.NONE),
        Kind("memory.contained", CRITICAL, Action.RESTART_JOB),
        Kind("memory.remap_pending", WARNING, Action.RESET_CHIP),
        Kind("memory.remap_failed", CRITICAL, Action.REPLACE_CHIP),
        Kind("chip.lost", CRITICAL, Action.REBOOT_NODE),
        Kind("chip.hung", CRITICAL, Action.RESET_CHIP),
        Kind("chip.reset_required", CRITICAL, Action.RESET_CHIP),
        Kind("chip.firmware", CRITICAL, Action.RESET_CHIP),
        Kind("chip.internal", CRITICAL, Action.RESET_CHIP),
        Kind("chip.reset", INFO, Action.NONE),
        Kind("link.down", CRITICAL, Action.RESET_CHIP),
        Kind("link.errors", WARNING, Action.NONE),
        Kind("link.degraded", WARNING, Action.NONE),
        Kind("pcie.errors", WARNING, Action.NONE),
        Kind("pcie.degraded", WARNING, Action.FIX_HOST),
        Kind("nic.down", CRITICAL, Action.FIX_NETWORK),
        Kind("nic.flap", WARNING, Action.FIX_NETWORK),
        Kind("nic.errors", WARNING, Action.FIX_NETWORK),
        Kind("thermal.throttle", WARNING, Action.FIX_HOST),
        Kind("thermal.critical", CRITICAL, Action.ISOLATE_NODE),
        Kind("power.throttle", WARNING, Action.FIX_HOST),
        Kind("power.fault", CRITICAL, Action.ISOLATE_NODE),
        Kind("driver.fault", CRITICAL, Action.REBOOT_NODE),
        Kind("driver.mismatch", CRITICAL, Action.REBOOT_NODE),
        Kind("app.fault", WARNING, Action.CHECK_APP),
        Kind("host.oom", CRITICAL, Action.CHECK_APP),
        Kind("host.memory_error", CRITICAL, Action.FIX_HOST),
        Kind("host.cpu_error", CRITICAL, Action.FIX_HOST),
        Kind("host.disk_error", CRITICAL, Action.FIX_HOST),
        Kind("host.fs_error", CRITICAL, Action.FIX_HOST),
        Kind("host.hung_task", WARNING, Action.FIX_HOST),
        Kind("host.lockup", CRITICAL, Action.REBOOT_NODE),
        Kind("host.panic", CRITICAL, Action.REBOOT_NODE),
        Kind("job.hung", CRITICAL, Action.RESTART_JOB),
        Kind("job.crashed", CRITICAL, Action.RESTART_JOB),
        Kind("job.straggler", WARNING, Action.NONE),
        Kind("job.returned", CRITICAL, Action.CHECK_APP),
        Kind("node.unreachable", CRITICAL, Action.NONE),
        Kind("node.rebooted", INFO, Action.NONE),
        Kind("node.black_hole", CRITICAL, Action.ISOLATE_NODE),
        Kind("collector.blocked", WARNING, Action.NONE),
        Kind("collector.failed", WARNING, Action.NONE),
    )
}
