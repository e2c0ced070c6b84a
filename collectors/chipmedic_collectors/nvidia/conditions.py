"""Conditions that last, as events: told when they begin and again each minute. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chipmedic.model import Component, Event, Severity

TELL_AGAIN_SECONDS = 60.0


@dataclass(slots=True)
class Conditions:
    """The conditions of one scan; starts from what the scan before has left."""

    at: float
    told_at: dict[str, float]
    """When a condition was last told, by component and code."""
    streaks: dict[str, int]
    """How often in a row something was seen, by a name of the caller's."""
    events: list[Event] = field(default_factory=list)

    @classmethod
    def after(
        cls, told_at: Mapping[str, float], streaks: Mapping[str, int], *, at: float
    ) -> Conditions:
        """Go on from an earlier scan; what was told long ago, or in the future, is forgotten."""
        fresh = {key: told for key, told in told_at.items() if 0 <= at - told < TELL_AGAIN_SECONDS}
        return cls(at, fresh, dict(streaks))

    def tell(
        self,
        component: Component,
        code: str,
        message: str,
        *,
        kind: str,
        severity: Severity | None = None,
    ) -> None:
        """Add an event, unless the same was told less than a minute ago."""
        key = f"{component} {code}"
        if key in self.told_at:
            return
        self.told_at[key] = self.at
        self.events.append(
            Event(
                component=component,
                code=code,
                message=message,
                at=self.at,
                kind=kind,
                severity=severity,
            )
        )

    def is_lasting(self, name: str, *, is_seen: bool) -> bool:
        """Count a sighting; return whether it is at least the second in a row."""
        if not is_seen:
            self.streaks.pop(name, None)
            return False
        self.streaks[name] = self.streaks.get(name, 0) + 1
        return self.streaks[name] >= 2
