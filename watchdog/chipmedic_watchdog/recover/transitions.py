"""The transactions of a recovery: each writes one transition whole, or nothing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, delete, insert, select, update

from chipmedic.model import Severity
from chipmedic.recoverer import FOREIGN, NodeView, Step, StepKind
from chipmedic_watchdog.notify import silences
from chipmedic_watchdog.recover import book, cases, probation, safety
from chipmedic_watchdog.recover.policy import decide, needs_witness
from chipmedic_watchdog.recover.rungs import JobPlan
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.store import audit, schema
from chipmedic_watchdog.store.database import token_of


class Held(Exception):
    """The recovery cannot go on now: a limit holds it, or it needs a person."""

    def __init__(self, words: str, by: str = "") -> None:
        super().__init__(words)
        self.by = by
        """The limit; empty: a person must look."""


class Stopped(Exception):
    """The recovery is not needed any more."""

    def __init__(self, words: str, *, is_answer: bool = True) -> None:
        super().__init__(words)
        self.is_answer = is_answer
        """False: nobody has answered anything; where it is asked for again, it is done."""


def write_intent(
    connection: Connection,
    recovery: book.Recovery,
    stored: book.StoredStep,
    settings: RecoverSettings,
    *,
    views: Mapping[str, NodeView] | None,
    now: float,
) -> safety.Refusal | None:
    """Check every limit against the present and write the intent, in one transaction.

    Returns the limit that says no; then no intent is written, but the transaction is to be kept:
    it holds where the breaker stands.

    Raises:
        Stopped: the incident is resolved, or a person stopped the recovery.
        Held: a fault keeps the node out.
    """
    present = book.find(connection, recovery.id)
    if present is None or present.state != "running":
        raise Stopped(f"stopped by a person before: {stored.step.description}")
    _check_need(connection, recovery, stored.step.target)
    if not recovery.is_return and "retried_by" not in present.evidence:
        _check_cause(connection, recovery, stored, settings, views, now)
    refused = safety.refusal(connection, recovery, stored, settings, views, now)
    if refused is not None:
        return refused
    token = token_of(connection)
    book.change_step(connection, stored, state="doing", started_at=now, fencing_token=token)
    if stored.step.kind is StepKind.ISOLATE:
        _reserve(connection, recovery, stored, now)
    audit.append(
        connection,
        at=now,
        who=str(recovery.evidence.get("approved_by", "chipmedic")),
        act=stored.step.kind.value,
        target=stored.step.target,
        recovery=recovery.id,
        incident=recovery.incident,
        why=recovery.reason,
        rule=recovery.evidence.get("rule", ""),
        fencing_token=token,
    )
    return None


def _check_need(connection: Connection, recovery: book.Recovery, target: str) -> None:
    """See that the recovery is still wanted; much may have passed since it was planned."""
    if recovery.is_return:
        if not _is_still_out(connection, recovery):
            raise Stopped(f"{target} was given back before")
        by_person = "approved_by" in recovery.evidence
        kind = cases.keeps_out(connection, target, by_person=by_person)
        if kind is not None:
            words = f"return {target}: {kind} is open on it again"
            raise Held(words, safety.HeldBy.FAULT)
    elif _is_resolved(connection, recovery.incident):
        raise Stopped("the incident is resolved")


def _check_cause(
    connection: Connection,
    recovery: book.Recovery,
    stored: book.StoredStep,
    settings: RecoverSettings,
    views: Mapping[str, NodeView] | None,
    now: float,
) -> None:
    """Decide anew about what a step is for: the fault may be over, or somebody at work there.

    A restart is asked about only where it is the first act: after an isolation, or after a rung
    that did not help, it is what is left of half a recovery.

    Raises:
        Stopped: the incident does not ask for it any more.
    """
    is_isolation = stored.step.kind is StepKind.ISOLATE
    begun = [s for s in book.steps(connection, recovery.id) if s.started_at is not None]
    if not is_isolation and any(s.number != stored.number for s in begun):
        return
    name, target = f"{stored.step.kind.value} {stored.step.target}", stored.step.target
    if is_isolation and silences.maintained(silences.active(connection, now), [target]):
        raise Stopped(f"{name}: in a maintenance window now", is_answer=False)
    for case in cases.load(connection, recovery.incident):
        if needs_witness(case) and views is None:
            return  # nobody can say now; what was decided stands
        whole = replace(case, views=views, on_probation=probation.nodes(connection, settings, now))
        decision = decide(whole, settings, [recovery.adapter])
        wanted = decision.leaving if is_isolation else decision.jobs
        if target not in wanted:
            raise Stopped(f"{name}: not asked for any more: {decision.reason}", is_answer=False)


def _is_still_out(connection: Connection, recovery: book.Recovery) -> bool:
    """Whether the isolation that a return ends is still ours to end."""
    table = schema.isolations
    query = select(table.c.id).where(
        table.c.id == recovery.evidence.get("isolation"), table.c.returned_at.is_(None)
    )
    return connection.execute(query).first() is not None


def _reserve(
    connection: Connection, recovery: book.Recovery, stored: book.StoredStep, now: float
) -> None:
    """Count the node as out from the intent on, so that two intents cannot share one place."""
    table = schema.isolations
    ours = (table.c.node == stored.step.target) & (table.c.incident == recovery.incident)
    if connection.execute(select(table.c.id).where(ours, table.c.returned_at.is_(None))).first():
        return  # reserved by the try before
    connection.execute(
        insert(table).values(
            node=stored.step.target,
            adapter=recovery.adapter,
            incident=recovery.incident,
            reason=stored.step.arguments.get("reason", recovery.reason),
            undo=stored.step.arguments,
            isolated_at=now,
            device=_device(recovery, stored.step.target),
        )
    )


def _device(recovery: book.Recovery, node: str) -> str:
    """Return the component of the worst fault that the decision saw on a node."""
    mine = [fault for fault in recovery.evidence.get("faults", ()) if fault["node"] == node]
    worst = max(mine, key=lambda fault: Severity[fault["severity"].upper()], default=None)
    return "" if worst is None else str(worst["component"])


def write_plan(
    connection: Connection,
    recovery: book.Recovery,
    steps: Sequence[Step],
    plans: Sequence[JobPlan],
    *,
    now: float,
) -> None:
    """Write the steps, and for each job the rung with the reasons against those before it."""
    book.add_steps(connection, recovery.id, steps)
    _keep_choices(connection, recovery.id, plans, now)


def fall(
    connection: Connection,
    recovery: book.Recovery,
    stored: book.StoredStep,
    plan: JobPlan,
    *,
    why: str,
    now: float,
) -> None:
    """Give a rung up and write the next one, in one transaction.

    Raises:
        Stopped: a person ended the recovery meanwhile.
    """
    book.change_step(connection, stored, state=book.GIVEN_UP, detail=why, done_at=now)
    book.add_steps(connection, recovery.id, plan.steps)
    _keep_choices(connection, recovery.id, [plan], now)
    advance(connection, recovery.id, "running", now=now)
    audit.append(
        connection, at=now, who="chipmedic", act="next rung", target=stored.step.target,
        recovery=recovery.id, incident=recovery.incident, rung=plan.choice.rung.value, why=why,
    )  # fmt: skip


def _keep_choices(
    connection: Connection, recovery: str, plans: Sequence[JobPlan], now: float
) -> None:
    present = book.find(connection, recovery)
    if present is None or not plans:
        return
    kept = dict(present.evidence.get("rungs", {}))
    for plan in plans:
        skipped = {rung.value: why for rung, why in plan.choice.skipped.items()}
        kept[plan.job] = {"rung": plan.choice.rung.value, "skipped": skipped}
    book.change(connection, recovery, now=now, evidence={**present.evidence, "rungs": kept})


def keep_undo(
    connection: Connection,
    recovery: book.Recovery,
    stored: book.StoredStep,
    undo: Mapping[str, str],
) -> None:
    """Keep what the world was before; a node that somebody else took out is not our isolation."""
    book.change_step(connection, stored, undo=dict(undo))
    if stored.step.kind is not StepKind.ISOLATE:
        return
    table = schema.isolations
    ours = (table.c.node == stored.step.target) & (table.c.incident == recovery.incident)
    is_open = table.c.returned_at.is_(None)
    if undo.get("owner") == FOREIGN:
        connection.execute(delete(table).where(ours & is_open))
    else:
        kept = {**stored.step.arguments, **undo}
        connection.execute(update(table).where(ours & is_open).values(undo=kept))


def finish_step(
    connection: Connection, stored: book.StoredStep, *, detail: str, now: float
) -> None:
    """Write that a step is done and was confirmed."""
    book.change_step(connection, stored, state="done", done_at=now, detail=detail)
    if stored.step.kind is StepKind.RETURN:
        table = schema.isolations
        ours = (table.c.node == stored.step.target) & table.c.returned_at.is_(None)
        connection.execute(update(table).where(ours).values(returned_at=now))


def advance(connection: Connection, recovery: str, state: str, *, now: float) -> None:
    """Move a recovery on.

    Raises:
        Stopped: a person ended it meanwhile.
    """
    present = book.find(connection, recovery)
    if present is None or present.state not in book.ACTIVE:
        raise Stopped("stopped by a person")
    book.change(connection, recovery, now=now, state=state)


def end(
    connection: Connection,
    recovery: book.Recovery,
    state: str,
    detail: str,
    *,
    now: float,
    held_by: str = "",
    is_answer: bool = True,
) -> None:
    """Write how a recovery ended, and why; where a person has ended it, their word stands.

    `is_answer` False: the same may be planned again, for nobody has said no.
    """
    present = book.find(connection, recovery.id)
    if present is not None and present.state == "stopped":
        return
    if not is_answer and present is not None:
        evidence = {**present.evidence, book.SUPERSEDED: True}
        book.change(connection, recovery.id, now=now, evidence=evidence)
    book.change(connection, recovery.id, now=now, state=state, detail=detail, held_by=held_by)
    audit.append(
        connection,
        at=now,
        who="chipmedic",
        act=f"recovery {state}",
        target=recovery.id,
        incident=recovery.incident,
        why=detail,
    )


def _is_resolved(connection: Connection, incident: str) -> bool:
    table = schema.incidents
    state = connection.execute(select(table.c.state).where(table.c.id == incident)).scalar()
    return state is None or state == "resolved"
