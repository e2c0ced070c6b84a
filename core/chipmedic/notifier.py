"""The interface of a channel through which people (or their systems) are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Earlier:
    """What this channel has delivered of the same incident before."""

    first_receipt: str
    """Of the first notice: where its thread hangs, in a channel that has threads."""
    last_data: dict[str, Any]
    """The facts of the latest one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message about one incident, ready to be delivered."""

    id: str
    """Unique; a receiver that sees it twice has the same notice twice."""
    incident: str
    severity: str
    is_resolved: bool
    title: str
    body: str
    """Plain text, the notice as a person reads it."""
    data: dict[str, Any]
    """The same facts for programs (the webhook's JSON)."""
    earlier: Earlier | None = None
    """None: this is the first one."""


class Notifier(Protocol):
    """Delivers notices to one place."""

    @property
    def name(self) -> str:
        """The channel's name in the configuration."""
        ...

    def deliver(self, notice: Notice) -> str:
        """Deliver; blocks. Returns a receipt in one line.

        Raises:
            DeliveryFailed: it did not arrive; `is_permanent` where a second try cannot help.
        """
        ...


@runtime_checkable
class StandingNotifier(Protocol):
    """An optional power of a notifier: its receiver forgets what is not said again."""

    @property
    def refresh_seconds(self) -> float:
        """How often what is open is said again."""
        ...

    def refresh(self, notices: Sequence[Notice]) -> None:
        """Say again what is open: the latest notice of each incident; raises as `deliver` does."""
        ...
