"""`chipmedic silence` and `chipmedic maintenance`: notices are held back for a time."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

import typer
from rich.console import Console

from chipmedic_cli.client import Client, UsageWrong, named
from chipmedic_cli.options import JsonOption, WatchdogOption, WhoOption, print_json
from chipmedic_cli.status import table
from chipmedic_cli.times import moment_of, seconds_of
from chipmedic_cli.words import clock, coloured, plain

silence_app = typer.Typer(no_args_is_help=True, help="Hold notices back; incidents open as ever.")
maintenance_app = typer.Typer(
    no_args_is_help=True, help="Announce work on nodes: no notices, and no action on them."
)

Why = Annotated[str, typer.Option("--why", "--comment", help="The reason, for the others.")]
Duration = Annotated[str, typer.Option("--duration", "-d", help="How long: 90m, 1h30m, 2d.")]
Start = Annotated[str, typer.Option("--start", help="'2026-12-01 08:00' or +30m; default: now.")]
End = Annotated[str, typer.Option("--end", help="Instead of a duration: '2026-12-01 12:00'.")]
All = Annotated[bool, typer.Option("--all", "--expired", help="Those that have ended too.")]


@silence_app.command("add")
def add_silence(
    matchers: Annotated[list[str], typer.Argument(help="""'node="n1"' 'kind=~"nic[.].*"'""")],
    why: Why,
    watchdog: WatchdogOption,
    who: WhoOption,
    duration: Duration = "1h",
    start: Start = "",
    end: End = "",
    as_json: JsonOption = False,
) -> None:
    """Tell nobody of the incidents that these matchers cover wholly."""
    times = _times(start, end, duration)
    _add(watchdog, {"kind": "silence", "matchers": "\n".join(matchers), **times, "who": who,
                    "why": why}, as_json=as_json)  # fmt: skip


@maintenance_app.command("add")
def add_maintenance(
    nodes: Annotated[list[str], typer.Argument(help="Names of nodes.")],
    why: Why,
    watchdog: WatchdogOption,
    who: WhoOption,
    duration: Duration = "1h",
    start: Start = "",
    end: End = "",
    as_json: JsonOption = False,
) -> None:
    """Announce work on nodes: for its time nobody is told of them and nothing is done to them."""
    times = _times(start, end, duration)
    if not all(node.strip() for node in nodes):
        raise UsageWrong("NODES: one of the names is empty")
    # A hyphen means something within brackets only, and most names of nodes have one.
    pattern = "|".join(re.escape(node).replace(r"\-", "-") for node in nodes)
    _add(watchdog, {"kind": "maintenance", "matchers": f"node=~{_quoted(pattern)}", **times,
                    "who": who, "why": why}, as_json=as_json)  # fmt: skip


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _times(start: str, end: str, duration: str) -> dict[str, str]:
    now = time.time()
    starts_at = moment_of(start, now) if start else now
    ends_at = moment_of(end, now) if end else starts_at + seconds_of(duration)
    # Whole seconds, never later than meant: what begins now is in force when the answer comes.
    return {"starts_at": str(int(starts_at)), "ends_at": str(int(ends_at))}


def _add(watchdog: str, body: dict[str, str], *, as_json: bool) -> None:
    with Client(watchdog) as client:
        made = client.post("/api/v1/silences", body)
    if as_json:
        print_json(made)
    else:
        typer.echo(f"{made['id']}: {made['state']} until {clock(made['ends_at'])}")
        for note in made.get("notes", ()):
            typer.echo(f"{made['id']}: note: {note}", err=True)


@silence_app.command("list")
def list_silences(
    watchdog: WatchdogOption, show_all: All = False, as_json: JsonOption = False
) -> None:
    """List silences, newest first."""
    _list(watchdog, "silence", show_all=show_all, as_json=as_json)


@maintenance_app.command("list")
def list_maintenance(
    watchdog: WatchdogOption, show_all: All = False, as_json: JsonOption = False
) -> None:
    """List maintenance windows, newest first."""
    _list(watchdog, "maintenance", show_all=show_all, as_json=as_json)


def _list(watchdog: str, kind: str, *, show_all: bool, as_json: bool) -> None:
    query = {"kind": kind} | ({} if show_all else {"state": "unexpired"})
    with Client(watchdog) as client:
        rows = client.all("/api/v1/silences", **query)
    if as_json:
        print_json(rows)
    elif rows:
        Console(highlight=False).print(_table(rows))
    else:
        words = "maintenance window" if kind == "maintenance" else kind
        typer.echo(f"no {words} (--all shows those that have ended)")


def _table(rows: list[dict[str, Any]]) -> Any:
    made = table("ID", "STATE", "FROM", "UNTIL", "BY", "MATCHERS", "WHY")
    for row in rows:
        times = (clock(row["starts_at"]), clock(row["ends_at"]))
        who = row["created_by"] + (f", ended by {row['ended_by']}" if row["ended_by"] else "")
        matchers = plain(" ".join(row["matchers"]))
        made.add_row(
            row["id"], coloured(row["state"]), *times, plain(who), matchers, plain(row["why"])
        )
    return made


@silence_app.command("expire")
def expire_silence(silence: str, watchdog: WatchdogOption, who: WhoOption) -> None:
    """End a silence now; people are told of what is open still."""
    _expire(watchdog, silence, who)


@maintenance_app.command("end")
def end_maintenance(window: str, watchdog: WatchdogOption, who: WhoOption) -> None:
    """End a maintenance window now; people are told of what is open still."""
    _expire(watchdog, window, who)


def _expire(watchdog: str, identity: str, who: str) -> None:
    with Client(watchdog) as client:
        path = f"/api/v1/silences/{named('silence', identity)}/expire"
        ended = client.post(path, {"who": who})
    typer.echo(f"{ended['id']}: {ended['state']}")
