"""What of a chip does not answer well, as each call was last asked. Pure.

Calls are made at different periods, so a trouble that a rare call showed stands until that call is
made again: it is told in every scan for as long as it is so, and its end is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chipmedic_collectors.nvidia.codes import CHIP_KINDS, UNKNOWN
from chipmedic_collectors.nvidia.fabric import fabric_trouble, is_waiting
from chipmedic_collectors.nvidia.reply import Answer

LASTING = 2
"""So often in a row makes "unknown error", or a fabric that does not come up, a fault."""


@dataclass(frozen=True, slots=True)
class Troubles:
    """The standing troubles of one chip."""

    calls: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By call: the code that says something of the chip, and how often in a row it came."""
    fabric: str | None = None
    """What is wrong with its place in the NVSwitch fabric."""
    fabric_waits: int = 0

    def after(self, answers: Mapping[str, Answer]) -> Troubles:
        """Return the troubles after more answers; a call that was not made keeps its own."""
        calls = dict(self.calls)
        for name, (code, _) in answers.items():
            last_code, times = calls.pop(name, (0, 0))
            if code in CHIP_KINDS:
                calls[name] = (code, times + 1 if code == last_code else 1)
        if "fabric" not in answers:
            return Troubles(calls, self.fabric, self.fabric_waits)
        waits = self.fabric_waits + 1 if is_waiting(answers["fabric"]) else 0
        trouble = fabric_trouble(answers["fabric"])
        if waits >= LASTING:
            trouble = "NVSwitch fabric: registration does not complete; is the fabric manager up?"
        return Troubles(calls, trouble, waits)

    @property
    def codes(self) -> set[int]:
        """The codes that count as faults of the chip now."""
        return {code for code, times in self.calls.values() if code != UNKNOWN or times >= LASTING}
