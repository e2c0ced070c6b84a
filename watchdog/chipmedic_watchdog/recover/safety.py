"""What may stop an isolation or a restart in the transaction that writes the intent.

The limits bind taking nodes out and restarting jobs. They never bind giving a node back: a breaker
that blocks the return to service makes an outage longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Connection, func, insert, select, update

from chipmedic.recoverer import NodeView, StepKind
from chipmedic_watchdog.recover import book
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.store import audit, schema

HOLD = "recovery_hold"
"""The row of `counters` that is 1 while the switch is on."""

NAMES_SHOWN = 6


def refusal(
    connection: Connection,
    stored: book.StoredStep,
    settings: RecoverSettings,
    views: Mapping[str, NodeView] | None,
    now: float,
) -> str | None:
    """Return why a step must not begin, in words for a person, or None where it may."""
    if stored.step.kind is StepKind.RETURN:
        return None
    if held := hold_reason(connection, settings):
        return held
    since = now - settings.attempts_window_seconds
    hours = settings.attempts_window_seconds / 3600
    target = stored.step.target
    if stored.step.kind is StepKind.RESTART:
        count = book.restarts_since(connection, target, since)
        if count >= settings.maximum_restarts_per_job:
            return f"{target} was restarted {count} times in {hours:g} h already; look at it first"
        return None
    count = _isolations_since(connection, target, since)
    if count >= settings.maximum_isolations_per_node:
        return f"{target} was isolated {count} times in {hours:g} h already; look at it first"
    return _over_budget(connection, target, settings, views)


def hold_reason(connection: Connection, settings: RecoverSettings) -> str | None:
    """Return why nothing may begin now: the switch or the file; None where it may."""
    table = schema.counters
    value = connection.execute(select(table.c.value).where(table.c.name == HOLD)).scalar()
    if value:
        return "recovery is on hold (switched on by a person)"
    if settings.hold_file and Path(settings.hold_file).exists():
        return f"recovery is on hold (the file {settings.hold_file} exists)"
    return None


def switch_hold(connection: Connection, *, is_on: bool, who: str, why: str, now: float) -> None:
    """Turn the hold switch on or off; nothing begins while it is on."""
    table = schema.counters
    done = connection.execute(update(table).where(table.c.name == HOLD).values(value=int(is_on)))
    if done.rowcount == 0:
        connection.execute(insert(table).values(name=HOLD, value=int(is_on)))
    act = "hold" if is_on else "release"
    audit.append(connection, at=now, who=who, act=act, target="recovery", why=why)


def out_of_service(
    connection: Connection, views: Mapping[str, NodeView] | None
) -> tuple[set[str], set[str]]:
    """Return the nodes out of service, whoever took them out, and all nodes that are known."""
    isolations, nodes = schema.isolations, schema.nodes
    ours = select(isolations.c.node).where(isolations.c.returned_at.is_(None))
    out = set(connection.execute(ours).scalars())
    known = set(connection.execute(select(nodes.c.node)).scalars())
    out |= set(connection.execute(select(nodes.c.node).where(nodes.c.state == "silent")).scalars())
    for name, view in (views or {}).items():
        known.add(name)
        if not view.is_available:
            out.add(name)
    return out, known | out


def limit(settings: RecoverSettings, known: int) -> int:
    """Return how many nodes may be out of service: the smaller bound, and never less than one."""
    share = int(settings.maximum_isolated_percent * known / 100)
    return max(1, min(settings.maximum_isolated_nodes, share))


def _over_budget(
    connection: Connection,
    node: str,
    settings: RecoverSettings,
    views: Mapping[str, NodeView] | None,
) -> str | None:
    view = (views or {}).get(node)
    if view is not None and not view.is_available:
        return None  # out of service already: isolating it takes nothing more away
    out, known = out_of_service(connection, views)
    out.discard(node)
    allowed = limit(settings, len(known))
    if len(out) < allowed:
        return None
    names = ", ".join(sorted(out)[:NAMES_SHOWN]) + (" ..." if len(out) > NAMES_SHOWN else "")
    return (
        f"budget: {len(out)} of {len(known)} nodes are out of service already ({names}) "
        f"and the limit is {allowed}"
    )


def _isolations_since(connection: Connection, node: str, since: float) -> int:
    table = schema.isolations
    query = select(func.count()).where(table.c.node == node, table.c.isolated_at > since)
    return connection.execute(query).scalar_one()
