"""What only the leading watchdog does: incidents, notices, recovery, ledger, retention."""

from __future__ import annotations

from dataclasses import dataclass

from chipmedic_watchdog.config import WatchdogSettings
from chipmedic_watchdog.incidents.engine import IncidentEngine
from chipmedic_watchdog.incidents.rules import load_rules
from chipmedic_watchdog.lead.leader import Part
from chipmedic_watchdog.ledger.loop import LedgerLoop
from chipmedic_watchdog.parts.instruments import Instruments
from chipmedic_watchdog.parts.intake import IntakeParts
from chipmedic_watchdog.parts.notices import Notices
from chipmedic_watchdog.parts.pulse import Pulse
from chipmedic_watchdog.parts.recovery import Recovery
from chipmedic_watchdog.parts.store import StoreParts
from chipmedic_watchdog.retention import Retention


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadingParts:
    """They begin when this watchdog takes the lead and end when it loses it."""

    incidents: IncidentEngine
    notices: Notices
    recovery: Recovery
    ledger: LedgerLoop
    retention: Retention

    def parts(self) -> dict[str, Part]:
        """Return what runs while this watchdog leads."""
        return {
            "incidents": self.incidents.run,
            "notify": self.notices.run,
            "recover": self.recovery.run,
            "ledger": self.ledger.run,
            "retention": self.retention.run,
        }

    def take(self, old: WatchdogSettings, new: WatchdogSettings) -> None:
        """Work by new settings; a loop that they do not concern goes on."""
        self.incidents.settings = new.incidents
        if (new.notify, new.recover) != (old.notify, old.recover):
            self.notices.take(new)
        if new.recover != old.recover:
            self.recovery.take(new)


def build_leading(
    settings: WatchdogSettings,
    store: StoreParts,
    intake: IntakeParts,
    own: Instruments,
    *,
    recovery: Recovery,
    pulse: Pulse,
) -> LeadingParts:
    """Make them; none looks at the store yet.

    Raises:
        ConfigError: the file of the rules cannot be read or used.
    """
    incidents = IncidentEngine(
        store.leader,
        intake.sessions,
        own.metrics,
        own.health,
        settings.incidents,
        rules=load_rules(settings.incidents.rules_file),
        watchdog=store.identity if store.database.is_shared else None,
    )
    notices = Notices(settings, store, own, troubles=pulse.troubles, rules=lambda: incidents.rules)
    retention = Retention(
        store.leader,
        settings.store.keep_events_days,
        settings.store.keep_incidents_days,
        settings.store.keep_jobs_days,
    )
    return LeadingParts(
        incidents=incidents,
        notices=notices,
        recovery=recovery,
        ledger=LedgerLoop(store.leader),
        retention=retention,
    )
