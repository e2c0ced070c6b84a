"""What has been made of one chip's answers: readings, gaps, and how a raw value becomes either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chipmedic.metric import Metric
from chipmedic.model import Component, Gap, GapReason, Reading, chip_component
from chipmedic_collectors.nvidia.codes import gap_reason, words
from chipmedic_collectors.nvidia.reply import SUCCESS, Answer

COUNTER_MAX = (1 << 63) - 1


@dataclass(slots=True)
class ChipReadings:
    """What has been made of one chip's answers so far."""

    uid: str
    answers: Mapping[str, Answer]
    readings: list[Reading] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def component(self) -> Component:
        """The chip."""
        return chip_component(self.uid)

    def read(self, metric: Metric, value: float, component: Component | None = None) -> None:
        """Note a value."""
        self.readings.append(Reading(component or self.component, metric, value))

    def miss(self, metric: Metric, code: int, component: Component | None = None) -> None:
        """Note a value whose call answered a code."""
        self._gap(metric, gap_reason(code), words(code), component)

    def doubt(self, metric: Metric, value: Any, component: Component | None = None) -> None:
        """Note a value that cannot be true."""
        self._gap(metric, GapReason.MALFORMED, f"{value!r} cannot be true", component)

    def judge(
        self,
        metric: Metric,
        answer: Answer,
        *,
        largest: int = COUNTER_MAX,
        scale: float = 1.0,
        component: Component | None = None,
    ) -> None:
        """Note a whole number from 0 to `largest` as a value, anything else as a gap."""
        code, value = answer
        if code != SUCCESS:
            self.miss(metric, code, component)
        elif is_whole(value, largest):
            self.read(metric, value * scale, component)
        else:
            self.doubt(metric, value, component)

    def skip(self, metric: Metric, why: str) -> None:
        """Note a value that says nothing here."""
        self._gap(metric, GapReason.UNSUPPORTED, why, None)

    def _gap(
        self, metric: Metric, reason: GapReason, detail: str, component: Component | None
    ) -> None:
        self.gaps.append(Gap(component or self.component, metric, reason, detail))


def is_whole(value: Any, largest: int = COUNTER_MAX) -> bool:
    """Say whether a raw value is a whole number from 0 to `largest`."""
    return type(value) is int and 0 <= value <= largest


def is_row(value: Any, length: int) -> bool:
    """Say whether a raw value is a list of so many whole numbers."""
    return isinstance(value, list) and len(value) == length and all(is_whole(v) for v in value)
