"""The loop of recovery: decide about what is open, carry out what is decided, give back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection

from chipmedic.errors import StoreError
from chipmedic.host import LinuxHost
from chipmedic.recoverer import NodeView, Recoverer, Witness
from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.notify import silences
from chipmedic_watchdog.recover import adapters as adapters_of
from chipmedic_watchdog.recover import book, cases, decisions, probation, resume
from chipmedic_watchdog.recover.agents import Agents
from chipmedic_watchdog.recover.black_hole_watch import BlackHoleWatch
from chipmedic_watchdog.recover.case import Case
from chipmedic_watchdog.recover.checkpoint import Checkpoint
from chipmedic_watchdog.recover.dry_run import DryRun
from chipmedic_watchdog.recover.engine import Engine
from chipmedic_watchdog.recover.leading_host import LeadingHost
from chipmedic_watchdog.recover.policy import Decision, decide, needs_witness
from chipmedic_watchdog.recover.reconcile import reconcile
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.store.database import Store

LOGGER = logging.getLogger(__name__)

WITNESS_WAIT_SECONDS = 1.0
"""So long a look waits for the scheduler's word; one that hangs would hold all decisions up."""
WITNESS_OLDEST_SECONDS, WITNESS_TRUSTED_SECONDS = 15.0, 60.0
LOOK_SECONDS = 0.1
"""Heartbeats ring the bell all the time; more often than this it does not look."""
REST_SECONDS = 0.5
RECONCILE_SECONDS = 60.0
"""How often the world is asked whether our isolations still hold."""


