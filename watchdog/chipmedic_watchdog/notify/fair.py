"""Whose turn it is: nodes take turns, the worst first, so that one's flood delays no other. Pure.

Each entry costs its node something, the less the worse its incident is, and the entry with the
smallest sum goes first. So a node's first critical notice waits for one of each other node at most,
and a warning is not starved by criticals either: four of one node go before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from sqlalchemy import ColumnElement

from chipmedic.model import Severity
from chipmedic_watchdog.store import schema

COSTS = {Severity.CRITICAL: 1, Severity.WARNING: 4, Severity.INFO: 16}


def first_node() -> ColumnElement[str]:
    """Return the column `node` of `incidents`: the one whose turn an incident takes."""
    node: ColumnElement[str] = schema.incidents.c.nodes[0].as_string()
    return node.label("node")


class Entry(Protocol):
    """What waits for its turn."""

    @property
    def node(self) -> str:
        """Whose turn it takes."""
        ...

    @property
    def incident(self) -> str:
        """Entries of one incident keep their order."""
        ...

    @property
    def severity(self) -> int:
        """A `Severity`."""
        ...


Waiting = TypeVar("Waiting", bound=Entry)


def in_turns(entries: Sequence[Waiting]) -> list[Waiting]:
    """Return the entries, given in the order of time, in the order of their turns."""
    worst = _worst(entries)
    spent: Counter[str] = Counter()
    turns: list[tuple[int, int, Waiting]] = []
    # Within a node the worst incidents first; the sort keeps the order of time else.
    for entry in sorted(entries, key=lambda one: -worst[one.incident]):
        severity = worst[entry.incident]
        spent[entry.node] += COSTS.get(Severity(severity), 1)
        turns.append((spent[entry.node], -severity, entry))
    return [entry for *_, entry in sorted(turns, key=lambda turn: turn[:2])]


def _worst(entries: Iterable[Entry]) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in entries:
        found[entry.incident] = max(found.get(entry.incident, 0), entry.severity)
    return found
