"""Which collectors are installed, and which of them find their source on this host.

A collector is foreign code: loading it and asking it stand behind a wall, so that a broken one
costs its own readings and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from chipmedic.collector import Collector
from chipmedic.errors import CollectError, ToolBlocked, ToolMissing
from chipmedic.host import Host

GROUP = "chipmedic.collectors"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """The source is here."""

    collector: Collector


@dataclass(frozen=True, slots=True)
class Absent:
    """The collector says that its source is not on this host."""

    detail: str = "not on this host"


@dataclass(frozen=True, slots=True)
class Broken:
    """Nobody knows whether the source is here: the collector cannot be loaded or asked."""

    detail: str
    is_blocked: bool = False
    defect: BaseException | None = None
    """Set when nobody foresaw this, for the traceback."""


Discovery = Found | Absent | Broken


def installed_collectors() -> dict[str, EntryPoint]:
    """Return the entry points of the collectors by name; of two with one name the first."""
    return unique(entry_points(group=GROUP))


def unique(found: Iterable[EntryPoint]) -> dict[str, EntryPoint]:
    """Index entry points by name and warn of each name that is taken twice."""
    known: dict[str, EntryPoint] = {}
    for entry in found:
        first = known.setdefault(entry.name, entry)
        if first.value != entry.value:
            logger.warning(
                "collector ignored: name=%s value=%s why=the name belongs to %s",
                entry.name,
                entry.value,
                first.value,
            )
    return known


def discover(entry: EntryPoint, host: Host, cursor: str | None = None) -> Discovery:
    """Load a collector, ask it whether its source is here, and let it go on from its cursor.

    Blocks as long as the collector does.
    """
    try:
        kind = entry.load()
        if not (isinstance(kind, type) and issubclass(kind, Collector)):
            return Broken(f"{entry.value} is not a subclass of chipmedic.Collector")
        collector = kind.discover(host)
        if collector is not None and cursor is not None:
            collector.resume(cursor)
    except ToolMissing as e:
        return Absent(str(e))
    except CollectError as e:
        return Broken(str(e), is_blocked=isinstance(e, ToolBlocked))
    except (Exception, SystemExit) as e:  # noqa: BLE001 - the wall around foreign code
        return Broken(f"{entry.value}: {type(e).__name__}: {e}", defect=e)
    return Absent() if collector is None else Found(collector)
