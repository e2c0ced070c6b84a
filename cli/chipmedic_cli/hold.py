"""`chipmedic hold` and `chipmedic release`: the big red switch."""

from __future__ import annotations

from typing import Annotated

import typer

from chipmedic_cli.client import Client
from chipmedic_cli.options import WatchdogOption, WhoOption

Why = Annotated[str, typer.Option("--why", help="The reason, for the others.")]


def hold(why: Why, watchdog: WatchdogOption, who: WhoOption) -> None:
    """Let chipmedic begin nothing on the cluster any more; it goes on to watch and to tell."""
    with Client(watchdog) as client:
        client.post("/api/v1/safety/hold", {"who": who, "why": why})
    typer.echo("on hold: no isolation, restart or return begins; what is under way ends its step")


def release(watchdog: WatchdogOption, who: WhoOption, why: Why = "") -> None:
    """End the hold: what waited for it goes on."""
    with Client(watchdog) as client:
        client.post("/api/v1/safety/release", {"who": who, "why": why or "released"})
    typer.echo("released")


def reset_breaker(why: Why, watchdog: WatchdogOption, who: WhoOption) -> None:
    """Let the open breaker try one isolation; it closes when that ends well."""
    with Client(watchdog) as client:
        client.post("/api/v1/safety/reset-breaker", {"who": who, "why": why})
    typer.echo("half open: one isolation may be tried")