class RecoverLoop:
    """Decides and recovers until it is cancelled; what was under way goes on at the next start."""

    def __init__(
        self,
        database: Store,
        settings: RecoverSettings,
        adapters: Mapping[str, Recoverer] | None = None,
        *,
        now: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
        on_order: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._agents = Agents(database, now=now, on_ask=on_order)
        if adapters is None:
            host = LeadingHost(LinuxHost(), database.assert_leading)
            adapters = adapters_of.configured(settings, host, database.assert_leading, self._agents)
        self._adapters = dict(adapters)
        ask = settings.checkpoint
        checkpoint = None if ask is None else Checkpoint(ask, self._agents)
        self._engine = Engine(database, settings, self._adapters, checkpoint=checkpoint, now=now)
        self._watch = adapters_of.Watch(self._adapters)
        self._black_holes = BlackHoleWatch(
            database, settings.black_hole, self._adapters, now=now, on_change=on_change
        )
        self._now = now
        self._on_change = on_change
        self._bell = Bell()
        self._under_way: set[str] = set()
        self._reconciled_at = time.monotonic()
        self._is_reconciling = False
        self._recorded_at = 0.0
        self._trouble = ""
        self._judged: dict[str, tuple[Decision, object]] = {}
        """What the last look decided and the state it found; the same again is no news."""

    def wake(self) -> None:
        """Look now: an incident changed, or a person has answered."""
        self._bell.ring()

    async def dry_run(self, incident: str) -> dict[str, Any] | None:
        """Return what would be done about an incident now; see `DryRun.plan`."""
        dry = DryRun(
            database=self._database,
            settings=self._settings,
            adapters=self._adapters,
            watch=self._watch,
        )
        return await dry.plan(incident, self._now())

    async def run(self) -> None:
        """Work until cancelled."""
        self._agents.attach()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._black_holes.run(), name="black holes")
            while True:
                try:
                    await self._look(group)
                    self._trouble = ""
                except StoreError as e:
                    if str(e) != self._trouble:
                        LOGGER.error("recovery waits for the store: why=%s", e)  # noqa: TRY400
                    self._trouble = str(e)
                await self._bell.wait(
                    self._settings.poll_seconds,
                    at_least_seconds=max(LOOK_SECONDS, self._bell.rest_seconds(REST_SECONDS)),
                )

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """Decide about every open incident and start what is to be carried out."""
        now = self._now()
        open_cases, latest = await self._database.read(lambda c: _read(c, self._settings, now))
        judged: dict[str, tuple[Decision, object]] = {}
        news: list[tuple[Case, Decision]] = []
        patience = self._patience(group)
        for case in open_cases:
            witnessed = await self._with_witness(case, patience())
            decision = decide(witnessed, self._settings, self._adapters)
            state = (latest.get(case.incident.id), case.incident.reopened_count)
            judged[case.incident.id] = (decision, state)
            if self._judged.get(case.incident.id) != judged[case.incident.id]:
                news.append((witnessed, decision))
        # Most looks change nothing: they wait for no writer. What only time brings (a proposal that
        # expires, a node that may return) has a beat of its own, as the bell may ring for ever.
        is_over = bool(self._judged.keys() - judged.keys())
        is_due = time.monotonic() - self._recorded_at >= self._settings.poll_seconds
        if news or is_over or is_due:
            now = self._now()
            self._recorded_at = time.monotonic()
            for identity in await self._database.write(lambda c: self._record(c, news, now)):
                del judged[identity]
            if news:
                self._on_change()
        self._judged = judged
        if is_due:
            await self._resume(judged, patience)
        for recovery in await self._database.read(lambda c: book.in_states(c, book.ACTIVE)):
            if recovery.id not in self._under_way:
                self._under_way.add(recovery.id)
                group.create_task(self._carry_out(recovery.id), name=f"recovery {recovery.id}")
        is_due = time.monotonic() - self._reconciled_at > RECONCILE_SECONDS
        if is_due and not self._is_reconciling:
            # Beside the decisions: a scheduler that hangs takes a minute for each node.
            self._is_reconciling = True
            group.create_task(self._reconcile(), name="reconcile")

    async def _resume(
        self,
        judged: Mapping[str, tuple[Decision, object]],
        patience: Callable[[], adapters_of.Patience],
    ) -> None:
        """Let what a limit held go on where it lets it; without the scheduler's word it waits."""
        held = await self._database.read(resume.waiting)
        nodes = await self._database.read(cases.known_nodes) if held else []
        for recovery in held:
            adapter = self._adapters.get(recovery.adapter)
            if adapter is None:
                continue
            views = await self._watch.soon(recovery.adapter, nodes, patience())
            if views is None and isinstance(adapter, Witness):
                continue
            decision, _ = judged.get(recovery.incident, (None, None))
            now = self._now()
            write = partial(
                resume.go_on, identity=recovery.id, decision=decision, settings=self._settings,
                views=views, now=now,
            )  # fmt: skip
            if await self._database.write(write):
                LOGGER.info("recovery goes on: id=%s was_held_by=%s", recovery.id, recovery.held_by)
                self._on_change()

    async def _reconcile(self) -> None:
        """See whether our isolations still hold; trouble of the store leaves it for the next."""
        try:
            await reconcile(self._database, self._adapters, now=self._now())
        except StoreError as e:
            LOGGER.warning("isolations not compared: why=%s", e)
        finally:
            self._reconciled_at = time.monotonic()
            self._is_reconciling = False

    def _record(
        self, connection: Connection, news: list[tuple[Case, Decision]], now: float
    ) -> list[str]:
        """Write decisions down; return the incidents to be looked at again."""
        waiting = [
            case.incident.id
            for case, decision in news
            if not decisions.record(connection, case, decision, now)
        ]
        decisions.expire(connection, self._settings, now)
        decisions.plan_returns(connection, self._settings, now)
        return waiting

    def _patience(self, group: asyncio.TaskGroup) -> Callable[[], adapters_of.Patience]:
        """Return what says how long the schedulers may still hold up one look."""
        end = time.monotonic() + WITNESS_WAIT_SECONDS
        return lambda: adapters_of.Patience(
            wait_seconds=max(0.0, end - time.monotonic()),
            oldest_seconds=WITNESS_OLDEST_SECONDS,
            trusted_seconds=WITNESS_TRUSTED_SECONDS,
            group=group,
            on_answer=self._bell.ring,
        )

    async def _with_witness(self, case: Case, patience: adapters_of.Patience) -> Case:
        """Add what the schedulers say, where the decision hangs on it; silence adds nothing."""
        if not needs_witness(case):
            return case
        views: dict[str, NodeView] = {}
        for name in self._adapters:
            seen = await self._watch.soon(name, case.incident.nodes, patience)
            views.update(seen or {})
        return replace(case, views=views)

    async def _carry_out(self, recovery: str) -> None:
        """Carry one recovery out; trouble of the store leaves it for the next look."""
        try:
            await self._engine.carry_out(recovery)
        except StoreError as e:
            LOGGER.error("recovery waits for the store: id=%s why=%s", recovery, e)  # noqa: TRY400
            return
        finally:
            self._under_way.discard(recovery)
        self._on_change()
        self._bell.ring()


def _read(
    connection: Connection, settings: RecoverSettings, now: float
) -> tuple[list[Case], dict[str, tuple[str, str]]]:
    """Read what is to be decided: not what somebody works on in a maintenance window."""
    windows = silences.active(connection, now)
    found = [
        case
        for case in cases.load(connection)
        if not silences.maintained(windows, case.incident.nodes)
    ]
    on_probation = probation.nodes(connection, settings, now)
    found = [replace(case, on_probation=on_probation) for case in found]
    return found, book.latest(connection, [case.incident.id for case in found])
