"""What the stand-in library finds in the state file: the lookups of fake_state.h, in Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

INVALID_ARGUMENT, NOT_SUPPORTED = 2, 3
NOT_AN_INSTANCE = (1 << 32) - 1


class Failed(Exception):
    """A call that answers a return code other than success."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a chip that MIG has cut: identity, bytes used and in all."""

    uuid: str
    gpu_instance: int
    compute_instance: int
    used: int
    total: int


@dataclass(frozen=True, slots=True)
class State:
    """One reading of the state file."""

    keys: Mapping[str, str]

    @property
    def count(self) -> int:
        """How many chips enumeration counts."""
        return int(self.keys.get("count", "0"), 0)

    @property
    def events(self) -> int:
        """How many events have been queued ever."""
        return int(self.keys.get("event.count", "0"), 0)

    def text(self, key: str) -> str:
        """Return a key of the host, or fail as a call that is not supported."""
        if key not in self.keys:
            raise Failed(NOT_SUPPORTED)
        return self.keys[key]

    def find(self, gpu: int, key: str) -> str | None:
        """Return a key of one chip, else that of all chips, else None."""
        return self.keys.get(f"gpu.{gpu}.{key}", self.keys.get(f"gpu.*.{key}"))

    def need(self, gpu: int, key: str) -> str:
        """Return a key of one chip, or fail as a call that is not supported."""
        value = self.find(gpu, key)
        if value is None:
            raise Failed(NOT_SUPPORTED)
        return value

    def number(self, gpu: int, key: str, otherwise: int | None = None) -> int:
        """Return a number of one chip; without `otherwise`, an absent one is not supported."""
        value = self.find(gpu, key)
        if value is None and otherwise is not None:
            return otherwise
        return int(self.need(gpu, key), 0)

    def link(self, gpu: int, link: int, key: str) -> int:
        """Return a number of one link, else that of all links of the chip."""
        if link >= self.number(gpu, "link_count", 0):
            raise Failed(NOT_SUPPORTED)
        one = self.find(gpu, f"link.{link}.{key}")
        return int(one, 0) if one is not None else self.number(gpu, f"link.*.{key}")

    def c2c(self, gpu: int, link: int) -> int:
        """Return whether a link between the chip and its CPU is up; up unless it is said."""
        if link >= self.number(gpu, "c2c_count", 0):
            raise Failed(NOT_SUPPORTED)
        return self.number(gpu, f"c2c.{link}.up", 1)

    def slice(self, gpu: int, number: int) -> Slice:
        """Return a MIG slice of a chip; a handle of one that is gone is an invalid argument."""
        parts = (self.find(gpu, f"mig.{number}") or "").split(",")
        if len(parts) != 5:
            raise Failed(INVALID_ARGUMENT)
        return Slice(parts[0], *(int(part, 0) for part in parts[1:]))

    def is_lost(self, gpu: int) -> bool:
        """Say whether a chip has fallen off the bus."""
        return self.number(gpu, "lost", 0) != 0

    def trouble(self, what: str, symbol: str, gpu: int | None) -> float:
        """Return how a call shall `hang`, `crash` or `fail`; 0: not at all."""
        everywhere = self.keys.get(f"{what}.{symbol}", "0")
        return float(self.keys.get(f"{what}.{symbol}.{gpu}", everywhere))


@dataclass(slots=True)
class EventSet:
    """Which events of which chips somebody waits for, and how far they have been read."""

    seen: int
    masks: dict[int, int] = field(default_factory=dict)

    def next(self, state: State) -> list[int] | None:
        """Return the next event that was registered for: chip, type, data, and its slice."""
        while self.seen < state.events:
            self.seen += 1
            parts = state.keys.get(f"event.{self.seen}", "").split(",")
            if len(parts) not in (3, 5):
                continue
            event = [int(part, 0) for part in parts]
            if self.masks.get(event[0], 0) & event[1]:
                return [*event, NOT_AN_INSTANCE, NOT_AN_INSTANCE][:5]
        return None
