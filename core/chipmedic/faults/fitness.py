"""Which faults speak against the hardware that they are on: no job may run there."""

from __future__ import annotations

from chipmedic.model import Action, Severity

HARDWARE_ACTIONS = frozenset(
    {
        Action.RESET_CHIP,
        Action.REBOOT_NODE,
        Action.ISOLATE_NODE,
        Action.REPLACE_CHIP,
        Action.FIX_NETWORK,
        Action.FIX_HOST,
    }
)
"""Actions that a job cannot survive on the node; with severity critical the node must leave."""

PROGRAM_KINDS = frozenset({"app.fault", "host.oom"})
"""Caused by what runs, never by what it runs on."""


def is_unfit(
    kind: str, severity: Severity, action: Action, *, least: Severity = Severity.CRITICAL
) -> bool:
    """Whether a node with this open fault is not fit for jobs."""
    return (
        severity >= least
        and action in HARDWARE_ACTIONS
        and kind not in PROGRAM_KINDS
        and not kind.startswith("job.")
    )
