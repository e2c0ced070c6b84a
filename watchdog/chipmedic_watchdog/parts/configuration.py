"""Another configuration is taken up while everything runs."""

from __future__ import annotations

import logging
from pathlib import Path

from chipmedic import systemd
from chipmedic.errors import ConfigError
from chipmedic_watchdog.config import WatchdogSettings, load_settings
from chipmedic_watchdog.incidents.rules import load_rules
from chipmedic_watchdog.parts.instruments import Instruments
from chipmedic_watchdog.parts.intake import FIXED as FIXED_STREAM
from chipmedic_watchdog.parts.intake import IntakeParts
from chipmedic_watchdog.parts.leading import LeadingParts
from chipmedic_watchdog.parts.web import WebParts
from chipmedic_watchdog.startup import read_doors

log = logging.getLogger(__name__)

FIXED_HTTP = (
    "listen", "certificate_file", "key_file", "own_certificate", "connections_per_address",
)  # fmt: skip
"""Settings of the HTTP side that are in force until a restart."""


class Configuration:
    """The settings that are in force, and where they come from."""

    def __init__(self, settings: WatchdogSettings, path: Path | None, own: Instruments) -> None:
        self.settings = settings
        self._path = path
        self._metrics = own.metrics
        self._health = own.health

    def reload(self, intake: IntakeParts, leading: LeadingParts, web: WebParts) -> None:
        """Read the file again; a wrong one changes nothing and is reported."""
        systemd.reloading()
        try:
            new = load_settings(self._path)
            doors = read_doors(new)
            leading.incidents.rules = load_rules(new.incidents.rules_file)
        except ConfigError as e:
            self._metrics.reload_successful.set(0)
            problems = "; ".join(str(e).splitlines())
            self._health.begin("configuration", f"the old one stays in force: {problems}")
            log.error(  # noqa: TRY400
                "reload refused, the old configuration stays in force: %s", problems
            )
        else:
            self._metrics.reload_successful.set(1)
            self._health.end("configuration")
            old, self.settings = self.settings, new
            intake.take(new)
            leading.take(old, new)
            web.take(new, doors)
            self._tell(needs_restart(old, new))
        systemd.ready()

    def _tell(self, sections: list[str]) -> None:
        log.info("reloaded: needs_restart=%s", ",".join(sections) or "nothing")
        if sections:
            words = f"changed in the file, in force after a restart: {', '.join(sections)}"
            self._health.warnings["configuration"] = words
        else:
            self._health.warnings.pop("configuration", None)


NAMES_OF_PODS = "recover.kubernetes (for the names of jobs)"
"""Who is asked for them is changed by a reload; whether anybody is, by a restart."""


def needs_restart(old: WatchdogSettings, new: WatchdogSettings) -> list[str]:
    """Return the sections of which a change is in force only after a restart."""
    return [
        name
        for name, is_changed in (
            ("store", new.store != old.store),
            ("stream", _differ(old.stream, new.stream, FIXED_STREAM)),
            ("http", _differ(old.http, new.http, FIXED_HTTP)),
            ("join", new.join != old.join),
            (NAMES_OF_PODS, _is_set(new) != _is_set(old)),
        )
        if is_changed
    ]


def _is_set(settings: WatchdogSettings) -> bool:
    return settings.recover.kubernetes is not None


def _differ(old: object, new: object, names: tuple[str, ...]) -> bool:
    return any(getattr(new, name) != getattr(old, name) for name in names)
