"""Which channels an incident goes to: the routes of the configuration, tried in their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chipmedic.section import Check, Section, above_zero, at_least, checks, not_empty
from chipmedic_watchdog.notify.matchers import Labels, concerns, parse

SHORTEST_REPEAT_SECONDS = 60.0


def interval(key: str) -> tuple[Check, ...]:
    """Check that reminders come as seldom as people bear, where the key is set."""

    def check(section: Any) -> Iterator[str]:
        seconds = getattr(section, key)
        if seconds is not None and seconds != 0 and not seconds >= SHORTEST_REPEAT_SECONDS:
            least = f"{SHORTEST_REPEAT_SECONDS:g}"
            yield f"{key}: {seconds:g}; allowed are 0 (never) and {least} or more"

    return (check,)


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationSettings(Section):
    """[[notify.routes.escalations]]: who is told when nobody acknowledges."""

    after_seconds: float
    """Counted from the first notice, while the incident is open and nobody has taken it."""
    channels: tuple[str, ...]

    CHECKS = checks(above_zero("after_seconds"), not_empty("channels", "at least one is needed"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings(Section):
    """[[notify.routes]]: the first one that fits an incident decides where it is told."""

    matchers: tuple[str, ...] = ()
    """All must fit, as in Alertmanager: `severity="critical"`, `kind=~"memory.*"`; none: all."""
    channels: tuple[str, ...]
    continue_matching: bool = False
    """The routes below it are tried as well."""
    digest_seconds: float = 0.0
    """Above 0: gathered into one notice, so long after the first; decisions never wait."""
    repeat_seconds: float | None = None
    """How often what is critical and taken by nobody is told again; 0: never. None: the one of
    `[notify]`."""
    escalations: tuple[EscalationSettings, ...] = ()

    def _matchers(self) -> Iterator[str]:
        for text in self.matchers:
            try:
                parse(text)
            except ValueError as e:
                yield f"matchers: {e}"

    CHECKS = checks(
        _matchers,
        not_empty("channels", "at least one is needed"),
        at_least(0, "digest_seconds"),
        interval("repeat_seconds"),
    )

    def takes(self, labels: Labels) -> bool:
        """Whether an incident with these labels goes this way."""
        return concerns([parse(text) for text in self.matchers], labels)

    @property
    def name(self) -> str:
        """How the delivery record names it."""
        return ", ".join(self.matchers) or "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One channel that an incident goes to, and why."""

    channel: str
    route: str
    digest_seconds: float = 0.0


EVERY_CHANNEL = "no route takes it: every channel"


def chosen(routes: Sequence[RouteSettings], labels: Labels) -> list[RouteSettings]:
    """Return the routes that an incident takes."""
    found: list[RouteSettings] = []
    for route in routes:
        if route.takes(labels):
            found.append(route)
            if not route.continue_matching:
                break
    return found


def targets(
    routes: Sequence[RouteSettings], labels: Labels, channels: Iterable[str]
) -> dict[str, Target]:
    """Return the channels of an incident.

    What no route takes goes to every channel: a forgotten label must not cost a page. A channel of
    two routes gets it at once where one of them says so.
    """
    routes_taken = chosen(routes, labels)
    if not routes_taken:
        why = EVERY_CHANNEL if routes else ""
        return {name: Target(channel=name, route=why) for name in channels}
    found: dict[str, Target] = {}
    for route in routes_taken:
        for name in route.channels:
            known = found.get(name)
            if known is None or route.digest_seconds < known.digest_seconds:
                found[name] = Target(
                    channel=name, route=route.name, digest_seconds=route.digest_seconds
                )
    return found


def routes_lead_somewhere(notify: Any) -> Iterator[str]:
    """Check that every channel that a route or an escalation names is there."""
    known = ", ".join(sorted(notify.channels)) or "none"
    for number, route in enumerate(notify.routes):
        for place, names in _named(route):
            for name in names:
                if name not in notify.channels:
                    where = f"routes[{number}].{place}"
                    yield f"{where}: there is no channel {name!r}; there are: {known}"


def _named(route: RouteSettings) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the channels that a route and its escalations name, as far as they can be read."""
    yield "channels", getattr(route, "channels", ())
    for number, step in enumerate(getattr(route, "escalations", ())):
        yield f"escalations[{number}].channels", getattr(step, "channels", ())
