"""`chipmedic audit`: what was done and by whom, and the proof that nobody has changed it since."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from chipmedic.audit_chain import Head, verify
from chipmedic.words import counted
from chipmedic_cli.client import Client
from chipmedic_cli.options import JsonOption, WatchdogOption, print_json
from chipmedic_cli.report import WrongOption
from chipmedic_cli.status import table
from chipmedic_cli.words import clock, plain

EXIT_FAILED = 1

app = typer.Typer(no_args_is_help=True, help="What was done, by whom and why.")


@app.command("list")
def list_entries(
    watchdog: WatchdogOption,
    who: Annotated[str, typer.Option("--who", help="Only what this one did.")] = "",
    target: Annotated[str, typer.Option(help="Only what was done to this.")] = "",
    act: Annotated[str, typer.Option(help="Only this act.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List all entries, oldest first."""
    wanted = {"who": who, "target": target, "act": act}
    with Client(watchdog) as client:
        rows = client.all("/api/v1/audit", **{key: text for key, text in wanted.items() if text})
    if as_json:
        print_json(rows)
        return
    made = table("NO", "AT", "WHO", "PROVEN BY", "ACT", "TARGET", "DETAIL")
    for row in rows:
        made.add_row(str(row["id"]), clock(row["at"]), plain(row["who"]), row["via"] or "-",
                     plain(row["act"]), plain(row["target"]), plain(_detail(row)))  # fmt: skip
    Console(highlight=False).print(made if rows else "no entry")


def _detail(row: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in row["detail"].items() if value)


@app.command("verify")
def verify_chain(
    watchdog: WatchdogOption,
    head: Annotated[
        list[str] | None,
        typer.Option("--head", help="A head seen before, NUMBER:HASH, from the watchdog's log."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every entry on this machine; exits with 1 where one was changed, removed or cut off.

    The watchdog logs each new head (`audit: head=...`) and exports it as a metric. A store whose
    newest entries were cut off is found by a head from there.
    """
    try:
        witnesses = [Head.parse(text.removeprefix("head=")) for text in head or []]
    except ValueError as e:
        raise WrongOption(f"--head: {e}") from e
    with Client(watchdog) as client:
        told = client.get("/api/v1/audit/head")
        entries = client.all("/api/v1/audit")
    found = verify(entries, [*witnesses, Head(told["seq"], told["hash"])])
    if as_json:
        print_json({"head": str(found.head), "problems": list(found.problems)})
    for problem in () if as_json else found.problems:
        typer.echo(problem)
    if not found.problems and not as_json:
        typer.echo(f"{counted(found.head.seq, 'entry')}, as written; head={found.head}")
    raise typer.Exit(EXIT_FAILED if found.problems else 0)
