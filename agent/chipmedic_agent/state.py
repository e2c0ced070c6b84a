"""What the agent remembers across restarts: one JSON file, replaced as a whole.

The file is the agent's commit. It holds the book, the detectors, the cursors of the sources *and*
the events that came of them (`outbox`), and is written before those are appended to the spool. So a
kill at any moment leaves either nothing of a step or all of it: events of the outbox that the spool
lacks are appended at the next start, and what is not in the file is read and judged again from the
old cursors.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from cattrs import BaseValidationError
from cattrs.preconf.json import make_converter

from chipmedic.errors import StoreError
from chipmedic.model import Component
from chipmedic_agent.fault_book import Entry
from chipmedic_agent.inventory import KnownChip
from chipmedic_agent.record import Record
from chipmedic_agent.spool import write_whole

VERSION = 1
FILE = "state.json"

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """Everything that must outlive the process."""

    boot_id: str
    epoch: str
    next_seq: int
    acked_seq: int = 0
    """The highest that the watchdog had acknowledged by then."""
    outbox: tuple[Record, ...] = ()
    """The newest events; they may be missing in the spool."""
    is_outbox_whole: bool = False
    """True: the outbox is all that the epoch holds; the spool on disk may be of another one."""
    entries: tuple[Entry, ...] = ()
    detectors: Mapping[str, Any] = field(default_factory=dict)
    inventory: tuple[KnownChip, ...] = ()
    cursors: Mapping[str, str] = field(default_factory=dict)
    fencing_token: int = 0
    """The highest that any watchdog has shown."""


# -- JSON

CONVERTER = make_converter()
CONVERTER.register_unstructure_hook(Component, str)
CONVERTER.register_structure_hook(Component, lambda text, _: Component.parse(text))
CONVERTER.register_unstructure_hook(bytes, lambda data: base64.b64encode(data).decode())
CONVERTER.register_structure_hook(bytes, lambda text, _: base64.b64decode(text, validate=True))


def _has_odd_keys(kind: Any) -> bool:
    """Tell whether a mapping's keys (tuples, say) cannot be keys in JSON."""
    origin = get_origin(kind)
    if not (isinstance(origin, type) and issubclass(origin, Mapping)) or not get_args(kind):
        return False
    key = get_args(kind)[0]
    return key is not Component and not (isinstance(key, type) and issubclass(key, str))


def _pairs_out(kind: Any) -> Callable[[Mapping[Any, Any]], list[Any]]:
    key, value = get_args(kind)

    def unstructure(items: Mapping[Any, Any]) -> list[Any]:
        out = CONVERTER.unstructure
        return [
            [out(k, unstructure_as=key), out(v, unstructure_as=value)] for k, v in items.items()
        ]

    return unstructure


def _pairs_in(kind: Any) -> Callable[[Any, Any], dict[Any, Any]]:
    key, value = get_args(kind)

    def structure(items: Any, _: Any) -> dict[Any, Any]:
        into = CONVERTER.structure
        return {into(k, key): into(v, value) for k, v in items}

    return structure


CONVERTER.register_unstructure_hook_factory(_has_odd_keys, _pairs_out)
CONVERTER.register_structure_hook_factory(_has_odd_keys, _pairs_in)


# -- the file


class StateFile:
    """Writes and reads the state in one folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._written: dict[str, tuple[Any, str]] = {}

    def save(self, state: AgentState) -> None:
        """Replace the file and wait until it is on the disk.

        Raises:
            StoreError: it cannot be written; the old one is still there.
        """
        plain = {
            "version": VERSION,
            "boot_id": state.boot_id,
            "epoch": state.epoch,
            "next_seq": state.next_seq,
            "acked_seq": state.acked_seq,
            "outbox": CONVERTER.unstructure(state.outbox, tuple[Record, ...]),
            "is_outbox_whole": state.is_outbox_whole,
            "entries": CONVERTER.unstructure(state.entries, tuple[Entry, ...]),
            "inventory": CONVERTER.unstructure(state.inventory, tuple[KnownChip, ...]),
            "cursors": dict(state.cursors),
            "fencing_token": state.fencing_token,
        }
        detectors = ",".join(
            f"{json.dumps(name)}:{self._fragment(name, value)}"
            for name, value in state.detectors.items()
        )
        text = f'{json.dumps(plain)[:-1]}, "detectors": {{{detectors}}}}}'
        try:
            write_whole(self.path, text.encode())
        except OSError as e:
            raise StoreError(f"{self.path}: {e.strerror or e}") from e

    def _fragment(self, name: str, value: Any) -> str:
        """Return a detector's state as JSON; encoded anew only where it changed."""
        known = self._written.get(name)
        if known is None or known[0] is not value:
            known = (value, json.dumps(CONVERTER.unstructure(value)))
            self._written[name] = known
        return known[1]

    def load(self, starts: Mapping[str, Any]) -> AgentState | None:
        """Read the file; `starts` are the detectors' initial states, by name.

        A part that does not fit (written by another version) is left out with a warning, so that
        one changed detector does not cost the open faults. None: there is nothing to be read.

        Raises:
            StoreError: it cannot be read for now (permission, disk), which is not the same as
            wrong.
        """
        try:
            state = _decode(json.loads(self.path.read_bytes()), starts)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise StoreError(f"{self.path}: {e.strerror or e}") from e
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as e:
            logger.warning("state discarded: path=%s why=%r", self.path, e)
            return None
        return state


def _decode(plain: Mapping[str, Any], starts: Mapping[str, Any]) -> AgentState:
    if plain["version"] != VERSION:
        raise ValueError(f"version {plain['version']} was written by another chipmedic")
    saved = plain.get("detectors", {})
    detectors = {
        name: _detector(name, saved[name], start) for name, start in starts.items() if name in saved
    }
    return AgentState(
        boot_id=str(plain["boot_id"]),
        epoch=str(plain["epoch"]),
        next_seq=int(plain["next_seq"]),
        acked_seq=int(plain["acked_seq"]),
        outbox=_part("outbox", plain["outbox"], tuple[Record, ...], ()),
        is_outbox_whole=bool(plain["is_outbox_whole"]),
        entries=_entries(plain["entries"]),
        detectors={name: value for name, value in detectors.items() if value is not None},
        inventory=_part("inventory", plain["inventory"], tuple[KnownChip, ...], ()),
        cursors=_part("cursors", plain["cursors"], dict[str, str], {}),
        fencing_token=int(plain.get("fencing_token", 0)),
    )


def _detector(name: str, plain: Any, start: Any) -> Any:
    """Decode a detector's state; one with other fields than today's was another detector's."""
    if dataclasses.is_dataclass(start):
        fields = {field.name for field in dataclasses.fields(start)}
        if not isinstance(plain, dict) or plain.keys() != fields:
            logger.warning("part of the state discarded: part=detectors.%s why=other fields", name)
            return None
    return _part(f"detectors.{name}", plain, type(start), None)


def _entries(plain: list[Any]) -> tuple[Entry, ...]:
    """Decode the book entry by entry: one that does not fit costs no other."""
    decoded = (_part("entries", item, Entry, None) for item in plain)
    return tuple(entry for entry in decoded if entry is not None)


def _part(name: str, plain: Any, kind: Any, default: Value) -> Any | Value:
    try:
        return CONVERTER.structure(plain, kind)
    except (BaseValidationError, ValueError, TypeError, KeyError, AttributeError) as e:
        logger.warning("part of the state discarded: part=%s why=%s", name, e)
        return default
