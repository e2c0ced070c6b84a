"""The wall around detectors: a rule that breaks on one scan costs that scan for that rule alone.

A defect in a rule must not blind the node. Without this wall one kernel record that a rule cannot
bear would end the process, be read again after the restart, and end it again, for ever. The defect
is not hidden: it is logged with its traceback, counted, and an open fault of the node until the
rule has worked for a while.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from chipmedic.detector import Detector
from chipmedic.faults.kinds import KINDS
from chipmedic.model import (
    Change,
    Cleared,
    Component,
    ComponentKind,
    Fault,
    Raised,
    Scan,
)

HOLDER = "rule wall"
"""The name under which these faults stand in the fault book."""
QUIET_SECONDS = 600.0
"""How long a rule must work again before its fault ends."""
KIND = KINDS["collector.failed"]

logger = logging.getLogger(__name__)


class RuleWall:
    """Lets detectors judge, and keeps account of those that break."""

    def __init__(self) -> None:
        self.defects: Counter[str] = Counter()
        """Broken steps by detector."""
        self._open: dict[str, tuple[Fault, float]] = {}
        self._told: dict[str, str] = {}

    def step(
        self, name: str, detector: Detector[Any], state: Any, scan: Scan
    ) -> tuple[Any, list[Change]]:
        """Do what `detector.step` does; a broken step leaves the state as it was."""
        try:
            return detector.step(state, scan)
        except Exception as e:  # noqa: BLE001 - the wall around one rule (decision 7)
            self._note(name, scan, e)
            return state, []

    def changes(self, at: float) -> list[Change]:
        """Return the faults of rules that broke just now, and of those that work again."""
        changes: list[Change] = []
        for name, (fault, broke_at) in list(self._open.items()):
            if broke_at == at:
                changes.append(Raised(fault))
            elif at - broke_at >= QUIET_SECONDS:
                del self._open[name]
                changes.append(Cleared(fault, at, f"no defect for {QUIET_SECONDS:g} s"))
        return changes

    def _note(self, name: str, scan: Scan, error: Exception) -> None:
        self.defects[name] += 1
        if self._told.get(name) != repr(error):
            self._told[name] = repr(error)
            logger.error("rule broke: rule=%s source=%s", name, scan.source, exc_info=error)
        what = f"{type(error).__name__}: {error}"
        evidence = tuple(event.message for event in scan.events[:2])
        known = self._open.get(name)
        self._open[name] = (
            Fault(
                component=Component(ComponentKind.COLLECTOR, f"rule/{name}"),
                kind=KIND.name,
                severity=KIND.severity,
                action=KIND.action,
                since=known[0].since if known else scan.at,
                summary=f"a defect of chipmedic: rule {name} broke on a scan of {scan.source}: "
                f"{what}; its other scans are judged; please report it",
                source=scan.source,
                evidence=evidence,
            ),
            scan.at,
        )
