"""`chipmedic status`: nodes, jobs and what is wrong, on one screen."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from chipmedic_cli.client import Client
from chipmedic_cli.words import age, coloured, plain


def gather(client: Client) -> dict[str, Any]:
    """Ask the watchdog for everything that is shown."""
    return {
        "watchdogs": client.get("/api/v1/watchdogs")["items"],
        "channels": client.get("/api/v1/channels")["items"],
        "nodes": client.all("/api/v1/nodes"),
        "jobs": client.all("/api/v1/jobs", state="running"),
        "incidents": client.all("/api/v1/incidents", state="active"),
        "faults": client.all("/api/v1/faults", state="open"),
        "safety": client.get("/api/v1/safety"),
        "recoveries": [
            *client.all("/api/v1/recoveries", state="proposed"),
            *client.all("/api/v1/recoveries", state="held"),
        ],
    }


def show(answer: dict[str, Any], console: Console | None = None) -> None:
    """Print it for a person: what is wrong first, then jobs, then nodes."""
    console = console or Console(highlight=False)
    states = Counter(node["state"] for node in answer["nodes"])
    parts = [f"{count} {coloured(state)}" for state, count in sorted(states.items())]
    console.print(f"{len(answer['nodes'])} nodes: " + (", ".join(parts) or "none yet"))
    if words := _lead(answer["watchdogs"]):
        console.print(plain(words))
    for line in _channels(answer["channels"]):
        console.print(plain(line))
    if answer["incidents"]:
        console.print(incident_table(answer["incidents"]))
    else:
        console.print("no open incident")
    for line in [*_switches(answer["safety"]), *_questions(answer)]:
        console.print(plain(line))
    if answer["jobs"]:
        console.print(_jobs(answer["jobs"]))
    if answer["safety"]["isolations"]:
        console.print(_isolations(answer["safety"]["isolations"]))
    unwell = [node for node in answer["nodes"] if _is_unwell(node, answer["faults"])]
    if unwell:
        console.print(_nodes(unwell, answer["faults"]))


def _lead(watchdogs: list[dict[str, Any]]) -> str:
    """Say who leads, where there are several; one alone needs no words."""
    living = [row for row in watchdogs if row["is_alive"]]
    leader = next((row for row in living if row["is_leader"]), None)
    if leader is None:
        return "no watchdog leads now: nobody is told and nothing is done" if watchdogs else ""
    if len(living) == 1 and len(watchdogs) == 1:
        return ""
    gone = [row["name"] for row in watchdogs if not row["is_alive"]]
    count = "1 watchdog" if len(living) == 1 else f"{len(living)} watchdogs"
    lease = f"token {leader['token']}, lease renewed {leader['lease_age_seconds']:.0f} s ago"
    words = f"{count}: {leader['name']} leads ({lease})"
    return words + (f"; gone: {', '.join(sorted(set(gone)))}" if gone else "")


def _channels(channels: list[dict[str, Any]]) -> list[str]:
    """Say which channels do not deliver."""
    return [
        f"channel {row['channel']} does not deliver for {age(row['failing_since'])}: "
        f"{row['failing']} notices wait: {row['last_error']}: chipmedic notices"
        for row in channels
        if row["failing"]
    ]


def _switches(safety: dict[str, Any]) -> list[str]:
    """Return what keeps chipmedic from acting, with the command that ends it."""
    hold, breaker = safety["hold"], safety["breaker"]
    lines = []
    if hold["state"] == "on":
        since = f"for {age(hold['at'])} by {hold['who'] or 'somebody'}"
        lines.append(f"on hold {since}: {hold['why']}: chipmedic release")
    if breaker["state"] != "closed":
        state = breaker["state"].replace("_", " ")
        end = ": chipmedic recoveries reset-breaker" if breaker["state"] == "open" else ""
        lines.append(f"the breaker is {state} for {age(breaker['at'])}: {breaker['why']}{end}")
    return lines


def _isolations(isolations: list[dict[str, Any]]) -> Table:
    made = table("ISOLATED", "BY", "AGE", "INCIDENT", "REASON", "CHECK")
    for row in isolations:
        made.add_row(
            plain(row["node"]),
            plain(row["adapter"]),
            age(row["isolated_at"]),
            row["incident"],
            plain(row["reason"]),
            plain(f"{row['gate']}: {row['gate_detail']}" if row["gate"] else "-"),
        )
    return made


def _questions(answer: dict[str, Any]) -> list[str]:
    """Return what waits for a person: proposals, and what could not be done of open incidents."""
    active = {incident["id"] for incident in answer["incidents"]}
    rows = sorted(answer["recoveries"], key=lambda row: str(row["id"]))
    # Of several of one incident the newest has the question; the others were replaced.
    newest = {row["incident"]: row for row in rows}
    lines = []
    for row in newest.values():
        name, incident = row["id"], row["incident"]
        if row["state"] == "proposed":
            lines.append(f"waits for you: {incident}: chipmedic recoveries approve {name}")
        elif incident in active and row.get("held_by", "") not in WAITS:
            why = row["detail"]
            lines.append(f"waits for you: {incident}: {why}: chipmedic recoveries retry {name}")
        elif incident in active:
            lines.append(f"waits: {incident}: {row['detail']}: {name} {WAITS[row['held_by']]}")
    return lines


def _is_unwell(node: dict[str, Any], faults: list[dict[str, Any]]) -> bool:
    has_fault = any(fault["node"] == node["node"] for fault in faults)
    return node["state"] != "connected" or has_fault or node["is_spool_failing"]


WAITS = {
    "hold": "goes on when the hold ends",
    "breaker": "goes on when the breaker lets it",
    "budget": "goes on when the budget is free",
    "fault": "goes on when that fault is over",
}
"""What ends the wait of a recovery that a limit holds."""

SHORT = frozenset({"INCIDENT", "RECOVERY", "SEVERITY", "STATE", "AGE"})
"""Columns whose words are never broken."""


def table(*columns: str) -> Table:
    """Return an empty table in the house's looks: no lines, bold head."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column in SHORT)
    return made


