"""Error codes of a chip: a list of what is wrong now, turned into one event per beginning."""

from __future__ import annotations

from collections.abc import Mapping

from chipmedic import Component, Event

REMIND_SECONDS = 300.0
"""A code that stays is told again this often, with the same `Event.id`: a fault that expires
without repeats stays open for as long as the chip shows it."""
QUIET_SECONDS = 700.0
"""A code that was not told again for so long is over; most end sooner, by the chip's own word that
it is well."""


class StandingCodes:
    """Which codes each chip showed when it was last asked, and since when.

    A code that stays is one occurrence and keeps its id. One that went and came back is a new
    occurrence.
    """

    def __init__(self, vendor: str) -> None:
        self._vendor = vendor
        self._since: dict[str, dict[str, float]] = {}
        self._told_at: dict[tuple[str, str], float] = {}

    def events(
        self, component: Component, codes: Mapping[str, str], at: float, *, topic: str = ""
    ) -> list[Event]:
        """Return what is to be told, given all codes that a part shows now, with their words.

        Where several questions state codes of one part, each names its `topic`: the beginning of
        its codes. It says nothing about the others.
        """
        uid = component.name
        known = self._since.get(uid, {})
        before = {code: since for code, since in known.items() if code.startswith(topic)}
        now = {code: before.get(code, at) for code in codes}
        rest = {code: since for code, since in known.items() if code not in before}
        self._since[uid] = rest | now
        events = []
        for code, since in now.items():
            told_at = self._told_at.get((uid, code), 0.0)
            if code in before and 0 <= at - told_at < REMIND_SECONDS:
                continue
            self._told_at[uid, code] = at
            name = f"{self._vendor}:{code}"
            identity = f"{component}/{name}@{since:.0f}"
            events.append(
                Event(
                    component=component,
                    code=name,
                    message=codes[code],
                    at=at,
                    id=identity,
                    quiet_seconds=QUIET_SECONDS,
                )
            )
        return events

    def shows(self, component: Component, code: str) -> bool:
        """Say whether a part showed this code when it was last asked."""
        return code in self._since.get(component.name, {})

    def kept(self) -> dict[str, dict[str, float]]:
        """Return the codes that are active, for `restore`."""
        return {uid: dict(codes) for uid, codes in self._since.items() if codes}

    def restore(self, kept: Mapping[str, Mapping[str, float]], at: float) -> None:
        """Take over what an earlier run of the agent saw, and told, in the same boot."""
        for uid, codes in kept.items():
            self._since[uid] = dict(codes)
            self._told_at.update({(uid, code): at for code in codes})
