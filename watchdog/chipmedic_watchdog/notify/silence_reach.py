"""What a new silence reaches: a matcher that can fit nothing is most often a slip of the pen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

from sqlalchemy import Connection, select

from chipmedic.faults.kinds import KINDS
from chipmedic.model import Severity
from chipmedic_watchdog.notify.facts import gather
from chipmedic_watchdog.notify.labels import OWN_LABELS, labels_of
from chipmedic_watchdog.notify.matchers import Matcher
from chipmedic_watchdog.store import schema

OF_PLACE = ("rack", "switch", "power_feed", "partition")
"""Labels of nodes that the documentation names: taken even before a node has them."""

PLAIN = re.compile(r"(?:[\w: /-]|\\\W)+")
"""A pattern that fits one text alone."""
INCIDENTS_MAX = 500
"""So many open incidents are looked at, the newest: a storm must not make a silence slow."""


def known_labels(connection: Connection) -> dict[str, set[str]]:
    """Return every label that an incident can have, with the values that there are now."""
    known: dict[str, set[str]] = {name: set() for name in (*OWN_LABELS, *OF_PLACE)}
    known["kind"] |= set(KINDS)
    known["severity"] |= {severity.name.lower() for severity in Severity}
    table = schema.nodes
    for row in connection.execute(select(table.c.node, table.c.labels)):
        known["node"].add(row.node)
        for name, value in row.labels.items():
            known.setdefault(name, set()).add(value)
    incidents = schema.incidents
    is_open = incidents.c.state != "resolved"
    newest = select(incidents).where(is_open).order_by(incidents.c.opened_at.desc())
    for incident in connection.execute(newest.limit(INCIDENTS_MAX)):
        for name, values in labels_of(gather(connection, incident)).items():
            known.setdefault(name, set()).update(values)
    return known


def unknown_label(matchers: Sequence[Matcher], known: Mapping[str, set[str]]) -> str:
    """Say which label no incident can have; empty: each can be there."""
    for matcher in matchers:
        if matcher.label not in known:
            near = get_close_matches(matcher.label, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            return f"no incident has a label {matcher.label!r}{hint} There are: {', '.join(known)}"
    return ""


def fits_nothing(matchers: Sequence[Matcher], known: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield a line for each value that nothing has at present."""
    for matcher in matchers:
        for part in _alternatives(matcher):
            if not any(part.fits(value) for value in known.get(part.label, ())):
                of_nodes = "" if part.label in ("kind", "severity") else " and no known node"
                yield f"matches no open incident{of_nodes}: {part}"


def _alternatives(matcher: Matcher) -> list[Matcher]:
    """Take `node=~"n1|n2"` apart where each part is a plain name; what excludes reaches much."""
    if matcher.operator.startswith("!"):
        return []
    parts = matcher.value.split("|")
    names = [re.sub(r"\\(.)", r"\1", part) for part in parts]
    if matcher.operator == "=~" and all(PLAIN.fullmatch(part) for part in parts):
        return [Matcher(matcher.label, "=", name) for name in names]
    return [matcher]
