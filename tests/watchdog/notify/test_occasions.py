"""When people are told: the table is the specification."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chipmedic_watchdog.notify.occasions import Present, Told, occasion

OPEN = Present(revision=1, severity=2, root_fault=1, is_resolved=False)
TOLD = Told(
    revision=1, severity=2, root_fault=1, is_resolved=False, recovery=None, recovery_state=None
)


def recovery(state: str, *, name: str = "rec-1", is_proposal: bool = False) -> dict[str, object]:
    return {"recovery": name, "recovery_state": state, "is_proposal": is_proposal}


@pytest.mark.parametrize(
    ("told", "present", "expected"),
    [
        (None, {}, "opened"),
        (None, recovery("running"), "opened"),  # its text tells the recovery
        (None, recovery("proposed"), "proposed"),
        (None, recovery("held"), "held"),
        (None, {"is_resolved": True}, "resolved"),
        ({}, {}, None),
        ({}, {"revision": 2}, None),  # nothing of it matters to a person
        ({}, {"revision": 2, "severity": 3}, "updated"),
        ({}, {"revision": 2, "root_fault": 9}, "updated"),
        ({}, {"severity": 1, "revision": 2}, None),
        ({}, {"is_resolved": True}, "resolved"),
        ({"is_resolved": True}, {"is_resolved": True}, None),
        ({"is_resolved": True}, {"revision": 3}, "reopened"),
        ({}, recovery("planned"), "recovering"),
        ({}, recovery("planned", is_proposal=True), None),  # still being planned
        ({}, recovery("proposed", is_proposal=True), "proposed"),
        ({}, recovery("not_taken"), None),
        ({}, recovery("stopped"), None),  # nobody was told that it had begun
        (recovery("planned"), recovery("running"), None),
        (recovery("running"), recovery("verifying"), None),
        (recovery("running"), recovery("held"), "held"),
        (recovery("held"), recovery("planned"), "recovering"),
        (recovery("running"), recovery("done"), "recovered"),
        (recovery("running"), recovery("stopped"), "stopped"),
        (recovery("done"), recovery("planned", name="rec-2"), "recovering"),
        (recovery("held"), {**recovery("held"), "is_resolved": True}, "resolved"),
        ({}, {**recovery("running"), "revision": 2, "severity": 3}, "updated"),
        # Twice as many nodes and five more, a minute after people were told.
        ({"nodes": 20, "told_at": 100.0}, {"nodes": 40, "at": 160.0}, "updated"),
        ({"nodes": 20, "told_at": 100.0}, {"nodes": 39, "at": 160.0}, None),
        ({"nodes": 20, "told_at": 100.0}, {"nodes": 40, "at": 159.0}, None),
        ({"nodes": 1, "told_at": 100.0}, {"nodes": 5, "at": 200.0}, None),
        ({"nodes": 1, "told_at": 100.0}, {"nodes": 6, "at": 200.0}, "updated"),
        ({"nodes": 20, "told_at": 0.0}, {"nodes": 90, "at": 99.0, "is_resolved": True}, "resolved"),
        ({"nodes": 0, "told_at": 0.0}, {"nodes": 90, "at": 99.0}, None),  # told before it counted
        # A node that is given back: its beginning, half a second before its end, is no page.
        ({}, {**recovery("planned"), "is_return": True}, None),
        (recovery("planned"), {**recovery("done"), "is_return": True}, "recovered"),
        (recovery("planned"), {**recovery("held"), "is_return": True}, "held"),
    ],
)
def test_occasion(
    told: dict[str, object] | None, present: dict[str, object], expected: str | None
) -> None:
    if told is not None:
        told = {key: value for key, value in told.items() if key != "is_proposal"}
    before = None if told is None else replace(TOLD, **told)  # type: ignore[arg-type]
    assert occasion(before, replace(OPEN, **present)) == expected  # type: ignore[arg-type]
