"""The switches that hold recovery: a person's hold, and the breaker; each with who, when and why.

The hold is the big red switch: while it is on nothing begins but what a person asks for. It is in
the store, so that it holds every watchdog and survives them; the file `hold_file` does the same
where the watchdog itself cannot be reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.store import audit, schema
from chipmedic_watchdog.store.upsert import write_rows

HOLD = "hold"
ON, OFF = "on", "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Where a switch stands, and who has put it there."""

    name: str
    state: str
    at: float = 0.0
    who: str = ""
    why: str = ""


def read(connection: Connection, name: str, default: str) -> Switch:
    """Return a switch; one that nobody has turned yet stands at `default`."""
    table = schema.recovery_switches
    row = connection.execute(select(table).where(table.c.name == name)).one_or_none()
    if row is None:
        return Switch(name=name, state=default)
    return Switch(name=row.name, state=row.state, at=row.at, who=row.who, why=row.why)


def turn(connection: Connection, switch: Switch, *, act: str) -> None:
    """Put a switch where it is to stand, and write who did it into the audit."""
    row = {
        "name": switch.name,
        "state": switch.state,
        "at": switch.at,
        "who": switch.who,
        "why": switch.why,
    }
    write_rows(connection, schema.recovery_switches, [row])
    audit.append(
        connection, at=switch.at, who=switch.who, act=act, target="recovery", why=switch.why
    )


def hold(connection: Connection, *, who: str, why: str, now: float) -> None:
    """Let nothing begin from now on."""
    turn(connection, Switch(name=HOLD, state=ON, at=now, who=who, why=why), act="hold")


def release(connection: Connection, *, who: str, why: str, now: float) -> None:
    """End the hold; what waited for it goes on."""
    turn(connection, Switch(name=HOLD, state=OFF, at=now, who=who, why=why), act="release")


def hold_reason(connection: Connection, settings: RecoverSettings) -> str | None:
    """Return why nothing may begin now: the switch or the file; None where it may."""
    switch = read(connection, HOLD, OFF)
    if switch.state == ON:
        by = f" by {switch.who}" if switch.who else ""
        return f"recovery is on hold{by}: {switch.why or 'no reason given'} (chipmedic release)"
    if settings.hold_file and Path(settings.hold_file).exists():
        return f"recovery is on hold (the file {settings.hold_file} exists)"
    return None
