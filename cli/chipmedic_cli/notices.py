"""`chipmedic notices`: what was sent, when, where, and what failed; and a test of a channel."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console

from chipmedic.errors import ChipmedicError
from chipmedic_cli.client import Client
from chipmedic_cli.options import JsonOption, WatchdogOption, WhoOption, print_json
from chipmedic_cli.status import table
from chipmedic_cli.times import seconds_of
from chipmedic_cli.words import clock, coloured, plain

TEST_SECONDS = 30.0
POLL_SECONDS = 0.3

app = typer.Typer(help="What was sent, when, where, and what failed.")


@app.callback(invoke_without_command=True)
def list_notices(
    context: typer.Context,
    watchdog: WatchdogOption,
    since: Annotated[str, typer.Option(help="How far back: 6h, 2d.")] = "24h",
    incident: Annotated[str, typer.Option(help="Of this incident alone.")] = "",
    channel: Annotated[str, typer.Option(help="To this channel alone.")] = "",
    digest: Annotated[str, typer.Option(help="Those that this digest told.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="Those that were given up.")] = False,
    pending: Annotated[bool, typer.Option("--pending", help="Those that still wait.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List notices, newest first."""
    if context.invoked_subcommand is not None:
        return
    state = "failed" if failed else "pending" if pending else ""
    query = {"state": state, "incident": incident, "channel": channel, "digest": digest}
    if not (incident or digest):
        query["since"] = f"{time.time() - seconds_of(since):.0f}"
    with Client(watchdog) as client:
        rows = client.all("/api/v1/notices", **{key: text for key, text in query.items() if text})
    rows.sort(key=lambda row: row["created_at"], reverse=True)
    if as_json:
        print_json(rows)
    elif rows:
        Console(highlight=False).print(_table(rows))
    else:
        typer.echo("no such notice")


def _table(rows: list[dict[str, Any]]) -> Any:
    made = table("WRITTEN", "ARRIVED", "INCIDENT", "OCCASION", "CHANNEL", "STATE", "OUTCOME")
    for row in rows:
        taken = row["delivered_at"]
        delay = "-" if taken is None else f"after {max(0.0, taken - row['created_at']):.1f} s"
        made.add_row(
            clock(row["created_at"]),
            delay,
            plain(row["incident"] or "-"),
            row["occasion"],
            plain(row["channel"]),
            coloured(row["state"]),
            plain(_outcome(row)),
        )
    return made


def _outcome(row: dict[str, Any]) -> str:
    """Say what the receiver said, or what waits for what."""
    if row["state"] == "gathered":
        return f"told in {row['receipt']}"
    if row["state"] == "pending" and row["digest_at"] is not None:
        return f"told in the digest of {clock(row['digest_at'])}"
    if row["state"] == "pending" and row["attempts"]:
        return f"{row['attempts']} tries, next {clock(row['next_attempt_at'])}: {row['last_error']}"
    return str(row["receipt"] or row["last_error"] or "-")


app.command("list")(list_notices)


@app.command()
def show(notice: str, watchdog: WatchdogOption) -> None:
    """Print one notice as a person got it."""
    incident = notice.partition("/")[0]
    query = {} if incident in ("digest", "test") else {"incident": incident}
    with Client(watchdog) as client:
        rows = client.all("/api/v1/notices", **query)
    found = next((row for row in rows if row["id"] == notice), None)
    if found is None:
        raise ChipmedicError(f"there is no notice {notice!r}; chipmedic notices --json has the ids")
    console = Console(highlight=False, soft_wrap=True)
    console.print(plain(found["title"]), style="bold")
    for line in found["body"].splitlines():
        console.print(plain(line))
    console.print(plain(f"-- {found['channel']}: {found['state']}, {_outcome(found)}"))


@app.command()
def route(
    labels: Annotated[list[str], typer.Argument(help="severity=critical user=mei rack=r7 ...")],
    watchdog: WatchdogOption,
    as_json: JsonOption = False,
) -> None:
    """Say where an incident with such labels would be told."""
    with Client(watchdog) as client:
        found = client.get("/api/v1/notices/route", labels="\n".join(labels))
    if as_json:
        print_json(found)
        return
    made = table("CHANNEL", "WHEN", "ROUTE")
    for one in found["channels"]:
        digest = one["digest_seconds"]
        when = f"in a digest, {digest:.0f} s after its first" if digest else "at once"
        made.add_row(plain(one["channel"]), when, plain(one["route"] or "no routes: every channel"))
    for step in found["escalations"]:
        when = f"{step['after_seconds']:.0f} s without an acknowledgement"
        made.add_row(plain(", ".join(step["channels"])), when, "escalation")
    Console(highlight=False).print(made)


@app.command()
def test(channel: str, watchdog: WatchdogOption, who: WhoOption) -> None:
    """Send a test to a channel and wait for what comes of it; exit code 1 where it fails."""
    with Client(watchdog) as client:
        sent = client.post("/api/v1/notices/test", {"channel": channel, "who": who})
        deadline = time.monotonic() + TEST_SECONDS
        while time.monotonic() < deadline:
            rows = client.all("/api/v1/notices", channel=channel, since=f"{sent['created_at']}")
            row = next((row for row in rows if row["id"] == sent["id"]), sent)
            if row["state"] in ("delivered", "failed") or row["last_error"]:
                break
            time.sleep(POLL_SECONDS)
    if row["state"] != "delivered":
        why = row["last_error"] or f"no answer in {TEST_SECONDS:.0f} s"
        raise ChipmedicError(f"{channel}: not delivered: {why}")
    typer.echo(f"{channel}: delivered: {row['receipt']}")
