"""Why a job did not step for a while: the wait cut into detect, decide, isolate and restart. Pure.

A wait belongs to the incidents whose recoveries restarted the job in it, one after the other; where
there is none, to the incident that told of it first. What comes before the alarm is detection, what
comes before the first act is decision. Stages that took no time are kept with 0 s where an incident
explains the wait: that it was known before the job stood still is worth a line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from chipmedic.model import Severity
from chipmedic.recoverer import StepKind
from chipmedic_watchdog.ledger.history import History, IncidentFact, tick
from chipmedic_watchdog.ledger.phases import Interval, Phase


def explain(
    history: History,
    start: float,
    end: float,
    *,
    is_open: bool,
    sights: Sequence[float] = (),
) -> list[Interval]:
    """Return intervals that fill a wait without a hole.

    `sights`: when processes of a new start were seen that had made no step yet.
    """
    blamed = blame(history, start, end)
    if not blamed:
        stages = list(_without_incident(start, end, sights))
    else:
        stages = []
        for incident, (begin, until) in zip(
            blamed, _parts(history, blamed, start, end), strict=True
        ):
            last = until == end
            stages += _stages(
                history, incident, begin, until, sights,
                is_first=not stages, is_open=is_open and last,
            )  # fmt: skip
    if is_open and stages:
        stages[-1] = replace(stages[-1], is_open=True)
    return stages


def _parts(
    history: History, blamed: Sequence[IncidentFact], start: float, end: float
) -> Iterator[tuple[float, float]]:
    """Yield which part of a wait belongs to each incident: from its alarm on.

    An incident keeps at least the time up to its own restart.
    """
    begins = [start]
    for before, incident in pairwise(blamed):
        acted = [a.started_at for a in history.restarts(start, end) if a.incident == before.id]
        begins.append(max(begins[-1], _clip(max([incident.alarm(start), *acted[:1]]), start, end)))
    return pairwise([*begins, end])


def blame(history: History, start: float, end: float) -> list[IncidentFact]:
    """Return the incidents that a wait belongs to, in their order."""
    by_id = {incident.id: incident for incident in history.incidents}
    ids = dict.fromkeys(act.incident for act in history.restarts(start, end))
    if acted := [by_id[id_] for id_ in ids if id_ in by_id]:
        return acted
    told = [incident for incident in history.incidents if _may_explain(incident, start, end)]

    def order(incident: IncidentFact) -> tuple[bool, int, float, str]:
        is_old = not any(start <= at <= end for at in incident.alarms)
        return (is_old, -incident.severity, incident.alarm(start), incident.id)

    return sorted(told, key=order)[:1]


def _may_explain(incident: IncidentFact, start: float, end: float) -> bool:
    """Say whether an incident was open in a wait; a mere warning must have come in it."""
    if incident.alarms[0] > end or (incident.resolved_at or end) < start:
        return False
    return incident.severity >= Severity.CRITICAL or incident.alarms[0] >= start


def _without_incident(start: float, end: float, sights: Sequence[float]) -> Iterator[Interval]:
    """A person or a scheduler started the job again; until then nobody knows."""
    seen = _clip(sights[0], start, end) if sights else end
    yield Interval(phase=Phase.UNEXPLAINED, start_at=start, end_at=seen)
    if seen < end:
        yield Interval(phase=Phase.RESTART, start_at=seen, end_at=end)


def _stages(
    history: History,
    incident: IncidentFact,
    start: float,
    end: float,
    sights: Sequence[float],
    *,
    is_first: bool,
    is_open: bool,
) -> Iterator[Interval]:
    """Cut the part of a wait that belongs to one incident."""
    acts = [act for act in history.acts_in(start, end) if act.incident == incident.id]
    isolated = [act for act in acts if act.kind == StepKind.ISOLATE.value]
    restarted = [act for act in history.restarts(start, end) if act.incident == incident.id]
    seen = _clip(sights[0], start, end) if sights else end
    acted = _clip(acts[0].started_at, start, end) if acts else seen
    # An act before the alarm (a warning that was answered) leaves nothing to detect.
    alarm = min(_clip(incident.alarm(start), start, end), acted)
    out = acted
    if isolated:
        ends = [end if act.ended_at is None else act.ended_at for act in isolated]
        out = _clip(restarted[0].started_at if restarted else max(ends), acted, end)
    nodes = ", ".join(dict.fromkeys(act.target for act in isolated))
    if is_first:
        yield _interval(Phase.DETECT, start, alarm, incident)
    yield _interval(Phase.DECIDE, alarm, acted, incident)
    if isolated:
        yield _interval(Phase.ISOLATE, acted, out, incident, nodes)
    if out < end or (acts and not is_open):
        yield _interval(Phase.RESTART, out, end, incident)


def _interval(
    phase: Phase, start: float, end: float, incident: IncidentFact, detail: str = ""
) -> Interval:
    return Interval(phase=phase, start_at=start, end_at=end, incident=incident.id, detail=detail)


def _clip(at: float, start: float, end: float) -> float:
    return min(max(tick(at), start), end)
