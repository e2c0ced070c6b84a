"""What would be done about an incident now, with the exact commands; nothing is done.

It goes the way of the real thing: the same decision, the adapter's own plan, the same limits. What
the limits write on the way (a place in a budget, where the breaker stands) is undone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, insert

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import NodeView, Recoverer, RecoveryRequest, Step, StepKind
from chipmedic_watchdog.recover import adapters as adapters_of
from chipmedic_watchdog.recover import book, cases, probation, safety
from chipmedic_watchdog.recover.case import Case
from chipmedic_watchdog.recover.checkpoint import before_restarts, requests
from chipmedic_watchdog.recover.policy import Decision, decide
from chipmedic_watchdog.recover.rungs import Planner
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Store

PLAN_TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """Asks for plans; holds nothing."""

    database: Store
    settings: RecoverSettings
    adapters: Mapping[str, Recoverer]
    watch: adapters_of.Watch

    async def plan(self, incident: str, now: float) -> dict[str, Any] | None:
        """Return what would be done about an incident; None: it is not open."""
        case = await self.database.read(lambda c: _case(c, incident, self.settings, now))
        if case is None:
            return None
        nodes = await self.database.read(cases.known_nodes)
        views: dict[str, NodeView] = {}
        troubles: list[str] = []
        for name in self.adapters:
            try:
                views.update(await self.watch.views(name, nodes, oldest_seconds=2.0) or {})
            except DeliveryFailed as e:
                troubles.append(f"{name} does not say how its nodes are: {e}")
        decision = decide(replace(case, views=views), self.settings, self.adapters)
        steps: Sequence[Step] = ()
        if decision.is_action:
            try:
                steps = await self._steps(case, decision, now)
            except DeliveryFailed as e:
                troubles.append(f"cannot be planned: {e}")
        refusals = await self.database.read(
            lambda c: _refusals(c, steps, self.settings, views, now)
        )
        return _answer(case, decision, steps, refusals) | {"troubles": troubles}

    async def _steps(self, case: Case, decision: Decision, now: float) -> Sequence[Step]:
        planner = Planner(
            database=self.database,
            settings=self.settings,
            adapter=self.adapters[decision.adapter],
            request=RecoveryRequest(
                incident=case.incident.id,
                reason=f"chipmedic:{case.incident.id} {case.incident.kind}",
                nodes=decision.nodes,
                jobs=decision.jobs,
                recovery="rec-000000",
                leaving=decision.leaving,
                silent=decision.silent,
            ),
            ladder=decision.ladder,
            timeout_seconds=PLAN_TIMEOUT_SECONDS,
        )
        steps = [*await planner.isolations()]
        for job in decision.jobs:
            steps += (await planner.job(job, now)).steps
        if self.settings.checkpoint is None:
            return steps
        return before_restarts(steps, requests(self.settings.checkpoint, planner.request))


def _case(
    connection: Connection, incident: str, settings: RecoverSettings, now: float
) -> Case | None:
    on_probation = probation.nodes(connection, settings, now)
    found = (case for case in cases.load(connection) if case.incident.id == incident)
    return next((replace(case, on_probation=on_probation) for case in found), None)


def _refusals(
    connection: Connection,
    steps: Sequence[Step],
    settings: RecoverSettings,
    views: Mapping[str, NodeView],
    now: float,
) -> list[str]:
    """Return for each step why it would not begin now, or nothing; each counts the ones before."""
    recovery = book.Recovery(
        id="", incident="", adapter="", mode=settings.mode, state="", reason="", evidence={},
        created_at=now, updated_at=now,
    )  # fmt: skip
    words: list[str] = []
    for number, step in enumerate(steps, 1):
        stored = book.StoredStep(recovery="", number=number, step=step, state="planned")
        refused = safety.refusal(connection, recovery, stored, settings, views, now)
        words.append("" if refused is None else refused.words)
        has_more = any(later.kind is StepKind.ISOLATE for later in steps[number:])
        if refused is None and step.kind is StepKind.ISOLATE and has_more:
            connection.execute(
                insert(schema.isolations).values(
                    node=step.target, adapter="", incident="", reason="", undo={}, isolated_at=now
                )
            )
    return words


def _answer(
    case: Case, decision: Decision, steps: Sequence[Step], refusals: Sequence[str]
) -> dict[str, Any]:
    return {
        "incident": case.incident.id,
        "mode": decision.mode.value,
        "rule": decision.rule,
        "reason": decision.reason,
        "adapter": decision.adapter,
        "nodes": list(decision.nodes),
        "jobs": list(decision.jobs),
        "steps": [
            {
                "kind": step.kind.value,
                "target": step.target,
                "description": step.description,
                "timeout_seconds": step.timeout_seconds,
                "rung": "" if step.rung is None else step.rung.value,
                "refused": refused,
            }
            for step, refused in zip(steps, refusals, strict=True)
        ],
    }
