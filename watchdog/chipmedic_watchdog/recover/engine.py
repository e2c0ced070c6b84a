"""Carries recoveries out: intent, do, confirm; the store knows each before the world changes.

Whatever is killed, and wherever, the same call of `carry_out` after the restart goes on: an intent
that was written is done (the adapter finds what is done already), and a step is `done` only after
the adapter has read the world again. What does not come true in its time is `held`, with the
reason.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from chipmedic.errors import DeliveryFailed, JobGone
from chipmedic.recoverer import (
    ENDED,
    GOES_ON_AS,
    NodeView,
    Recoverer,
    Rung,
    Step,
    StepKind,
    StepResult,
)
from chipmedic_watchdog.recover import book, cases, transitions
from chipmedic_watchdog.recover.adapters import Watch, call, with_token
from chipmedic_watchdog.recover.checkpoint import Checkpoint, before_restarts
from chipmedic_watchdog.recover.rungs import JobPlan, Planner
from chipmedic_watchdog.recover.settings import Mode, RecoverSettings
from chipmedic_watchdog.recover.transitions import Held, Stopped
from chipmedic_watchdog.recover.verify import jobs_still
from chipmedic_watchdog.store.database import Store

LOGGER = logging.getLogger(__name__)

PLAN_TIMEOUT_SECONDS = 120.0
"""A plan waits for jobs that are just ending: Slurm's KillWait is 30 s, others set more."""
RETRY_LONGEST_SECONDS = 15.0
VIEW_OLDEST_SECONDS = 2.0
KEPT_LATE = frozenset({GOES_ON_AS, ENDED})
"""Keys of `undo` that come true after the act; the rest is what was before it."""

Plan = TypeVar("Plan")


