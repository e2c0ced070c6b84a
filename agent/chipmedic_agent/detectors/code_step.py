"""One step of the detector of codes: events in, changes of faults out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from chipmedic.faults.catalog import CatalogRow, lookup
from chipmedic.faults.escalation import WINDOW_SECONDS_MAX, Companions, EscalationRules
from chipmedic.faults.nvlink5 import described
from chipmedic.metric import Metric
from chipmedic.model import Action, Event, Fault, Reading, Scan, Severity, collector_component
from chipmedic_agent.detectors.board import Board, key_of
from chipmedic_agent.detectors.code_faults import (
    escalated,
    fault_of,
    gravest_of_each_kind,
    outcome_fault,
)
from chipmedic_agent.detectors.code_state import CodesState, Mark
from chipmedic_agent.detectors.escalations import (
    Pending,
    escalations,
    hold_seconds,
    is_ruled,
    split_key,
)
from chipmedic_agent.detectors.occurrences import (
    SAME_SECONDS,
    Occurrence,
    key_of_code,
    program_of,
    repeated_by,
    unit_of,
    with_details,
    with_occurrence,
    with_repeat,
)

SHOWN_INFOS = frozenset({"chip.reset", "node.rebooted"})
"""Infos that open a (short) fault, because they explain what is seen around them."""
WELL_SECONDS = 30.0
"""A chip that was ill by its tool's word and has been well for so long shows no code any more."""
ANSWERS_SECONDS = 60.0
"""A lost chip that has answered for so long is back."""
MESSAGE_MAX = 500
"""Characters that are kept of a message while a rule waits."""
EXPIRING: dict[Action, float] = {
    Action.NONE: 1.0,
    Action.CHECK_APP: 1.0,
    Action.RESTART_JOB: 1.0,
    Action.FIX_NETWORK: 6.0,
    Action.FIX_HOST: 6.0,
}
"""Actions whose faults end by themselves, and after how many expiry times."""


