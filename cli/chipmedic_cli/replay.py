"""`chipmedic replay`: which incidents and actions of the past other rules would have changed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from chipmedic.errors import ConfigError
from chipmedic.words import counted
from chipmedic_cli.options import JsonOption, print_json
from chipmedic_cli.report import seconds_of
from chipmedic_cli.status import shortened, table
from chipmedic_cli.words import clock, coloured, plain

EXIT_DIFFERENT = 1


def replay(
    since: Annotated[str, typer.Option("--since", help="How far back: 12h, 30d, 4w.")] = "30d",
    rules: Annotated[
        str | None, typer.Option("--rules", help="A file of correlation rules to try.")
    ] = None,
    new_config: Annotated[
        Path | None,
        typer.Option(
            "--new-config", help="A watchdog.toml to try: its incidents and recover sections count."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The watchdog's configuration of today.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which incidents and actions of the past other rules would have changed.

    Reads the watchdog's store on this host and writes nothing. Exits with 1 where something
    differs, with 2 where a file is wrong.
    """
    answer = compare_rules(since, rules, new_config, config)
    if as_json:
        print_json(answer)
    else:
        show(answer)
    raise typer.Exit(EXIT_DIFFERENT if answer["differences"] else 0)


def compare_rules(
    since: str, rules: str | None, new_config: Path | None, config: Path | None
) -> dict[str, Any]:
    """Run the past twice and return what differs.

    Raises:
        ConfigError: one of the files is wrong, or none is to be tried.
        StoreError: the store cannot be read.
    """
    from chipmedic_watchdog.config import load_settings
    from chipmedic_watchdog.replay import course, difference, history
    from chipmedic_watchdog.startup import store_url

    if rules is None and new_config is None:
        raise ConfigError("replay", ["give --rules or --new-config: what is to be tried"])
    seconds = seconds_of(since)
    settings = load_settings(config)
    other = settings if new_config is None else load_settings(new_config)
    now_ruling = _ruling(settings.incidents, settings.recover, settings.incidents.rules_file)
    file = rules if rules is not None else other.incidents.rules_file
    new_ruling = _ruling(other.incidents, other.recover, file)
    until = time.time()
    with history.read_only(store_url(settings)) as connection:
        past = history.read_history(connection, until - seconds, until)
    now, new = (course.run(past, ruling) for ruling in (now_ruling, new_ruling))
    found = difference.compare(now, new)
    return {
        "since": past.since,
        "until": past.until,
        "faults": len(past.faults),
        "now": _totals(now_ruling.rules.id, now),
        "new": _totals(new_ruling.rules.id, new),
        "differences": [
            {
                "is_action": one.is_action,
                "now": [difference.as_json(incident) for incident in one.now],
                "new": [difference.as_json(incident) for incident in one.new],
            }
            for one in found
        ],
    }


def _ruling(incidents: Any, recover: Any, file: str | None) -> Any:
    from chipmedic_watchdog.incidents.rules import load_rules
    from chipmedic_watchdog.replay.course import Ruling

    return Ruling(rules=load_rules(file), incidents=incidents, recover=recover)


def _totals(name: str, incidents: list[Any]) -> dict[str, Any]:
    return {
        "rules": name,
        "incidents": len(incidents),
        "notices": sum(incident.notices for incident in incidents),
        "isolations": sum(len(incident.isolates) for incident in incidents),
        "restarts": sum(len(incident.restarts) for incident in incidents),
    }


def show(answer: dict[str, Any], console: Console | None = None) -> None:
    """Print it for a person."""
    console = console or Console(highlight=False)
    console.print(plain(f"{counted(answer['faults'], 'fault')} since {clock(answer['since'])}"))
    totals = table("", "RULES", "INCIDENTS", "NOTICES", "ISOLATIONS", "RESTARTS")
    for name in ("now", "new"):
        row = answer[name]
        cells = (row["incidents"], row["notices"], row["isolations"], row["restarts"])
        totals.add_row(name, plain(row["rules"]), *map(str, cells))
    console.print(totals)
    if not answer["differences"]:
        console.print("no difference")
        return
    made = table("", "OPENED", "SEVERITY", "GROUPED BY", "FAULTS", "TITLE", "ACTION")
    for number, difference in enumerate(answer["differences"], 1):
        for name in ("now", "new"):
            for incident in difference[name] or [None]:
                made.add_row(f"{number} {name}", *_cells(incident))
        made.add_section()
    console.print(made)


def _cells(incident: dict[str, Any] | None) -> tuple[Any, ...]:
    if incident is None:
        return ("-", "-", "none", "0", "-", "-")
    return (
        clock(incident["opened_at"]),
        coloured(incident["severity"]),
        plain(incident["cause"]),
        str(len(incident["faults"])),
        plain(incident["title"]),
        plain(_action(incident)),
    )


def _action(incident: dict[str, Any]) -> str:
    parts = [
        f"{word} {shortened(incident[key], 4)}"
        for word, key in (("isolate", "isolates"), ("restart", "restarts"))
        if incident[key]
    ]
    return f"{incident['mode']}: " + (", ".join(parts) or f"nothing ({incident['why']})")
