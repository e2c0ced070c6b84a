"""`chipmedic config check`: what is wrong with a configuration file, as its daemon would say it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from chipmedic.errors import ChipmedicError, told

app = typer.Typer(no_args_is_help=True, help="Configuration files.")


class Daemon(StrEnum):
    """Whose file it is."""

    AGENT = "agent"
    WATCHDOG = "watchdog"


@app.command()
def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="agent.toml or watchdog.toml; none: those in /etc/chipmedic."),
    ] = None,
    of: Annotated[
        Daemon | None, typer.Option("--of", help="Whose they are, where the name does not say it.")
    ] = None,
) -> None:
    """Say every problem of configuration files, as the daemons' --check-config does."""
    chosen = [(of or _named(path), path) for path in files] if files else _installed()
    is_wrong = False
    for daemon, path in chosen:
        try:
            _read(daemon, path)
        except ChipmedicError as e:
            typer.echo(told("chipmedic", e), err=True)
            is_wrong = True
        else:
            typer.echo(f"{path}: ok")
    if is_wrong:
        raise typer.Exit(2)


def _named(path: Path) -> Daemon:
    found = [daemon for daemon in Daemon if daemon.value in path.stem]
    if len(found) != 1:
        raise typer.BadParameter(
            f"{path}: its name does not say whose it is: add --of agent or --of watchdog"
        )
    return found[0]


def _installed() -> list[tuple[Daemon, Path]]:
    folder = Path("/etc/chipmedic")
    found = [(daemon, folder / f"{daemon}.toml") for daemon in Daemon]
    found = [(daemon, path) for daemon, path in found if path.exists()]
    if not found:
        typer.echo(f"no configuration in {folder}: the defaults are in force")
    return found


def _read(daemon: Daemon, path: Path) -> None:
    """Read a file as its daemon does; a host has the libraries of the daemons that it runs."""
    try:
        if daemon is Daemon.AGENT:
            from chipmedic_agent.main import read_config
        else:
            from chipmedic_watchdog.main import read_config  # type: ignore[assignment]  # same use
    except ModuleNotFoundError as e:
        package = "chipmedic" if daemon is Daemon.AGENT else "chipmedic[watchdog]"
        raise ChipmedicError(f"{path}: needs {e.name}: pip install '{package}'") from e
    read_config(path)
