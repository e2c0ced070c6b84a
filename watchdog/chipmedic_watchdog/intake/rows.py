"""The rows of the store that a group of arrivals reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from chipmedic.model import Severity
from chipmedic_watchdog.intake.arrival import Arrival, Greeting
from chipmedic_watchdog.intake.board import FaultBoard, FaultRow
from chipmedic_watchdog.intake.message import ReceivedEvent
from chipmedic_watchdog.intake.place import Place
from chipmedic_watchdog.lead.lease import alive, database_clock
from chipmedic_watchdog.store import schema

Epoch = tuple[str, str]
"""(node, epoch)."""
_FAULT_COLUMNS = tuple(
    column.name for column in schema.faults.columns if column.name not in ("id", "incident")
)


def event_row(arrival: Arrival, event: ReceivedEvent) -> dict[str, Any]:
    """Return the row of an event; what has no column of its own goes into `body`."""
    fault = event.fault
    body: dict[str, Any] = {"detail": event.detail} if event.detail else {}
    if fault is not None:
        body |= {
            "action": fault.action.value,
            "since": fault.since,
            "summary": fault.summary,
            "source": fault.source,
            "codes": fault.codes,
            "evidence": fault.evidence,
            "count": fault.count,
            "job": fault.job,
        }
    return {
        "node": arrival.node,
        "epoch": arrival.epoch,
        "seq": event.seq,
        "boot_id": event.boot_id,
        "node_at": event.at,
        "received_at": arrival.received_at,
        "transition": event.transition,
        "component": "" if fault is None else str(fault.component),
        "kind": "" if fault is None else fault.kind,
        "severity": 0 if fault is None else int(fault.severity),
        "body": body,
    }


def load_boards(connection: Connection, nodes: Sequence[str]) -> dict[str, FaultBoard]:
    """Return the open faults of each node, by node."""
    boards = {node: FaultBoard(node) for node in nodes}
    table = schema.faults
    for row in connection.execute(
        select(*(table.c[name] for name in ("id", *_FAULT_COLUMNS))).where(
            table.c.node.in_(nodes), table.c.state != "cleared"
        )
    ).mappings():
        fault = FaultRow(**row, is_changed=False)
        boards[fault.node].open[fault.key] = fault
    return boards


def load_nodes(connection: Connection, nodes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the rows of those nodes that are known."""
    table = schema.nodes
    rows = connection.execute(select(table).where(table.c.node.in_(nodes))).mappings()
    return {row["node"]: dict(row) for row in rows}


def lock_nodes(connection: Connection, nodes: Iterable[str]) -> None:
    """Keep other watchdogs from writing of these nodes until the end of the transaction.

    In one order everywhere, so that two never wait for each other.
    """
    table = schema.nodes
    query = select(table.c.node).where(table.c.node.in_(sorted(nodes)))
    connection.execute(query.order_by(table.c.node).with_for_update())


def taken_elsewhere(
    connection: Connection, known: dict[str, Any], hello: Greeting, place: Place
) -> str | None:
    """Return why a node's name is another machine's, which is connected to another watchdog."""
    is_other = known["machine_id"] and hello.machine_id
    is_other = is_other and known["machine_id"] != hello.machine_id
    if not (is_other and known["state"] == "connected"):
        return None
    if not is_elsewhere(connection, known, place):
        return None
    return (
        f"node {known['node']} is connected to another watchdog with machine-id "
        f"{known['machine_id']}; this machine-id is {hello.machine_id}: give one of the two hosts "
        "another node name"
    )


def is_elsewhere(connection: Connection, known: dict[str, Any], place: Place) -> bool:
    """Whether a node came last to another watchdog, and that one lives."""
    if not place.is_shared or known["watchdog"] in ("", place.watchdog):
        return False
    return known["watchdog"] in alive(connection, database_clock(connection))


def load_acked(connection: Connection, nodes: Sequence[str]) -> dict[Epoch, int]:
    """Return the acknowledged seq of each epoch of these nodes."""
    table = schema.epochs
    rows = connection.execute(select(table).where(table.c.node.in_(nodes)))
    return {(row.node, row.epoch): row.acked_seq for row in rows}


def write_boards(connection: Connection, boards: Iterable[FaultBoard]) -> bool:
    """Write what changed; rows that end go first, for one component may fail again at once.

    Returns whether there is something among it for which an incident is looked at at once; what is
    only worth a note is found at its next beat.
    """
    ended: list[FaultRow] = []
    changed: list[FaultRow] = []
    new: list[FaultRow] = []
    for board in boards:
        for row in (*board.ended, *board.open.values()):
            if row.is_changed:
                target = new if row.id is None else (ended if row.state == "cleared" else changed)
                target.append(row)
    table = schema.faults
    statement = (
        update(table)
        .where(table.c.id == bindparam("row_id"))
        .values({name: bindparam(f"new_{name}") for name in _FAULT_COLUMNS})
    )
    for rows in (ended, changed):
        if rows:
            connection.execute(statement, [_update_values(row) for row in rows])
    if new:
        connection.execute(insert(table), [_values(row) for row in new])
    return any(row.severity >= Severity.WARNING for row in (*ended, *changed, *new))


def _values(row: FaultRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _FAULT_COLUMNS}


def _update_values(row: FaultRow) -> dict[str, Any]:
    values = {f"new_{name}": getattr(row, name) for name in _FAULT_COLUMNS}
    return {**values, "row_id": row.id}
