"""Vendor codes from logs and tools: Xid, SXid, Ascend events, and what else sources say once.

The catalog says what a code means; an event may know better by its own text. What a code opened
ends
- when it asked for nothing more than a look at the program or a restart of the job: after a quiet
  time;
- when it asked for a reset: with a sign that the chip was reset (see `resets`), or a boot;
- when it asked for more: with a boot. A chip that was lost is back when it has answered for a
  while;
- when a tool states it for as long as it is true: when the tool has stopped stating it.

What codes mean together, again and again, or too long is judged by the rules of
`chipmedic.faults.escalation`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chipmedic.faults.escalation import EscalationRules, builtin_rules
from chipmedic.faults.nvlink5 import described
from chipmedic.model import HOST, Change, Event, Scan
from chipmedic_agent.detectors.board import BOOT, FORGET, forgotten, is_boot, key_of
from chipmedic_agent.detectors.code_faults import rebooted
from chipmedic_agent.detectors.code_state import CodesState, Mark
from chipmedic_agent.detectors.code_step import CodeStep
from chipmedic_agent.detectors.occurrences import pruned
from chipmedic_agent.detectors.resets import watch_resets
from chipmedic_agent.detectors.settings import DetectorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """Faults from codes."""

    name: str
    expiry_seconds: float
    rules: EscalationRules = field(default_factory=builtin_rules)

    def start(self) -> CodesState:
        """See `Detector.start`."""
        return CodesState()

    def step(self, state: CodesState, scan: Scan) -> tuple[CodesState, list[Change]]:
        """See `Detector.step`."""
        watch, resets = watch_resets(state.resets, scan)
        work = CodeStep(state, scan, self.rules)
        if is_boot(scan):
            work.board.clear_all(scan.at, "rebooted")
            work.marks.clear()
            work.pending.clear()
        for event in sorted(scan.events, key=self._order):
            if event.code == BOOT:
                work.board.report(rebooted(event, scan))
                work.marks[key_of(HOST, "node.rebooted")] = Mark(seen_at=scan.at)
            elif event.code != FORGET:
                work.take(event, self.expiry_seconds)
        work.judge_pending()
        work.end(self.expiry_seconds, resets)
        work.board.clear_components(forgotten(scan), scan.at, "forgotten")
        next_state = CodesState(
            open=work.board.open,
            marks={key: mark for key, mark in work.marks.items() if key in work.board.open},
            occurrences=pruned(work.occurrences, scan.at),
            jobs=work.jobs,
            resets=watch,
            pending=work.pending,
        )
        return next_state, work.board.changes

    def _order(self, event: Event) -> float:
        """Return when to take an event: a root before the companions of its own moment."""
        kind = event.kind or described(event.code, event.message).kind
        early = [rule.within_seconds for rule in self.rules.companions if kind in rule.of]
        return event.at - max(early, default=0.0)


def code_detectors(settings: DetectorSettings) -> list[Codes]:
    """Return the detector of codes."""
    return [Codes(name="codes", expiry_seconds=settings.expiry_seconds)]
