"""`chipmedic watchdog token` and `chipmedic watchdog node`: who may do what."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console

from chipmedic.words import counted
from chipmedic_cli.client import Client, named
from chipmedic_cli.options import JsonOption, WatchdogOption, WhoOption, print_json
from chipmedic_cli.report import WrongOption, seconds_of
from chipmedic_cli.status import table
from chipmedic_cli.words import age, clock, plain

NEVER = "never"

tokens_app = typer.Typer(
    no_args_is_help=True,
    help="Tokens: with which nodes join, and with which people ask from other machines.",
)
nodes_app = typer.Typer(no_args_is_help=True, help="Certificates of the nodes.")

Why = Annotated[str, typer.Option("--why", help="The reason, for the audit.")]


@tokens_app.command("create")
def create_token(
    watchdog: WatchdogOption,
    who: WhoOption,
    node: Annotated[str, typer.Option(help="To join: the only node that may use it.")] = "",
    any_node: Annotated[
        bool, typer.Option("--any", help="To join: any node that has no certificate yet.")
    ] = False,
    uses: Annotated[int, typer.Option(help="With --any: how many nodes.", min=1)] = 1,
    role: Annotated[str, typer.Option(help="For a person: view, operate or admin.")] = "",
    name: Annotated[str, typer.Option(help="For a person: whose it is, for the audit.")] = "",
    ttl: Annotated[
        str, typer.Option(help="30min, 24h, 90d; a person's may be never. [24h; a person's 90d]")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it, this once: --node or --any to join, --role and --name else."""
    path, body = _wish(node=node, any_node=any_node, uses=uses, role=role, name=name)
    body |= {"who": who} | ({"ttl_seconds": _seconds(ttl)} if ttl else {})
    with Client(watchdog) as client:
        made = client.post(path, body)
    if as_json:
        print_json(made)
        return
    typer.echo(made["token"])
    typer.echo(_about(made), err=True)


def _wish(
    *, node: str, any_node: bool, uses: int, role: str, name: str
) -> tuple[str, dict[str, str]]:
    """Return the endpoint and its body."""
    if role or name:
        if node or any_node or not (role and name):
            raise WrongOption(
                "a person's token takes --role and --name, and neither --node nor --any"
            )
        return "/api/v1/tokens/operator", {"role": role, "name": name}
    if bool(node) == any_node:
        raise WrongOption("say who it is for: --node NAME or --any to join, or --role and --name")
    return "/api/v1/tokens/join", {"node": node, "uses": str(uses)}


def _seconds(ttl: str) -> str:
    return ttl if ttl == NEVER else str(int(seconds_of(ttl, "--ttl")))


def _about(made: dict[str, Any]) -> str:
    until = "for ever" if made["expires_at"] is None else f"until {clock(made['expires_at'])}"
    if made["role"] != "join":
        return f"{made['name']}: {made['role']}, {until}; keep it in a file: CHIPMEDIC_TOKEN_FILE"
    whose = made["node"] or f"{made['uses_left']} new node(s)"
    return f"for {whose}, {until}; on the node: chipmedic agent join --watchdog HOST --token-file -"


@tokens_app.command("list")
def list_tokens(watchdog: WatchdogOption, as_json: JsonOption = False) -> None:
    """List all tokens; none shows its secret."""
    with Client(watchdog) as client:
        rows = client.all("/api/v1/tokens")
    if as_json:
        print_json(rows)
        return
    made = table("TOKEN", "ROLE", "FOR", "STATE", "USES LEFT", "CREATED BY", "AGE")
    for row in rows:
        uses = "-" if row["uses_left"] is None else str(row["uses_left"])
        made.add_row(row["id"], row["role"], plain(row["name"] or "any new node"), _state(row),
                     uses, plain(row["created_by"]), age(row["created_at"]))  # fmt: skip
    Console(highlight=False).print(made if rows else "no token")


def _state(row: dict[str, Any]) -> str:
    if row["revoked_at"] is not None:
        return "revoked"
    if row["expires_at"] is not None and row["expires_at"] <= time.time():
        return "expired"
    if row["uses_left"] == 0:
        return "used"
    return "for ever" if row["expires_at"] is None else f"until {clock(row['expires_at'])}"


@tokens_app.command("revoke")
def revoke_token(token: str, watchdog: WatchdogOption, who: WhoOption, why: Why = "") -> None:
    """Make a token worthless; TOKEN is its id, from the list."""
    with Client(watchdog) as client:
        client.post(f"/api/v1/tokens/{named('token', token)}/revoke", {"who": who, "why": why})
    typer.echo(f"{token}: revoked")


@nodes_app.command("list")
def list_nodes(watchdog: WatchdogOption, as_json: JsonOption = False) -> None:
    """List the certificates of nodes that are in force."""
    with Client(watchdog) as client:
        rows = client.all("/api/v1/certificates")
    rows = [r for r in rows if r["revoked_at"] is None and r["expires_at"] > time.time()]
    if as_json:
        print_json(rows)
        return
    made = table("NODE", "CERTIFICATE", "ISSUED", "EXPIRES", "BY")
    for row in sorted(rows, key=lambda row: (row["node"], row["issued_at"])):
        how = f"token {row['token']}" if row["token"] else "renewal"
        made.add_row(plain(row["node"]), row["serial"][:16], clock(row["issued_at"]),
                     clock(row["expires_at"]), how)  # fmt: skip
    Console(highlight=False).print(made if rows else "no certificate")


@nodes_app.command("revoke")
def revoke_node(node: str, why: Why, watchdog: WatchdogOption, who: WhoOption) -> None:
    """Make every certificate of a node worthless; it must join again."""
    with Client(watchdog) as client:
        answer = client.post(
            f"/api/v1/nodes/{named('node', node)}/revoke", {"who": who, "why": why}
        )
    typer.echo(f"{node}: {counted(answer['certificates'], 'certificate')} revoked")
