"""People are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from chipmedic_watchdog.config import WatchdogSettings
from chipmedic_watchdog.incidents.rules import RuleSet
from chipmedic_watchdog.notify.loop import NotifyLoop
from chipmedic_watchdog.parts.instruments import Instruments
from chipmedic_watchdog.parts.replaceable import Replaceable
from chipmedic_watchdog.parts.store import StoreParts
from chipmedic_watchdog.recover.witnesses import witness_of


class Notices(Replaceable[NotifyLoop]):
    """The loop of notices by the present settings."""

    def __init__(
        self,
        settings: WatchdogSettings,
        store: StoreParts,
        own: Instruments,
        *,
        troubles: Callable[[], Iterable[str]],
        rules: Callable[[], RuleSet],
    ) -> None:
        """`troubles` is what the dead man's switch says, `rules` gives incidents their words."""
        self._store = store
        self._metrics = own.metrics
        self._troubles = troubles
        self._rules = rules
        super().__init__("notify", self._make(settings))
        self._metrics.follow_channels(
            lambda: self.loop.channel_states() if store.lead.is_held else []
        )

    def take(self, new: WatchdogSettings) -> None:
        """Tell people by new settings."""
        self.replace(self._make(new))

    def _make(self, settings: WatchdogSettings) -> NotifyLoop:
        return NotifyLoop(
            self._store.leader,
            settings.notify,
            witness=witness_of(self._store.leader, settings.recover),
            troubles=self._troubles,
            on_ping=self._count_ping,
            rules=self._rules,
        )

    def _count_ping(self, is_well: bool) -> None:
        self._metrics.deadman_pings.labels("well" if is_well else "not_well").inc()
