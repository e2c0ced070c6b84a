"""Which open faults keep new jobs from a node."""

from __future__ import annotations

import pytest

from chipmedic.faults.fitness import is_unfit
from chipmedic.model import Action, Severity


@pytest.mark.parametrize(
    ("kind", "severity", "action", "unfit"),
    [
        ("chip.lost", Severity.CRITICAL, Action.REPLACE_CHIP, True),
        ("nic.down", Severity.CRITICAL, Action.FIX_NETWORK, True),
        ("memory.remap_pending", Severity.WARNING, Action.RESET_CHIP, False),
        ("app.fault", Severity.CRITICAL, Action.RESET_CHIP, False),
        ("host.oom", Severity.CRITICAL, Action.FIX_HOST, False),
        ("job.hung", Severity.CRITICAL, Action.ISOLATE_NODE, False),
        ("chip.internal", Severity.CRITICAL, Action.RESTART_JOB, False),
    ],
)
def test_only_critical_faults_of_the_hardware_do(
    kind: str, severity: Severity, action: Action, *, unfit: bool
) -> None:
    assert is_unfit(kind, severity, action) is unfit


def test_on_probation_a_warning_does() -> None:
    found = is_unfit(
        "memory.remap_pending", Severity.WARNING, Action.RESET_CHIP, least=Severity.WARNING
    )
    assert found
