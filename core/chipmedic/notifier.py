"""The interface of a channel through which people (or their systems) are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


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