def incident_table(incidents: list[dict[str, Any]]) -> Table:
    """Return incidents as rows."""
    made = table("INCIDENT", "SEVERITY", "STATE", "AGE", "WHAT", "NODES", "JOBS")
    for row in incidents:
        made.add_row(
            row["id"],
            coloured(row["severity"]),
            coloured(row["state"]) + (" (held)" if row.get("held_by") else ""),
            age(row["opened_at"]),
            plain(row["title"]),
            plain(shortened(row["nodes"])),
            plain(shortened(row["jobs"])),
        )
    return made


def shortened(names: list[str], most: int = 3) -> str:
    """Return a list of names, cut with a count when it is long."""
    if len(names) <= most:
        return ", ".join(names) or "-"
    return ", ".join(names[:most]) + f" and {len(names) - most} more"


def _jobs(jobs: list[dict[str, Any]]) -> Table:
    made = table("JOB", "NODES", "CHIPS", "ATTEMPT", "PHASE", "STEP", "CHECKPOINT", "HEARD")
    for job in jobs:
        made.add_row(
            plain(job["job"]),
            plain(shortened(job["nodes"])),
            str(job["chips"]),
            str(job["attempt"]),
            plain(job["phase"] or "-"),
            "-" if job["step"] is None else str(job["step"]),
            "-" if job["checkpoint_step"] is None else str(job["checkpoint_step"]),
            f"{age(job['received_at'])} ago",
        )
    return made


def _nodes(nodes: list[dict[str, Any]], faults: list[dict[str, Any]]) -> Table:
    made = table("NODE", "STATE", "HEARD", "OPEN FAULTS")
    for node in nodes:
        mine = [fault["kind"] for fault in faults if fault["node"] == node["node"]]
        made.add_row(
            plain(node["node"]),
            coloured(node["state"]),
            # An open stream is heard each second; what of it is written down is older.
            "now" if node["state"] == "connected" else f"{age(node['last_seen_at'])} ago",
            plain(shortened(sorted(mine))),
        )
    return made
