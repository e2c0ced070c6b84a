"""What `chipmedic status` says to a person."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from chipmedic_cli.status import show

CALM: Any = {
    "hold": {"state": "off", "at": 0.0, "who": "", "why": ""},
    "breaker": {"state": "closed", "at": 0.0, "who": "", "why": ""},
    "isolations": [],
}


def recovery(number: int, state: str, incident: str = "inc-000001", detail: str = "") -> Any:
    return {"id": f"rec-{number:06d}", "incident": incident, "state": state, "detail": detail}


def shown(
    *recoveries: Any,
    active: tuple[str, ...] = ("inc-000001",),
    watchdogs: tuple[Any, ...] = (),
    safety: Any = None,
    channels: tuple[Any, ...] = (),
) -> str:
    incidents = [
        {"id": name, "severity": "critical", "state": "acknowledged", "opened_at": 0.0,
         "title": "n1: chip lost", "nodes": ["n1"], "jobs": []}
        for name in active
    ]  # fmt: skip
    file = io.StringIO()
    answer = {"watchdogs": list(watchdogs), "channels": channels, "nodes": [], "jobs": [],
              "faults": [],
              "incidents": incidents, "recoveries": list(recoveries),
              "safety": safety or CALM}  # fmt: skip
    show(answer, Console(file=file, width=100, highlight=False))
    return file.getvalue()


def test_what_waits_for_a_person_is_there_with_the_command() -> None:
    text = " ".join(
        shown(
            recovery(7, "held", detail="budget of before"),
            recovery(9, "held", detail="isolate n1: budget"),
            recovery(4, "proposed", "inc-000009"),
            recovery(3, "held", "inc-000002", "its incident is over"),
        ).split()
    )
    assert "isolate n1: budget: chipmedic recoveries retry rec-000009" in text
    assert "chipmedic recoveries approve rec-000004" in text
    assert "rec-000007" not in text
    assert "rec-000003" not in text


def test_no_word_of_state_is_broken() -> None:
    assert "acknowledged" in shown()


def watchdog(name: str, *, is_leader: bool = False, is_alive: bool = True) -> Any:
    return {"name": name, "is_leader": is_leader, "is_alive": is_alive, "token": 7,
            "lease_age_seconds": 1.2}  # fmt: skip


def test_who_leads_is_said_where_there_are_several() -> None:
    text = shown(watchdogs=(watchdog("a:7443", is_leader=True), watchdog("b:7443")))
    assert "2 watchdogs: a:7443 leads (token 7, lease renewed 1 s ago)" in text
    text = shown(watchdogs=(watchdog("a:7443", is_alive=False), watchdog("b:7443", is_leader=True)))
    assert "1 watchdog: b:7443 leads (token 7, lease renewed 1 s ago); gone: a:7443" in text
    assert "no watchdog leads now" in shown(watchdogs=(watchdog("a:7443"),))


def test_one_that_is_alone_needs_no_words() -> None:
    assert "leads" not in shown(watchdogs=(watchdog("a:7443", is_leader=True),))


def test_the_switches_and_the_isolated_nodes_are_shown() -> None:
    turned: Any = {
        "hold": {"state": "on", "at": 0.0, "who": "mei", "why": "wrong rule"},
        "breaker": {"state": "open", "at": 0.0, "who": "chipmedic", "why": "6 nodes went bad"},
        "isolations": [
            {"node": "gpu-017", "adapter": "slurm", "isolated_at": 0.0, "incident": "inc-000001",
             "reason": "chipmedic:inc-000001 chip.lost", "gate": "", "gate_detail": ""},
        ],
    }  # fmt: skip
    text = " ".join(shown(safety=turned).split())
    assert "by mei: wrong rule: chipmedic release" in text
    assert "6 nodes went bad: chipmedic recoveries reset-breaker" in text
    assert "gpu-017 slurm" in text
    assert "hold" not in shown()


def test_what_a_limit_holds_waits_by_itself() -> None:
    held = recovery(9, "held", detail="isolate n1: budget") | {"held_by": "budget"}
    text = " ".join(shown(held).split())
    assert "isolate n1: budget: rec-000009 goes on when the budget is free" in text
    assert "retry" not in text


def test_a_channel_that_does_not_deliver_is_named() -> None:
    ill = {"channel": "pager", "failing": 3, "failing_since": 0.0, "last_error": "refused"}
    well = {"channel": "chat", "failing": 0, "failing_since": None, "last_error": ""}
    text = " ".join(shown(channels=(ill, well)).split())
    assert "3 notices wait: refused: chipmedic notices" in text
    assert "channel pager does not deliver for" in text
    assert "chat" not in text
