"""`chipmedic incidents list` and `show`."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from chipmedic.words import counted
from chipmedic_cli.client import Client
from chipmedic_cli.status import incident_table, shortened, table
from chipmedic_cli.words import age, clock, coloured, plain


def gather(client: Client, *, show_all: bool) -> list[dict[str, Any]]:
    """Return incidents, newest first."""
    if show_all:
        return client.all("/api/v1/incidents")
    return client.all("/api/v1/incidents", state="active")


def show_list(incidents: list[dict[str, Any]], console: Console | None = None) -> None:
    """Print incidents as a table."""
    console = console or Console(highlight=False)
    if not incidents:
        console.print("no open incident (--all shows resolved ones)")
        return
    console.print(incident_table(incidents))


def show_one(incident: dict[str, Any], console: Console | None = None) -> None:
    """Print one incident with all that belongs to it."""
    console = console or Console(highlight=False)
    console.print(f"[bold]{incident['id']}[/]", end="  ")
    console.print(plain(incident["title"]))
    console.print(f"{coloured(incident['severity'])}, {coloured(incident['state'])}")
    for name, value in _facts(incident):
        console.print(f"{name:<13}", end="")
        console.print(plain(value))
    _show_faults(incident, console)
    _show_recoveries(incident["recoveries"], console)
    _show_notices(incident["notices"], console)
    for act in incident["audit"]:
        console.print(plain(f"{clock(act['at'])}  {act['act']} by {act['who'] or 'nobody named'}"))


def left_open(incident: dict[str, Any]) -> str:
    """Say which faults a person's word leaves open: nobody is told of them again."""
    still = [fault for fault in incident["faults"] if fault["state"] == "open"]
    if incident["state"] != "resolved" or not still:
        return ""
    named = shortened([f"{f['node']} {f['component']} {f['kind']}" for f in still], 4)
    return f"still open, and told of no more while it lasts: {named}"


def _facts(incident: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [
        ("since", f"{clock(incident['fault_at'])} ({age(incident['fault_at'])} ago)"),
        ("nodes", shortened(incident["nodes"], 8)),
        ("jobs", shortened(incident["jobs"], 8)),
        ("grouped by", incident["cause"]),
    ]
    if why := incident.get("grouped", {}).get("en"):
        facts.append(("", why))
    if incident["reopened_count"]:
        facts.append(("reopened", counted(incident["reopened_count"], "time")))
    if held := incident.get("held"):
        facts.append(("not told", f"{held['why']} ({held['held_by']})"))
    if incident["acknowledged_at"]:
        facts.append(("acknowledged", incident["acknowledged_by"] or "nobody named"))
    if incident["resolved_at"]:
        who = incident["resolved_by"] or "chipmedic"
        facts.append(("resolved", f"{clock(incident['resolved_at'])} by {who}"))
        facts.append(("why", incident["resolve_reason"] or "-"))
    return facts


def _show_faults(incident: dict[str, Any], console: Console) -> None:
    """Print the root, which is nearest to the cause, then what came with it as it came."""
    root = next((f for f in incident["faults"] if f["id"] == incident["root_fault"]), None)
    others = [fault for fault in incident["faults"] if fault is not root]
    others.sort(key=lambda fault: (fault["opened_at"], fault["id"]))
    if root is not None:
        console.print("\n[bold]root[/]")
        _show_fault(root, "", console)
    if others:
        console.print("\n[bold]with it[/]" if root is not None else "\n[bold]faults[/]")
    for fault in others:
        _show_fault(fault, "" if root is None else _after(root, fault), console)


def _after(root: dict[str, Any], fault: dict[str, Any]) -> str:
    """Say how long after the root a fault was heard of."""
    return f"{fault['opened_at'] - root['opened_at']:+.1f} s  "


def _show_fault(fault: dict[str, Any], when: str, console: Console) -> None:
    console.print(f"  {when}{coloured(fault['severity'])} {coloured(fault['state'])}", end=" ")
    console.print(plain(f"{fault['node']} {fault['component']} {fault['kind']}"))
    console.print(plain(f"    {fault['summary']}"))
    for line in fault["evidence"]:
        console.print(plain(f"    | {line}"))


def _show_recoveries(recoveries: list[dict[str, Any]], console: Console) -> None:
    for recovery in recoveries:
        console.print(
            f"\n[bold]recovery[/] {recovery['id']} ({recovery['mode']}): "
            f"{coloured(recovery['state'])}"
        )
        if recovery["detail"]:
            console.print(plain(f"  {recovery['detail']}"))
        for step in recovery["steps"]:
            console.print(f"  {step['number']}. {coloured(step['state'])}", end=" ")
            console.print(plain(step["description"]))
            if step["detail"]:
                console.print(plain(f"     {step['detail']}"))


def _show_notices(notices: list[dict[str, Any]], console: Console) -> None:
    if not notices:
        return
    console.print("\n[bold]notices[/]")
    made = table("  WHEN", "OCCASION", "CHANNEL", "STATE", "RECEIPT")
    for notice in notices:
        made.add_row(
            f"  {clock(notice['created_at'])}",
            notice["occasion"],
            plain(notice["channel"]),
            coloured(notice["state"]),
            plain(notice["receipt"] or notice["last_error"]),
        )
    console.print(made)
    console.print("likely causes and the first command to run are in the notice itself:")
    console.print(plain(f"  chipmedic notices show {notices[0]['id']}"))