class Engine:
    """Works on one recovery per call; calls for different recoveries run beside one another."""

    def __init__(
        self,
        database: Store,
        settings: RecoverSettings,
        adapters: Mapping[str, Recoverer],
        *,
        checkpoint: Checkpoint | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._checkpoint = checkpoint
        self._database = database
        self._settings = settings
        self._adapters = adapters
        self._watch = Watch(adapters)
        self._now = now

    async def carry_out(self, recovery_id: str) -> None:
        """Bring a recovery from the state that the store tells to its end, or to a person."""
        recovery = await self._database.read(lambda c: book.find(c, recovery_id))
        if recovery is None or recovery.state not in book.ACTIVE:
            return
        try:
            await self._go_on(recovery)
        except Held as e:
            LOGGER.warning("recovery held: id=%s why=%s", recovery_id, e)
            await self._end(recovery, "held", str(e), held_by=e.by)
        except Stopped as e:
            LOGGER.info("recovery stopped: id=%s why=%s", recovery_id, e)
            await self._end(recovery, "stopped", str(e), is_answer=e.is_answer)

    async def _go_on(self, recovery: book.Recovery) -> None:
        adapter = self._adapters.get(recovery.adapter)
        if adapter is None:
            raise Held(f"the adapter {recovery.adapter!r} is not configured any more")
        if recovery.state == "planned":
            await self._plan(recovery, adapter)
            if recovery.mode is Mode.PROPOSE and "approved_by" not in recovery.evidence:
                await self._advance(recovery, "proposed")
                return
            await self._advance(recovery, "running")
        is_verifying = recovery.state == "verifying"
        while True:
            if not is_verifying:
                await self._perform_all(recovery, adapter)
                await self._advance(recovery, "verifying")
            is_verifying = False
            if await self._verify(recovery, adapter):
                break
        await self._end(recovery, "done", "")

    async def _plan(self, recovery: book.Recovery, adapter: Recoverer) -> None:
        """Plan, once: a plan that stands is not made again."""
        if await self._steps(recovery):
            return
        planner = Planner.of(self._database, self._settings, adapter, recovery)
        deadline = time.monotonic() + PLAN_TIMEOUT_SECONDS
        steps = await self._planned(planner.isolations, deadline)
        plans: list[JobPlan] = []
        for job in recovery.jobs:
            with suppress(JobGone):
                ask = partial(planner.job, job, self._now())
                plans.append(await self._planned(ask, deadline))
        if not (steps or plans):
            raise Stopped(f"{', '.join(recovery.jobs)}: not there any more")
        # What a person must look at comes last: it keeps no other job waiting.
        plans.sort(key=lambda plan: plan.choice.rung is Rung.HOLD)
        steps = [*steps, *(step for plan in plans for step in plan.steps)]
        if self._checkpoint is not None:
            steps = before_restarts(steps, self._checkpoint.plan(planner.request))
        whole = steps
        now = self._now()
        await self._database.write(
            lambda c: transitions.write_plan(c, recovery, whole, plans, now=now)
        )

    async def _planned(self, ask: Callable[[], Awaitable[Plan]], deadline: float) -> Plan:
        """Ask for a plan until there is one."""
        failures = 0
        while True:
            try:
                return await ask()
            except JobGone:
                raise
            except DeliveryFailed as e:
                failures += 1
                if e.is_permanent or time.monotonic() > deadline:
                    raise Held(f"cannot be planned: {e}") from e
            await asyncio.sleep(self._backoff_seconds(failures))

    async def _perform_all(self, recovery: book.Recovery, adapter: Recoverer) -> None:
        """Do the steps in order; a job that needs a person keeps no other job waiting."""
        held: dict[int, Held] = {}
        while True:
            steps = await self._steps(recovery)
            left = [s for s in steps if s.state not in book.FINISHED and s.number not in held]
            if not left:
                break
            stored = left[0]
            try:
                await self._perform(recovery, adapter, stored)
            except Held as e:
                if e.by or stored.step.kind is not StepKind.RESTART:
                    raise
                held[stored.number] = e
        if held:
            raise Held("; ".join(str(e) for e in held.values()))

    async def _perform(
        self, recovery: book.Recovery, adapter: Recoverer, stored: book.StoredStep
    ) -> None:
        """Try a step until it is confirmed, its time is over, or its tries are used up."""
        step = stored.step
        if stored.state == "failed":
            raise Held(f"{_name(step)}: {stored.detail}")
        deadline = time.monotonic() + step.timeout_seconds
        failures = 0
        if step.rung is Rung.HOLD:
            return await self._give_up(recovery, adapter, stored, step.arguments["why"])
        while True:
            try:
                result = await self._try(recovery, adapter, stored.number)
                if result.is_done:
                    return None
                detail = result.detail
            except JobGone as e:
                return await self._finish(stored, f"not there any more: {e}")
            except DeliveryFailed as e:
                failures += 1
                detail = str(e)
                await self._note_failure(stored, failures, detail)
                if e.is_permanent or failures >= self._settings.maximum_step_attempts:
                    return await self._give_up(recovery, adapter, stored, detail)
            if time.monotonic() > deadline:
                words = f"not within {step.timeout_seconds:g} s: {detail}"
                return await self._give_up(recovery, adapter, stored, words)
            await asyncio.sleep(self._backoff_seconds(failures))

    async def _give_up(
        self, recovery: book.Recovery, adapter: Recoverer, stored: book.StoredStep, why: str
    ) -> None:
        """Leave a step that does not come true: the next rung is due, or a person must look.

        Raises:
            Held: no rung is left, or it is no restart.
        """
        step = stored.step
        if step.kind is StepKind.CHECKPOINT:
            return await self._finish(stored, f"it goes on without: {why}")
        if step.kind is StepKind.RESTART:
            plan = await self._next_rung(recovery, adapter, stored, why)
            if plan is not None and plan.choice.rung is not Rung.HOLD:
                LOGGER.info(
                    "next rung: id=%s job=%s rung=%s why=%s",
                    recovery.id, step.target, plan.choice.rung.value, why,
                )  # fmt: skip
                now = self._now()
                return await self._database.write(
                    lambda c: transitions.fall(c, recovery, stored, plan, why=why, now=now)
                )
        await self._database.write(
            lambda c: book.change_step(c, stored, state="failed", detail=why)
        )
        raise Held(f"{_name(step)}: {why}")

    async def _next_rung(
        self, recovery: book.Recovery, adapter: Recoverer, stored: book.StoredStep, why: str
    ) -> JobPlan | None:
        """Return what is due after a rung has failed; None: it cannot be found out."""
        job = stored.step.target
        tried = [s for s in await self._steps(recovery) if s.step.target == job]
        failed = {s.step.rung: s.detail for s in tried if s.step.rung and s.state == book.GIVEN_UP}
        if stored.step.rung is not None:
            failed[stored.step.rung] = why
        failed.pop(Rung.HOLD, None)
        planner = Planner.of(self._database, self._settings, adapter, recovery)
        try:
            return await planner.job(job, self._now(), failed)
        except DeliveryFailed:
            return None

    async def _try(self, recovery: book.Recovery, adapter: Recoverer, number: int) -> StepResult:
        """Do a step from where the store says it is, and read the world again when it is done."""
        stored = (await self._steps(recovery))[number - 1]
        step = stored.step
        if step.kind is StepKind.CHECKPOINT and self._checkpoint is not None:
            adapter = self._checkpoint
        if stored.state != "doing":
            await self._intend(recovery, stored)
        # At the last moment: one that was stopped and goes on may have been replaced meanwhile.
        self._database.assert_leading()
        act = with_token(step, self._database.fencing_token)
        result = await call(adapter, lambda: adapter.do(act), timeout_seconds=step.timeout_seconds)
        if result.undo and (not stored.undo or not KEPT_LATE.isdisjoint(result.undo)):
            undo = {**stored.undo, **result.undo}
            await self._database.write(lambda c: transitions.keep_undo(c, recovery, stored, undo))
        if not result.is_done:
            return result
        confirmed = await call(
            adapter, lambda: adapter.confirm(act), timeout_seconds=step.timeout_seconds
        )
        if confirmed.is_done:
            now = self._now()
            await self._database.write(
                lambda c: transitions.finish_step(c, stored, detail=result.detail, now=now)
            )
            LOGGER.info(
                "recovery step done: id=%s step=%s target=%s detail=%s",
                recovery.id,
                step.kind.value,
                step.target,
                result.detail,
            )
        return confirmed

    async def _intend(self, recovery: book.Recovery, stored: book.StoredStep) -> None:
        """Look at all nodes where the budget needs it, then check and write the intent."""
        views: Mapping[str, NodeView] | None = None
        if stored.step.kind is StepKind.ISOLATE:
            nodes = await self._database.read(cases.known_nodes)
            views = await self._watch.views(
                recovery.adapter, nodes, oldest_seconds=VIEW_OLDEST_SECONDS
            )
        now = self._now()
        refused = await self._database.write(
            lambda c: transitions.write_intent(
                c, recovery, stored, self._settings, views=views, now=now
            )
        )
        if refused is not None:
            raise Held(f"{_name(stored.step)}: {refused.words}", refused.by)

    async def _verify(self, recovery: book.Recovery, adapter: Recoverer) -> bool:
        """See that the restarted jobs move again and that the isolation still holds.

        Returns False where a job did not move and its next rung is due.
        """
        deadline = time.monotonic() + self._settings.verify_timeout_seconds
        while still := await self._database.read(lambda c: jobs_still(c, recovery.id)):
            if time.monotonic() > deadline:
                return await self._fall(recovery, adapter, still)
            await asyncio.sleep(self._settings.retry_seconds)
        for stored in await self._steps(recovery):
            if stored.step.kind is StepKind.ISOLATE:
                await self._confirm_again(adapter, stored.step)
        return True

    async def _fall(
        self, recovery: book.Recovery, adapter: Recoverer, still: Sequence[str]
    ) -> bool:
        """Let the jobs that run again and do not move take their next rungs; returns False.

        Raises:
            Held: there is none for one of them.
        """
        words = (
            f"runs again, and has not reported within {self._settings.verify_timeout_seconds:g} s"
        )
        steps = await self._steps(recovery)
        held: list[str] = []
        for job in still:
            stored = [s for s in steps if s.step.target == job and s.state == "done"][-1]
            plan = await self._next_rung(recovery, adapter, stored, words)
            if plan is None or plan.choice.rung is Rung.HOLD:
                held.append(job)
                continue
            now = self._now()
            write = partial(
                transitions.fall, recovery=recovery, stored=stored, plan=plan, why=words, now=now
            )
            await self._database.write(write)
        if held:
            raise Held(f"{', '.join(held)}: {words}")
        return False

    async def _confirm_again(self, adapter: Recoverer, step: Step) -> None:
        """A scheduler that died right after the drain may have forgotten it (measured on Slurm)."""
        step = with_token(step, self._database.fencing_token)
        try:
            held = await call(
                adapter, lambda: adapter.confirm(step), timeout_seconds=step.timeout_seconds
            )
        except DeliveryFailed as e:
            raise Held(f"isolate {step.target}: cannot be confirmed: {e}") from e
        if not held.is_done:
            raise Held(f"isolate {step.target}: does not hold any more: {held.detail}")

    async def _steps(self, recovery: book.Recovery) -> list[book.StoredStep]:
        return await self._database.read(lambda c: book.steps(c, recovery.id))

    async def _note_failure(self, stored: book.StoredStep, failures: int, detail: str) -> None:
        attempts = stored.attempts + failures
        await self._database.write(
            lambda c: book.change_step(c, stored, attempts=attempts, detail=detail)
        )

    async def _finish(self, stored: book.StoredStep, detail: str) -> None:
        now = self._now()
        await self._database.write(
            lambda c: transitions.finish_step(c, stored, detail=detail, now=now)
        )

    async def _advance(self, recovery: book.Recovery, state: str) -> None:
        now = self._now()
        await self._database.write(lambda c: transitions.advance(c, recovery.id, state, now=now))

    async def _end(
        self,
        recovery: book.Recovery,
        state: str,
        detail: str,
        held_by: str = "",
        *,
        is_answer: bool = True,
    ) -> None:
        now = self._now()
        write = partial(
            transitions.end, recovery=recovery, state=state, detail=detail, now=now,
            held_by=held_by, is_answer=is_answer,
        )  # fmt: skip
        await self._database.write(write)

    def _backoff_seconds(self, failures: int) -> float:
        """Return the wait before the next look; longer after each failure."""
        doubled: float = self._settings.retry_seconds * 2.0 ** min(failures, 10)
        return min(doubled, RETRY_LONGEST_SECONDS)


def _name(step: Step) -> str:
    return f"{step.kind.value} {step.target}"