class CodeStep:
    """One step at work: the parts of the state while they change."""

    def __init__(self, state: CodesState, scan: Scan, rules: EscalationRules) -> None:
        self.scan = scan
        self.rules = rules
        self.board = Board(state.open)
        self.marks = dict(state.marks)
        self.occurrences = dict(state.occurrences)
        self.pending = dict(state.pending)
        self.jobs = state.jobs
        if scan.source == "jobs":
            self.jobs = {str(pid): status.job for status in scan.jobs for pid in status.pids}

    def take(self, event: Event, expiry_seconds: float) -> None:
        """Take in one event."""
        row = described(event.code, event.message)
        kind = event.kind or row.kind
        known = self.occurrences.get(key_of_code(event.component, event.code), ())
        repeated = repeated_by(event, self.scan.source, known)
        is_new = repeated is None
        self._remember(event, known, repeated)
        if not is_new and not self._says_more(event, row, known):
            self._see_again(event, row)
            return
        severity = row.severity if event.severity is None else event.severity
        action = row.action if event.action is None else event.action
        if not is_new:
            self._take_back(event, kind, severity)
        if row.is_companion and self._attach(event, action):
            return
        is_old = self.scan.at - event.at >= EXPIRING.get(action, 0.0) * expiry_seconds
        if action in EXPIRING and is_old and event.quiet_seconds is None:
            return  # it was over before anybody looked (the kernel log of a host long up)
        if is_new and is_ruled(self.rules, event.code):
            self._await(event, kind)
        if kind == "info" or (severity is Severity.INFO and kind not in SHOWN_INFOS):
            return
        if is_new and self._is_brought_along(event, row, kind, severity):
            return
        fault = fault_of(event, row, kind, severity, action, self.scan.source)
        is_known = key_of(event.component, kind) in self.board.open
        self._report(replace(fault, count=0) if is_known and not is_new else fault, event)

    def _remember(
        self, event: Event, known: tuple[Occurrence, ...], repeated: Occurrence | None
    ) -> None:
        """Note one more occurrence, or one more word of one that is known."""
        key = key_of_code(event.component, event.code)
        program, unit = program_of(event, self.jobs), unit_of(event.message)
        if repeated is not None:
            fuller = with_details(known, repeated, program=program, unit=unit)
            self.occurrences[key] = with_repeat(fuller, event)
            self._judge_lasting(event)
            return
        occurrence = Occurrence(
            event.at,
            self.scan.source,
            event.id,
            program,
            unit,
            is_lasting=event.quiet_seconds is not None,
        )
        self.occurrences[key] = with_occurrence(known, occurrence)

    def _says_more(self, event: Event, row: CatalogRow, known: tuple[Occurrence, ...]) -> bool:
        """Say whether a word that was told before tells something after all.

        The kernel log's line knows more than the bare number of the event set that came before it.
        A companion that a tool goes on stating has outlasted what it was taken for.
        """
        key = key_of_code(event.component, event.code)
        if event.quiet_seconds is not None:
            if not self.occurrences[key] or not self.occurrences[key][0].is_hidden:
                return False
            newest, *rest = self.occurrences[key]
            self.occurrences[key] = (replace(newest, is_hidden=False), *rest)
            return True
        near = [o for o in known if abs(o.at - event.at) <= SAME_SECONDS]
        if any(o.source == self.scan.source for o in near):
            return False
        differs = (
            event.kind not in (None, row.kind)
            or event.severity not in (None, row.severity)
            or event.action not in (None, row.action)
        )
        return differs or row.code != event.code

    def _take_back(self, event: Event, kind: str, severity: Severity) -> None:
        """Clear what the bare code opened when its own line says that it is something else."""
        key = key_of(event.component, lookup(event.code).kind)
        fault = self.board.open.get(key)
        if fault is None or fault.codes != (event.code,) or fault.source == self.scan.source:
            return
        if severity is Severity.INFO or key != key_of(event.component, kind):
            self.board.clear(key, self.scan.at, "its own line says something else")

    def _see_again(self, event: Event, row: CatalogRow) -> None:
        """Take in another source's word, or a tool's lasting one, of what is open already."""
        key = key_of(event.component, event.kind or row.kind)
        mark = self.marks.get(key)
        if mark is None or key not in self.board.open:
            return
        self.marks[key] = replace(mark, seen_at=max(mark.seen_at, event.at), answers_since=None)
        if event.quiet_seconds is None:
            action = Action.NONE if event.action is None else event.action
            self.board.attach(key, code=event.code, evidence=event.message, action=action)

    def _attach(self, event: Event, action: Action) -> bool:
        """Add a companion to the worst open fault of its component; False: there is none."""
        mine = [key for key, f in self.board.open.items() if f.component == event.component]
        if not mine:
            return False
        worst = max(mine, key=lambda key: (self.board.open[key].severity, self.marks[key].seen_at))
        wish = action if event.action is not None else Action.NONE
        self.board.attach(worst, code=event.code, evidence=event.message, action=wish)
        return True

    def _is_brought_along(
        self, event: Event, row: CatalogRow, kind: str, severity: Severity
    ) -> bool:
        """Attach what follows a grave fault of its part within seconds to that fault."""
        for rule in self.rules.companions:
            if row.vendor != rule.vendor or kind in rule.of | rule.never:
                continue
            root = self._root(event, rule)
            if root is None or severity > self.board.open[root].severity:
                continue
            self.board.attach(root, code=event.code, evidence=event.message)
            key = key_of_code(event.component, event.code)
            newest, *rest = self.occurrences[key]
            self.occurrences[key] = (replace(newest, is_hidden=True), *rest)
            return True
        return False

    def _root(self, event: Event, rule: Companions) -> str | None:
        keys = (key_of(event.component, kind) for kind in sorted(rule.of))
        return next(
            (
                key
                for key in keys
                if key in self.board.open
                and 0 <= event.at - self.marks[key].seen_at <= rule.within_seconds
            ),
            None,
        )

    def _report(self, fault: Fault, event: Event) -> None:
        self._open(fault, event.at, event.quiet_seconds)

    def _open(
        self, fault: Fault, at: float, quiet: float | None, expires: float | None = None
    ) -> None:
        self.board.report(fault)
        known = self.marks.get(fault_key := key_of(fault.component, fault.kind))
        if known is not None:
            quiet = None if known.quiet_seconds is None else quiet
            expires = known.expires_seconds if expires is None else expires
            at = max(known.seen_at, at)
        self.marks[fault_key] = Mark(seen_at=at, quiet_seconds=quiet, expires_seconds=expires)

    # -- rules about more than one event

    def _await(self, event: Event, kind: str) -> None:
        """Let the rules judge a word when its hold is over; the first one sets the time."""
        key = key_of_code(event.component, event.code)
        known = self.pending.get(key)
        hold = hold_seconds(self.rules, is_lasting=event.quiet_seconds is not None)
        self.pending[key] = Pending(
            due_at=event.at + hold if known is None else known.due_at,
            message=event.message[:MESSAGE_MAX],
            kind=kind,
            source=self.scan.source,
        )

    def judge_pending(self) -> None:
        """Open what the rules make of the words whose hold is over."""
        for key, pending in list(self.pending.items()):
            if self.scan.at < pending.due_at:
                continue
            del self.pending[key]
            if self.scan.at - pending.due_at >= WINDOW_SECONDS_MAX:
                continue  # nobody looked for so long that it says nothing about now
            component, code = split_key(key)
            found = escalations(self.rules, self.occurrences, component, code, self.scan.at)
            for escalation in gravest_of_each_kind(found, pending.kind):
                fault = escalated(escalation, code, pending, self.scan.at)
                expires = escalation.outcome.quiet_seconds
                self._open(fault, self.scan.at, None, expires)
            for newest in self.occurrences.get(key, ())[:1]:
                due_at = newest.at + hold_seconds(self.rules, is_lasting=newest.is_lasting)
                if due_at > self.scan.at:
                    self.pending[key] = replace(pending, due_at=due_at)

    def _judge_lasting(self, event: Event) -> None:
        """Open what a tool has stated for longer than a rule tolerates."""
        quiet = event.quiet_seconds
        newest = self.occurrences[key_of_code(event.component, event.code)][:1]
        if quiet is None or not newest or newest[0].began_at is None:
            return
        seconds = event.at - newest[0].began_at
        for rule in self.rules.lasting:
            if event.code not in rule.codes or seconds < rule.bad_seconds:
                continue
            fault = outcome_fault(event.component, rule.outcome, event.at, self.scan.source)
            evidence = (event.message, f"stated for {seconds:.0f} s")
            key = key_of(fault.component, fault.kind)
            if key in self.board.open and event.code in self.board.open[key].codes:
                self.marks[key] = replace(self.marks[key], seen_at=event.at)
            else:
                self._open(replace(fault, codes=(event.code,), evidence=evidence), event.at, quiet)

    def end(self, expiry_seconds: float, resets: Mapping[str, str]) -> None:
        """Clear what is over."""
        values = self.scan.values(Metric.PRESENT)
        present = {str(component): value >= 1 for component, value in values.items()}
        for key, fault in list(self.board.open.items()):
            mark = self.marks[key]
            if mark.quiet_seconds is not None:
                mark = self.marks[key] = self._with_health(fault, mark)
                if self._has_stopped(fault, mark):
                    self.board.clear(key, self.scan.at, "not stated any more")
                continue
            component = str(fault.component)
            factor = EXPIRING.get(fault.action)
            expires = mark.expires_seconds
            if expires is None and factor is not None:
                expires = factor * expiry_seconds
            if expires is not None and self.scan.at - mark.seen_at >= expires:
                self.board.clear(key, self.scan.at, "expired")
            elif component in resets and fault.action is Action.RESET_CHIP:
                self.board.clear(key, self.scan.at, resets[component])
            elif fault.kind == "chip.lost" and component in present:
                self._watch_answers(key, mark, is_present=present[component])

    def _with_health(self, fault: Fault, mark: Mark) -> Mark:
        """Follow the tool's word of health: it is ok only when the chip shows no code."""
        health = self.scan.values(Metric.HEALTH).get(fault.component)
        if health is None:
            return mark
        if health > 0:
            return replace(mark, was_ill=True, well_since=None)
        return mark if mark.well_since is not None else replace(mark, well_since=self.scan.at)

    def _has_stopped(self, fault: Fault, mark: Mark) -> bool:
        """Say whether a tool that stated a code has looked again and states it no more."""
        at = self.scan.at
        if self.scan.source != fault.source or not any(map(_is_sign_of_life, self.scan.readings)):
            return False
        if any(gap.component == collector_component(fault.source) for gap in self.scan.gaps):
            return False
        if mark.was_ill:
            return mark.well_since is not None and at - mark.well_since >= WELL_SECONDS
        return at - mark.seen_at >= (mark.quiet_seconds or 0.0)

    def _watch_answers(self, key: str, mark: Mark, *, is_present: bool) -> None:
        """Clear a lost chip that has answered for a while."""
        since = mark.answers_since if mark.answers_since is not None else self.scan.at
        if not is_present:
            self.marks[key] = replace(mark, answers_since=None)
        elif self.scan.at - since >= ANSWERS_SECONDS:
            self.board.clear(key, self.scan.at, "answers again")
        else:
            self.marks[key] = replace(mark, answers_since=since)


def _is_sign_of_life(reading: Reading) -> bool:
    return reading.metric is not Metric.PRESENT or reading.value >= 1
