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
from collections.abc import Callable, Mapping

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import (
    GOES_ON_AS,
    NodeView,
    Recoverer,
    RecoveryRequest,
    Step,
    StepKind,
    StepResult,
)
from chipmedic_watchdog.recover import book, cases, transitions
from chipmedic_watchdog.recover.adapters import Watch, call, with_token
from chipmedic_watchdog.recover.checkpoint import Checkpoint, before_restarts
from chipmedic_watchdog.recover.settings import Mode, RecoverSettings
from chipmedic_watchdog.recover.transitions import Held, Stopped
from chipmedic_watchdog.recover.verify import jobs_still
from chipmedic_watchdog.store.database import Store

LOGGER = logging.getLogger(__name__)

PLAN_TIMEOUT_SECONDS = 120.0
"""A plan waits for jobs that are just ending: Slurm's KillWait is 30 s, others set more."""
RETRY_LONGEST_SECONDS = 15.0
VIEW_OLDEST_SECONDS = 2.0


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
            await self._end(recovery, "stopped", str(e))

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
        if recovery.state != "verifying":
            for stored in await self._steps(recovery):
                if stored.state != "done":
                    await self._perform(recovery, adapter, stored)
            await self._advance(recovery, "verifying")
        await self._verify(recovery, adapter)
        await self._end(recovery, "done", "")

    async def _plan(self, recovery: book.Recovery, adapter: Recoverer) -> None:
        """Let the adapter plan, once: a plan that stands is not made again."""
        if await self._steps(recovery):
            return
        request = RecoveryRequest(
            incident=recovery.incident,
            reason=str(recovery.evidence.get("tag", f"chipmedic:{recovery.incident}")),
            nodes=recovery.nodes,
            jobs=recovery.jobs,
            recovery=recovery.id,
        )
        deadline = time.monotonic() + PLAN_TIMEOUT_SECONDS
        failures = 0
        while True:
            try:
                steps = await call(
                    adapter, lambda: adapter.plan(request), timeout_seconds=PLAN_TIMEOUT_SECONDS
                )
                break
            except DeliveryFailed as e:
                failures += 1
                if e.is_permanent or time.monotonic() > deadline:
                    raise Held(f"cannot be planned: {e}") from e
            await asyncio.sleep(self._backoff_seconds(failures))
        if self._checkpoint is not None:
            steps = before_restarts(steps, self._checkpoint.plan(request))
        await self._database.write(lambda c: book.add_steps(c, recovery.id, steps))

    async def _perform(
        self, recovery: book.Recovery, adapter: Recoverer, stored: book.StoredStep
    ) -> None:
        """Try a step until it is confirmed, its time is over, or its tries are used up."""
        step = stored.step
        name = f"{step.kind.value} {step.target}"
        deadline = time.monotonic() + step.timeout_seconds
        failures = 0
        while True:
            try:
                result = await self._try(recovery, adapter, stored.number)
                if result.is_done:
                    return
                detail = result.detail
            except DeliveryFailed as e:
                failures += 1
                detail = str(e)
                await self._note_failure(stored, failures, detail)
                if e.is_permanent or failures >= self._settings.maximum_step_attempts:
                    await self._fail(stored, detail)
                    raise Held(f"{name}: {detail}") from e
            if time.monotonic() > deadline:
                await self._fail(stored, detail)
                raise Held(f"{name}: not within {step.timeout_seconds:g} s: {detail}")
            await asyncio.sleep(self._backoff_seconds(failures))

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
        if result.undo and (not stored.undo or GOES_ON_AS in result.undo):
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
            name = f"{stored.step.kind.value} {stored.step.target}"
            raise Held(f"{name}: {refused.words}", refused.by)

    async def _verify(self, recovery: book.Recovery, adapter: Recoverer) -> None:
        """See that the restarted jobs move again and that the isolation still holds."""
        deadline = time.monotonic() + self._settings.verify_timeout_seconds
        while still := await self._database.read(lambda c: jobs_still(c, recovery.id)):
            if time.monotonic() > deadline:
                raise Held(
                    f"{', '.join(still)}: runs again, and has not reported within "
                    f"{self._settings.verify_timeout_seconds:g} s"
                )
            await asyncio.sleep(self._settings.retry_seconds)
        for stored in await self._steps(recovery):
            if stored.step.kind is StepKind.ISOLATE:
                await self._confirm_again(adapter, stored.step)

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

    async def _fail(self, stored: book.StoredStep, detail: str) -> None:
        await self._database.write(
            lambda c: book.change_step(c, stored, state="failed", detail=detail)
        )

    async def _advance(self, recovery: book.Recovery, state: str) -> None:
        now = self._now()
        await self._database.write(lambda c: transitions.advance(c, recovery.id, state, now=now))

    async def _end(
        self, recovery: book.Recovery, state: str, detail: str, held_by: str = ""
    ) -> None:
        now = self._now()
        await self._database.write(
            lambda c: transitions.end(c, recovery, state, detail, now=now, held_by=held_by)
        )

    def _backoff_seconds(self, failures: int) -> float:
        """Return the wait before the next look; longer after each failure."""
        doubled: float = self._settings.retry_seconds * 2.0 ** min(failures, 10)
        return min(doubled, RETRY_LONGEST_SECONDS)
