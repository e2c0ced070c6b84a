"""What the correlation has to know of nodes whose streams are at other watchdogs."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, and_, select

from chipmedic_watchdog.intake.sessions import CATCH_UP_SECONDS
from chipmedic_watchdog.store import schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Nodes of the other watchdogs."""

    catching_up: frozenset[str] = frozenset()
    """Their backlog still comes in."""
    silent: frozenset[str] = frozenset()
    """They have lost their stream lately, judged or not."""


def read_elsewhere(
    connection: Connection, watchdog: str, now: float, *, silent_since: float
) -> Elsewhere:
    """Read it of every node that is not at this watchdog."""
    nodes, epochs = schema.nodes.c, schema.epochs.c
    is_elsewhere = nodes.watchdog != watchdog
    joined = schema.nodes.join(
        schema.epochs, and_(epochs.node == nodes.node, epochs.epoch == nodes.epoch)
    )
    behind = (
        select(nodes.node)
        .select_from(joined)
        .where(
            is_elsewhere,
            nodes.state == "connected",
            nodes.connected_at >= now - CATCH_UP_SECONDS,
            epochs.acked_seq < nodes.catch_up_seq,
        )
    )
    silent = select(nodes.node).where(
        is_elsewhere, nodes.state == "silent", nodes.silent_since >= silent_since
    )
    return Elsewhere(
        catching_up=frozenset(connection.execute(behind).scalars()),
        silent=frozenset(connection.execute(silent).scalars()),
    )
