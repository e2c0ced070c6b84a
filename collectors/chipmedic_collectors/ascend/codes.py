"""Error codes of a chip: a list of what is wrong now, turned into one event per beginning."""

from __future__ import annotations

import re
from collections.abc import Mapping

from chipmedic import Component, Event

_EVENT_LINE = re.compile(r"^.*event[ _]id.*$", re.IGNORECASE | re.MULTILINE)
_INFORMATION = re.compile(r"^\s*Error Information\s*:\s?(.*)$", re.MULTILINE)
_MORE = re.compile(r"^\s+:\s?(.*)$", re.MULTILINE)


REMIND_SECONDS = 300.0
"""A code that stays is told again this often, with the same `Event.id`: a fault that expires
without repeats stays open for as long as the chip shows it."""


class ActiveCodes:
    """Which codes each chip showed when it was last asked, and since when.

    A code that stays is one occurrence and keeps its id. One that went and came back is a new
    occurrence: the vendor's rules count those.
    """

    def __init__(self) -> None:
        self._since: dict[str, dict[str, float]] = {}
        self._told_at: dict[tuple[str, str], float] = {}

    def events(self, component: Component, words: Mapping[str, str], at: float) -> list[Event]:
        """Take the codes that a chip shows now, with their words; return those to tell now."""
        uid = component.name
        before = self._since.get(uid, {})
        self._since[uid] = {code: before.get(code, at) for code in words}
        events = []
        for code, since in self._since[uid].items():
            if code not in before or at - self._told_at.get((uid, code), 0.0) >= REMIND_SECONDS:
                self._told_at[uid, code] = at
                events.append(_event(component, code, words[code], since, at))
        return events

    def kept(self) -> dict[str, dict[str, float]]:
        """Return the codes that are active, for `restore`."""
        return {uid: dict(codes) for uid, codes in self._since.items() if codes}

    def restore(self, kept: Mapping[str, Mapping[str, float]], at: float) -> None:
        """Take over what an earlier run of the agent saw, and told, in the same boot."""
        for uid, codes in kept.items():
            self._since[uid] = dict(codes)
            self._told_at.update({(uid, code): at for code in codes})


def _event(component: Component, code: str, words: str, since: float, at: float) -> Event:
    return Event(
        component=component,
        code=f"ascend:{code}",
        message=words,
        at=at,
        id=f"{component}/ascend:{code}@{since:.0f}",
    )


def words_of(codes: list[str], text: str) -> dict[str, str]:
    """Return the tool's own words for each code; the code alone where it has none."""
    lines = [line.strip() for line in _EVENT_LINE.findall(text)]
    if not lines:
        start = _INFORMATION.search(text)
        told = [start[1], *_MORE.findall(text, start.end())] if start else []
        if len(told) == len(codes):
            lines = [f"Error Code {c}: {t.strip()}" for c, t in zip(codes, told, strict=True)]
    return {
        code: next((line for line in lines if code in line.upper()), f"Error Code {code}")
        for code in codes
    }
