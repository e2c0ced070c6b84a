"""Writes the policy's decisions down: makes a recovery of a decision, or says why there is none."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from chipmedic.recoverer import Step, StepKind
from chipmedic_watchdog.notify import silences
from chipmedic_watchdog.recover import book, cases, gate
from chipmedic_watchdog.recover.case import Case
from chipmedic_watchdog.recover.policy import Decision
from chipmedic_watchdog.recover.settings import Mode, RecoverSettings
from chipmedic_watchdog.recover.transitions import end
from chipmedic_watchdog.store import schema

ACTING = (Mode.ACT, Mode.PROPOSE)
RETURN_TIMEOUT_SECONDS = 60.0


def record(connection: Connection, case: Case, decision: Decision, now: float) -> bool:
    """Make the store agree with a decision; the same decision twice changes nothing.

    Returns False where a job waits for another recovery's end: then it is to be recorded again.
    """
    history = book.of_incidents(connection, [case.incident.id]).get(case.incident.id, [])
    last = next((r for r in reversed(history) if not r.is_return), None)
    if last is not None and last.state in book.ACTIVE:
        return True
    evidence = _evidence(case, decision)
    if not (decision.is_action and decision.mode in ACTING):
        _record_inaction(connection, case, decision, last, evidence, now)
        return True
    busy = _busy_jobs(connection)
    evidence["jobs"] = [job for job in decision.jobs if job not in busy]
    is_whole = len(evidence["jobs"]) == len(decision.jobs)
    if not (decision.nodes or evidence["jobs"]) or _is_answered(last, evidence):
        return is_whole
    if last is not None and last.state == "proposed":
        end(connection, last, "stopped", "replaced by a newer proposal", now=now)
    _write(connection, case, decision, last, "planned", evidence, now)
    return is_whole


def _record_inaction(
    connection: Connection,
    case: Case,
    decision: Decision,
    last: book.Recovery | None,
    evidence: dict[str, Any],
    now: float,
) -> None:
    """Write down that nothing is done, and why; a finished recovery says enough by itself."""
    if last is not None and last.state == "proposed":
        end(connection, last, "stopped", f"not needed any more: {decision.reason}", now=now)
        return
    if last is None or (last.state == "not_taken" and dict(last.evidence) != evidence):
        _write(connection, case, decision, last, "not_taken", evidence, now)


def _write(
    connection: Connection,
    case: Case,
    decision: Decision,
    last: book.Recovery | None,
    state: str,
    evidence: dict[str, Any],
    now: float,
) -> None:
    """Write a new recovery, or turn the one that was not taken into it."""
    if last is not None and last.state == "not_taken":
        book.change(
            connection,
            last.id,
            now=now,
            adapter=decision.adapter,
            mode=decision.mode.value,
            state=state,
            reason=decision.reason,
            evidence=evidence,
        )
        return
    book.create(
        connection,
        incident=case.incident.id,
        adapter=decision.adapter,
        mode=decision.mode,
        state=state,
        reason=decision.reason,
        evidence=evidence,
        now=now,
    )


def _is_answered(last: book.Recovery | None, evidence: dict[str, Any]) -> bool:
    """Whether a person has this question already, or has answered it: then it is not put again."""
    if last is None or last.state not in ("held", "stopped", "proposed"):
        return False
    if last.evidence.get("reopened", 0) != evidence["reopened"] or book.SUPERSEDED in last.evidence:
        return False
    asked = {*last.nodes, *last.jobs}
    return {*evidence["nodes"], *evidence["jobs"]} <= asked


def _busy_jobs(connection: Connection) -> set[str]:
    """Return the jobs that a recovery under way restarts; a second one waits for its end."""
    return {job for recovery in book.in_states(connection, book.ACTIVE) for job in recovery.jobs}


def _evidence(case: Case, decision: Decision) -> dict[str, Any]:
    """Return what the decision saw, in a form that JSON keeps as it is."""
    return {
        "kind": "recover",
        "nodes": list(decision.nodes),
        "jobs": list(decision.jobs),
        "leaving": list(decision.leaving),
        "silent": list(decision.silent),
        "ladder": [rung.value for rung in decision.ladder],
        "why": decision.why.value,
        "rule": decision.rule,
        "fault": decision.fault,
        "reopened": case.incident.reopened_count,
        "tag": f"chipmedic:{case.incident.id} {case.incident.kind}",
        "faults": [
            {
                "id": fault.id,
                "node": fault.node,
                "component": fault.component,
                "kind": fault.kind,
                "severity": fault.severity.name.lower(),
                "action": fault.action.value,
                "codes": list(fault.codes),
                "is_open": fault.is_open,
            }
            for fault in case.faults
        ],
    }


def expire(connection: Connection, settings: RecoverSettings, now: float) -> None:
    """End the proposals that nobody answered."""
    for recovery in book.in_states(connection, ["proposed"]):
        if now - recovery.updated_at > settings.proposal_valid_seconds:
            hours = settings.proposal_valid_seconds / 3600
            end(connection, recovery, "stopped", f"nobody approved within {hours:g} h", now=now)


def plan_returns(connection: Connection, settings: RecoverSettings, now: float) -> None:
    """Plan to give back the nodes whose incident is resolved and which nothing else keeps out."""
    isolations, incidents = schema.isolations, schema.incidents
    query = (
        select(isolations, incidents.c.reopened_count, incidents.c.resolved_at)
        .join(incidents, incidents.c.id == isolations.c.incident)
        .where(isolations.c.returned_at.is_(None), incidents.c.state == "resolved")
    )
    windows = silences.active(connection, now)
    for row in list(connection.execute(query)):
        if silences.maintained(windows, [row.node]):
            continue  # somebody works on it
        history = book.of_incidents(connection, [row.incident]).get(row.incident, [])
        returns = [r for r in history if r.evidence.get("isolation") == row.id]
        # Once for each time that the incident was resolved: what was offered before the fault came
        # back is no answer to whether the node is well now.
        is_planned = any(r.evidence.get("reopened", 0) == row.reopened_count for r in returns)
        if is_planned or cases.keeps_out(connection, row.node) is not None:
            continue
        is_asked_for = settings.return_mode in ACTING
        if is_asked_for and not gate.admit(connection, row, settings, now):
            continue
        for earlier in returns:
            if earlier.state == "proposed":
                end(connection, earlier, "stopped", "replaced by a newer proposal", now=now)
        plan_return(connection, row, settings.return_mode, row.reopened_count, now=now)


def plan_return(
    connection: Connection,
    isolation: Any,
    mode: Mode,
    reopened_count: int,
    *,
    now: float,
    approved_by: str = "",
) -> str:
    """Write the recovery that gives one node back; return its id."""
    evidence = {
        "kind": "return",
        "nodes": [isolation.node],
        "jobs": [],
        "isolation": isolation.id,
        "reopened": reopened_count,
    }
    if approved_by:
        evidence["approved_by"] = approved_by
    recovery = book.create(
        connection,
        incident=isolation.incident,
        adapter=isolation.adapter,
        mode=mode,
        state="planned" if mode in ACTING else "not_taken",
        reason="the incident is resolved and no fault keeps the node out",
        evidence=evidence,
        now=now,
    )
    step = Step(
        kind=StepKind.RETURN,
        target=isolation.node,
        description=f"give {isolation.node} back",
        timeout_seconds=RETURN_TIMEOUT_SECONDS,
        arguments={str(key): str(value) for key, value in isolation.undo.items()},
    )
    book.add_steps(connection, recovery, [step])
    return recovery
