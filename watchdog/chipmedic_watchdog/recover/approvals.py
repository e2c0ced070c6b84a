"""What a person says to recoveries: approve, decline, stop, try again, give a node back.

Each is a function for a write transaction; each is in the audit with who and why.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from chipmedic.errors import ChipmedicError
from chipmedic_watchdog.recover import book, decisions, gate, safety, switches
from chipmedic_watchdog.recover.breaker import BreakerState
from chipmedic_watchdog.recover.gate import GateNext, GateState
from chipmedic_watchdog.recover.settings import Mode
from chipmedic_watchdog.store import audit, schema


class NotPossible(ChipmedicError):
    """The recovery is not in a state in which this can be said."""


def approve(connection: Connection, recovery: str, *, who: str, now: float) -> None:
    """Let a proposed recovery begin.

    Raises:
        NotPossible: it is not proposed (any more).
    """
    found = _expect(connection, recovery, ("proposed",))
    evidence = {**found.evidence, "approved_by": who}
    book.change(connection, recovery, now=now, state="planned", evidence=evidence)
    audit.append(connection, at=now, who=who, act="approve", target=recovery)


def decline(connection: Connection, recovery: str, *, who: str, why: str, now: float) -> None:
    """Answer a proposal with no; the same is not proposed again for this incident.

    Raises:
        NotPossible: it is not proposed (any more).
    """
    _expect(connection, recovery, ("proposed",))
    book.change(connection, recovery, now=now, state="stopped", detail=f"declined by {who}: {why}")
    audit.append(connection, at=now, who=who, act="decline", target=recovery, why=why)


def stop(connection: Connection, recovery: str, *, who: str, why: str, now: float) -> None:
    """End a recovery before its next step; a step under way comes to its end.

    Raises:
        NotPossible: it has ended already.
    """
    _expect(connection, recovery, (*book.ACTIVE, "proposed", "held"))
    book.change(connection, recovery, now=now, state="stopped", detail=f"stopped by {who}: {why}")
    audit.append(connection, at=now, who=who, act="stop", target=recovery, why=why)


def retry(connection: Connection, recovery: str, *, who: str, now: float) -> None:
    """Let a held recovery go on from the step at which it was held.

    Raises:
        NotPossible: it is not held.
    """
    found = _expect(connection, recovery, ("held",))
    for stored in book.steps(connection, recovery):
        if stored.state == "failed":
            book.change_step(connection, stored, state="planned", attempts=0)
    # Whoever tries again has looked: the bound on attempts is for what nobody looks at.
    evidence = {**found.evidence, "approved_by": who, "retried_by": who}
    book.change(
        connection, recovery, now=now, state="planned", evidence=evidence, detail="", held_by=""
    )
    audit.append(connection, at=now, who=who, act="retry", target=recovery)


def give_back(connection: Connection, node: str, *, who: str, why: str, now: float) -> str:
    """Plan to give a node back on a person's word; return the recovery's id.

    Raises:
        NotPossible: the node is not isolated by chipmedic.
    """
    table = schema.isolations
    query = select(table).where(table.c.node == node, table.c.returned_at.is_(None))
    isolation = connection.execute(query.order_by(table.c.id.desc())).first()
    if isolation is None:
        raise NotPossible(f"{node} is not isolated by chipmedic; nothing to give back")
    incidents = schema.incidents
    count = connection.execute(
        select(incidents.c.reopened_count).where(incidents.c.id == isolation.incident)
    ).scalar()
    waived = GateNext(state=GateState.WAIVED, detail=f"by {who}: {why}")
    gate.write(connection, isolation.id, waived, node=node, now=now)
    recovery = decisions.plan_return(
        connection, isolation, Mode.ACT, count or 0, now=now, approved_by=who
    )
    audit.append(connection, at=now, who=who, act="give back", target=node, why=why)
    return recovery


def hold(connection: Connection, *, who: str, why: str, now: float) -> switches.Switch:
    """Turn the big red switch on."""
    switches.hold(connection, who=who, why=why, now=now)
    return switches.read(connection, switches.HOLD, switches.OFF)


def release(connection: Connection, *, who: str, why: str, now: float) -> switches.Switch:
    """Turn the big red switch off.

    Raises:
        NotPossible: it is off.
    """
    if switches.read(connection, switches.HOLD, switches.OFF).state == switches.OFF:
        raise NotPossible("recovery is not on hold; a hold file is to be removed where it lies")
    switches.release(connection, who=who, why=why, now=now)
    return switches.read(connection, switches.HOLD, switches.OFF)


def reset_breaker(connection: Connection, *, who: str, why: str, now: float) -> switches.Switch:
    """Let the breaker try one isolation: it is half open, and closes when that ends well.

    Raises:
        NotPossible: it is not open.
    """
    present = switches.read(connection, safety.BREAKER, BreakerState.CLOSED)
    if present.state != BreakerState.OPEN:
        raise NotPossible(f"the breaker is {present.state.replace('_', ' ')}, not open")
    turned = switches.Switch(
        name=safety.BREAKER, state=BreakerState.HALF_OPEN, at=now, who=who, why=why
    )
    switches.turn(connection, turned, act="reset breaker")
    return turned


def _expect(connection: Connection, recovery: str, states: tuple[str, ...]) -> book.Recovery:
    found = book.find(connection, recovery)
    if found is None:
        raise NotPossible(f"there is no recovery {recovery}")
    if found.state not in states:
        raise NotPossible(f"{recovery} is {found.state}, not {' or '.join(states)}")
    return found
