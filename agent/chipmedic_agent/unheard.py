"""Says on this host that nobody listens: in the log, and in `systemctl status`.

The agent goes on finding faults while no watchdog hears of them, and keeps every one. Who looks at
the host must see that, and that no page will come from here.
"""

from __future__ import annotations

import logging

from chipmedic import systemd
from chipmedic_agent.uplink import LinkState

logger = logging.getLogger(__name__)

UNHEARD_SECONDS = 60.0
"""A watchdog that is restarted is back before."""
AGAIN_SECONDS = 3_600.0


class Unheard:
    """Looks at the stream each second and tells when it has been away for long."""

    def __init__(self) -> None:
        self._told_at: float | None = None
        self._since = 0.0

    @property
    def is_so(self) -> bool:
        """Whether nobody listens, and that was told."""
        return self._told_at is not None

    def look(self, link: LinkState, now: float, *, kept_events: int, critical: int) -> None:
        """Tell what has changed; `critical` faults are open here."""
        if link.watchdog is not None:
            self._tell_of_end(link.watchdog, now)
            return
        seconds = now - link.since
        if seconds < UNHEARD_SECONDS:
            return
        if self._told_at is None:
            self._since = link.since
        elif now - self._told_at < AGAIN_SECONDS:
            return
        self._told_at = now
        logger.warning(
            "nobody listens: seconds=%.0f kept_events=%d critical_faults=%d why=%s",
            seconds,
            kept_events,
            critical,
            link.trouble or "no watchdog has answered yet",
        )
        systemd.status(f"no watchdog listens: {link.trouble or 'none has answered'}")

    def _tell_of_end(self, watchdog: str, now: float) -> None:
        if self._told_at is None:
            return
        self._told_at = None
        logger.warning("heard again: watchdog=%s seconds=%.0f", watchdog, now - self._since)
        systemd.status(f"a watchdog listens: {watchdog}")


def disconnected_seconds(link: LinkState, now: float) -> float:
    """Return for how long no watchdog has listened; 0 while one does."""
    return 0.0 if link.watchdog is not None else max(0.0, now - link.since)
