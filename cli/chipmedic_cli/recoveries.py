"""`chipmedic recoveries`: what chipmedic does or proposes, and a person's answer to it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from chipmedic_cli.client import Client, named
from chipmedic_cli.hold import reset_breaker
from chipmedic_cli.options import JsonOption, WatchdogOption, WhoOption, print_json
from chipmedic_cli.status import table
from chipmedic_cli.words import age, coloured, plain

app = typer.Typer(no_args_is_help=True, help="What chipmedic does or proposes, and your answer.")


@app.command("list")
def list_recoveries(watchdog: WatchdogOption, as_json: JsonOption = False) -> None:
    """List recoveries, newest first."""
    with Client(watchdog) as client:
        rows = client.all("/api/v1/recoveries")
    if as_json:
        print_json(rows)
        return
    console = Console(highlight=False)
    if not rows:
        console.print("no recovery")
        return
    made = table("RECOVERY", "INCIDENT", "ADAPTER", "MODE", "STATE", "AGE", "DETAIL")
    for row in rows:
        names = (row["id"], row["incident"], row["adapter"], row["mode"])
        made.add_row(
            *names, coloured(row["state"]), age(row["created_at"]), plain(row["detail"] or "-")
        )
    console.print(made)


@app.command()
def plan(incident: str, watchdog: WatchdogOption, as_json: JsonOption = False) -> None:
    """Say what would be done about an open incident now, with the exact commands; do nothing."""
    with Client(watchdog) as client:
        answer = client.get(f"/api/v1/incidents/{named('incident', incident)}/plan")
    if as_json:
        print_json(answer)
        return
    for line in plan_lines(answer):
        typer.echo(line)


ENDS = {
    "observe": "the mode is observe: nothing of it is done, and nobody is told",
    "notify": "the mode is notify: nothing of it is done; the notice says it",
    "propose": "the mode is propose: done when a person approves",
    "act": "the mode is act: done",
}


def plan_lines(answer: dict[str, Any]) -> list[str]:
    """Return a plan as lines for a person."""
    lines: list[str] = [f"{answer['incident']}: {plain(answer['reason'])}"]
    lines += [f"{plain(trouble)}" for trouble in answer["troubles"]]
    for number, step in enumerate(answer["steps"], 1):
        lines.append(f"{number}. {step['kind']} {plain(step['target'])}, within "
                     f"{step['timeout_seconds']:g} s:")  # fmt: skip
        lines.append(f"   {plain(step['description'])}")
        if step["refused"]:
            lines.append(f"   would be held: {plain(step['refused'])}")
    end = ENDS[answer["mode"]] if answer["steps"] else "nothing would be done"
    return [*lines, f"{end} (rule: {plain(answer['rule'])})"]


Why = Annotated[str, typer.Option("--why", help="The reason, for the others.")]


@app.command()
def approve(recovery: str, watchdog: WatchdogOption, who: WhoOption) -> None:
    """Let a proposed recovery begin."""
    _answer(watchdog, recovery, "approve", {"who": who})


@app.command()
def retry(recovery: str, watchdog: WatchdogOption, who: WhoOption) -> None:
    """Let a held recovery go on."""
    _answer(watchdog, recovery, "retry", {"who": who})


@app.command()
def decline(recovery: str, why: Why, watchdog: WatchdogOption, who: WhoOption) -> None:
    """Answer a proposal with no."""
    _answer(watchdog, recovery, "decline", {"who": who, "why": why})


@app.command()
def stop(recovery: str, why: Why, watchdog: WatchdogOption, who: WhoOption) -> None:
    """End a recovery before its next step."""
    _answer(watchdog, recovery, "stop", {"who": who, "why": why})


app.command("reset-breaker")(reset_breaker)


def give_back(node: str, why: Why, watchdog: WatchdogOption, who: WhoOption) -> None:
    """Give a node back that chipmedic has isolated."""
    with Client(watchdog) as client:
        answer = client.post(
            f"/api/v1/nodes/{named('node', node)}/give-back", {"who": who, "why": why}
        )
    _tell(answer)


def _answer(watchdog: str, recovery: str, act: str, body: dict[str, str]) -> None:
    with Client(watchdog) as client:
        _tell(client.post(f"/api/v1/recoveries/{named('recovery', recovery)}/{act}", body))


def _tell(recovery: dict[str, Any]) -> None:
    typer.echo(f"{recovery['id']}: {recovery['state']}")
