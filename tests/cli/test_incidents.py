"""One incident as a person reads it: its root first, then what came with it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from chipmedic_cli.incidents import show_one


def fault(number: int, kind: str, opened_at: float, node: str = "n1") -> dict[str, Any]:
    return {
        "id": number, "node": node, "component": "host", "kind": kind, "severity": "critical",
        "state": "open", "summary": f"{kind} it is", "evidence": [], "opened_at": opened_at,
    }  # fmt: skip


TOLD = {
    "id": "inc-000001/opened-1/pager", "created_at": 1.0, "occasion": "opened", "channel": "pager",
    "state": "delivered", "receipt": "HTTP 204", "last_error": "",
}  # fmt: skip


def shown(
    root: int | None, *faults: dict[str, Any], notices: tuple[dict[str, Any], ...] = ()
) -> list[str]:
    incident = {
        "id": "inc-000001", "title": "t", "severity": "critical", "state": "open", "held": None,
        "fault_at": 1.0, "nodes": ["n1"], "jobs": [], "cause": "job.root/1", "reopened_count": 0,
        "acknowledged_at": None, "resolved_at": None, "root_fault": root, "faults": list(faults),
        "recoveries": [], "isolations": [], "notices": notices, "audit": [],
    }  # fmt: skip
    output = io.StringIO()
    show_one(incident, Console(file=output, width=120, color_system=None))
    return output.getvalue().splitlines()


HANG = fault(1, "job.hung", 103.0)
CHIP = fault(2, "chip.lost", 100.0)
DRIVER = fault(3, "driver.fault", 101.5)


@pytest.mark.parametrize(
    ("root", "order"),
    [
        (2, ["root", "chip.lost", "with it", "+1.5 s", "driver.fault", "+3.0 s", "job.hung"]),
        (1, ["root", "job.hung", "with it", "-3.0 s", "chip.lost", "-1.5 s", "driver.fault"]),
        (None, ["faults", "chip.lost", "driver.fault", "job.hung"]),
    ],
)
def test_the_root_comes_first_then_the_cascade(root: int | None, order: list[str]) -> None:
    text = "\n".join(shown(root, HANG, CHIP, DRIVER))
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_a_fault_by_itself_has_nothing_with_it() -> None:
    assert "with it" not in shown(2, CHIP)


def test_where_the_first_command_stands_is_said_once_somebody_was_told() -> None:
    command = "  chipmedic notices show inc-000001/opened-1/pager"
    assert command in shown(2, CHIP, notices=(TOLD,))
    assert command not in shown(2, CHIP)
