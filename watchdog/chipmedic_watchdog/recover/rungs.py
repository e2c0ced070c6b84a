"""Plans the steps of a recovery: isolations, and for each job the rung that is due."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, select

from chipmedic.errors import DeliveryFailed, JobGone
from chipmedic.recoverer import Laddered, Recoverer, RecoveryRequest, Rung, Step, StepKind
from chipmedic_watchdog.recover import book
from chipmedic_watchdog.recover.adapters import call
from chipmedic_watchdog.recover.ladder import Choice, JobFacts, Use, next_rung
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Store

ONE_WAY: Mapping[Rung, str] = {Rung.REQUEUE: "", Rung.HOLD: ""}
"""What an adapter can that does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """How one job is restarted."""

    job: str
    choice: Choice
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Asks an adapter for the steps of one recovery; reads, and changes nothing."""

    database: Store
    settings: RecoverSettings
    adapter: Recoverer
    request: RecoveryRequest
    """Of the whole recovery."""
    ladder: tuple[Rung, ...] = tuple(Rung)
    is_looked_at: bool = False
    timeout_seconds: float = 120.0

    @classmethod
    def of(
        cls, database: Store, settings: RecoverSettings, adapter: Recoverer, recovery: book.Recovery
    ) -> Planner:
        """Return the planner of a stored recovery."""
        evidence: Mapping[str, Any] = recovery.evidence
        request = RecoveryRequest(
            incident=recovery.incident,
            reason=str(evidence.get("tag", f"chipmedic:{recovery.incident}")),
            nodes=recovery.nodes,
            jobs=recovery.jobs,
            recovery=recovery.id,
            leaving=tuple(evidence.get("leaving", recovery.nodes)),
            silent=tuple(evidence.get("silent", ())),
        )
        return cls(
            database=database,
            settings=settings,
            adapter=adapter,
            request=request,
            ladder=tuple(Rung(name) for name in evidence.get("ladder", Rung)),
            is_looked_at="retried_by" in evidence,
        )

    async def isolations(self) -> Sequence[Step]:
        """Return the steps that take the nodes out.

        Raises:
            DeliveryFailed: the adapter did not plan them.
        """
        if not self.request.nodes:
            return []
        return await self._plan(replace(self.request, jobs=()))

    async def job(self, job: str, now: float, failed: Mapping[Rung, str] | None = None) -> JobPlan:
        """Choose the rung of one job and plan it; what a second try does not change is HOLD.

        Raises:
            JobGone: there is nothing to restart.
            DeliveryFailed: try again in a moment.
        """
        try:
            choice = await self._choose(job, now, failed)
            if choice.rung is Rung.HOLD:
                return JobPlan(job=job, choice=choice, steps=[_hold(job, choice.words)])
            let_in = await self.database.read(lambda c: nodes_to_let_in(c, job))
            asked = replace(
                self.request, nodes=(), jobs=(job,), rungs={job: choice.rung}, let_in={job: let_in}
            )
            steps = await self._plan(asked)
        except JobGone:
            raise
        except DeliveryFailed as e:
            if not e.is_permanent:
                raise
            words = f"cannot be planned: {e}"
            choice = Choice(rung=Rung.HOLD, skipped={})
            return JobPlan(job=job, choice=choice, steps=[_hold(job, words)])
        return JobPlan(
            job=job, choice=choice, steps=[self._on_rung(step, choice.rung) for step in steps]
        )

    async def _choose(self, job: str, now: float, failed: Mapping[Rung, str] | None) -> Choice:
        leaving, able = self.request.leaving, ONE_WAY
        if isinstance(self.adapter, Laddered):
            ask = self.adapter.rungs
            able = await call(
                self.adapter, lambda: ask(job, leaving), timeout_seconds=self.timeout_seconds
            )
        since = now - self.settings.attempts_window_seconds
        used = await self.database.read(lambda c: rung_uses(c, job, since))
        facts = JobFacts(
            job=job, able=able, used=used, failed=failed,
            is_looked_at=self.is_looked_at,
        )  # fmt: skip
        return next_rung(self.ladder, facts, self.settings, now)

    async def _plan(self, request: RecoveryRequest) -> Sequence[Step]:
        return await call(
            self.adapter,
            lambda: self.adapter.plan(request),
            timeout_seconds=self.timeout_seconds,
        )

    def _on_rung(self, step: Step, rung: Rung) -> Step:
        if step.kind is not StepKind.RESTART:
            return step
        timeout_seconds = self.settings.rung(rung).timeout_seconds
        return replace(step, rung=rung, timeout_seconds=timeout_seconds or step.timeout_seconds)


def rung_uses(connection: Connection, job: str, since: float) -> Collection[Use]:
    """Return which rungs were taken for a job since then."""
    return [Use(rung=rung, at=at) for rung, at in book.rungs_since(connection, job, since)]


def nodes_to_let_in(connection: Connection, job: str) -> tuple[str, ...]:
    """Return the nodes that our restarts kept a job off and that we hold isolated no more.

    What its user excludes is not among them: a step says which nodes were excluded before it.
    """
    table, isolations = schema.recovery_steps, schema.isolations
    mine = select(table.c.arguments).where(
        table.c.kind == StepKind.RESTART.value,
        table.c.target == job,
        table.c.started_at.is_not(None),
    )
    kept_off: set[str] = set()
    for arguments in connection.execute(mine).scalars():
        if "excluded_before" in arguments:
            kept_off |= _names(arguments, "exclude") - _names(arguments, "excluded_before")
    open_ = select(isolations.c.node, isolations.c.undo).where(isolations.c.returned_at.is_(None))
    out = {
        name for row in connection.execute(open_) for name in (row.node, row.undo.get("node", ""))
    }
    return tuple(sorted(kept_off - out))


def _names(arguments: Mapping[str, str], key: str) -> set[str]:
    return {name for name in arguments.get(key, "").split(",") if name}


def _hold(job: str, words: str) -> Step:
    return Step(
        kind=StepKind.RESTART,
        target=job,
        description=f"nothing; a person must look: {words}",
        timeout_seconds=1.0,
        arguments={"why": words},
        rung=Rung.HOLD,
    )
