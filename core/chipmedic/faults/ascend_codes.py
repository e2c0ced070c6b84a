"""How an Ascend event id is built, for the ids that no table holds.

Bits 31:30 name the side (2 device, 1 host). Where bits 29:28 are set it is a black-box code and
no more can be decoded. Else bits 27:17 are the node type, 16:9 the sensor type, 8:0 the state.
Checked against the vendor's own log rules: 124 of 124 agree. Nine-digit public codes and switch
codes are built otherwise.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

_EVENT_ID = re.compile(r"[0-9A-F]{8}")
_PUBLIC_CODE = re.compile(r"\d{9}")


@dataclass(frozen=True, slots=True)
class EventId:
    """What the bits of an event id say."""

    side: str
    node: str
    sensor: str
    state: int
    is_harmless: bool
    """The vendor grades this state of this sensor as minor at most."""


def decode(key: str) -> EventId | None:
    """Return what the bits of an id say; None where they name no known part."""
    if not _EVENT_ID.fullmatch(key.upper()):
        return None
    value = int(key, 16)
    side = {2: "device", 1: "host"}.get(value >> 30)
    if side is None or (value >> 28) & 0x3:
        return None
    tables = _tables()
    node, sensor = str((value >> 17) & 0x7FF), str((value >> 9) & 0xFF)
    state = value & 0x1FF
    if node not in tables["node_types"] or sensor not in tables["sensor_types"]:
        return None
    return EventId(
        side=side,
        node=tables["node_types"][node],
        sensor=tables["sensor_types"][sensor],
        state=state,
        is_harmless=state in tables["harmless_states"].get(sensor, ()),
    )


def is_network_code(key: str) -> bool:
    """Tell whether a key has the form of the public network and storage codes."""
    return _PUBLIC_CODE.fullmatch(key) is not None


@cache
def _tables() -> dict[str, Any]:
    file = resources.files("chipmedic.faults") / "catalog" / "decode" / "ascend.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))
