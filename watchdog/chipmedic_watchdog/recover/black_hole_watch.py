"""Asks the schedulers which jobs ran where, and keeps `node.black_hole` true to what they say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, func, select

from chipmedic.errors import DeliveryFailed, StoreError
from chipmedic.faults.kinds import KINDS
from chipmedic.model import HOST, Action, Fault, Severity
from chipmedic.recoverer import JobHistory, JobRun, Recoverer, RunOutcome
from chipmedic_watchdog.intake.board import WATCHDOG
from chipmedic_watchdog.intake.rows import load_boards, lock_nodes, write_boards
from chipmedic_watchdog.recover import adapters as adapters_of
from chipmedic_watchdog.recover import black_hole, cases
from chipmedic_watchdog.recover.black_hole import BlackHole
from chipmedic_watchdog.recover.settings import BlackHoleSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Store

LOGGER = logging.getLogger(__name__)

KIND = "node.black_hole"
TIMEOUT_SECONDS = 30.0


class BlackHoleWatch:
    """Looks at the runs of jobs again and again; one that fails is asked again at the next beat."""

    def __init__(
        self,
        database: Store,
        settings: BlackHoleSettings,
        adapters: Mapping[str, Recoverer],
        *,
        now: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._database = database
        self._settings = settings
        self._adapters = adapters
        self._now = now
        self._on_change = on_change
        self._runs: dict[str, dict[str, JobRun]] = {}
        """Adapter -> job -> its newest run; a scheduler forgets sooner than the window is over."""
        self._troubles: dict[str, str] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while self._settings.jobs and any(
            isinstance(a, JobHistory) for a in self._adapters.values()
        ):
            try:
                await self.look()
            except StoreError as e:
                LOGGER.warning("black holes not looked for: why=%s", e)
            await asyncio.sleep(self._settings.poll_seconds)

    async def look(self) -> None:
        """Ask once, and bring the faults up to date."""
        for name, adapter in self._adapters.items():
            if isinstance(adapter, JobHistory):
                await self._ask(name, adapter, adapter.recent_runs)
        now = self._now()
        nodes = await self._database.read(cases.known_nodes)
        runs = [_by_our_names(run, nodes) for of in self._runs.values() for run in of.values()]
        changes = await self._database.read(lambda c: _changes(c, runs, self._settings, now))
        if not changes:
            return
        await self._database.write(lambda c: _write(c, changes, now))
        for change in changes:
            LOGGER.warning("black hole: node=%s is=%s", change[0], change[1] or change[2])
        self._on_change()

    async def _ask(
        self, name: str, adapter: Recoverer, question: Callable[[], list[JobRun]]
    ) -> None:
        """Take in what a scheduler tells; where it tells nothing, what is known stays."""
        try:
            told = await adapters_of.call(adapter, question, timeout_seconds=TIMEOUT_SECONDS)
        except DeliveryFailed as e:
            if self._troubles.get(name) != str(e):
                LOGGER.warning("runs of jobs are not known: adapter=%s why=%s", name, e)
            self._troubles[name] = str(e)
            return
        self._troubles.pop(name, None)
        oldest = self._now() - self._settings.window_seconds
        kept = {
            job: run
            for job, run in self._runs.get(name, {}).items()
            if run.outcome is not RunOutcome.RUNNING and (run.ended_at or 0.0) > oldest
        }
        self._runs[name] = kept | {run.job: run for run in told}


Change = tuple[str, Fault | None, str]
"""A node, the fault to be seen there, or why its fault is over."""


def _changes(
    connection: Connection, runs: Sequence[JobRun], settings: BlackHoleSettings, now: float
) -> list[Change]:
    """Return what is to be written; mostly nothing."""
    present = _open_faults(connection)
    returned = _returned_at(connection)
    forgiven = _forgiven_at(connection, returned)
    known = set(cases.known_nodes(connection))
    holes = {
        hole.node: hole for hole in black_hole.judge(runs, settings, now, forgiven_at=forgiven)
    }
    changes: list[Change] = []
    for node, row in present.items():
        why = _is_over(row, returned.get(node, 0.0), holes, runs, settings, now)
        if why:
            changes.append((node, None, why))
    over = {node for node, _, _ in changes}
    for node, hole in holes.items():
        if node in known and node not in over and _is_news(hole, present.get(node)):
            changes.append((node, _fault(hole), ""))
    return changes


def _is_over(
    row: Row[Any],
    returned_at: float,
    holes: Mapping[str, BlackHole],
    runs: Iterable[JobRun],
    settings: BlackHoleSettings,
    now: float,
) -> str:
    """Return why a node is no black hole any more; empty: it is one still, for all we know.

    Time alone proves nothing: a node without jobs kills none.
    """
    if returned_at > row.opened_at:
        return "the node was given back; it is judged anew"
    if black_hole.is_well_since(row.node, runs, row.opened_at, settings, now):
        return "a job is well on it"
    if row.severity < Severity.CRITICAL and row.node not in holes:
        return "no more jobs died young on it"
    return ""


def _is_news(hole: BlackHole, row: Row[Any] | None) -> bool:
    if row is None:
        return True
    severity = _severity(hole)
    is_other = severity == row.severity and hole.summary != row.summary
    return bool(severity > row.severity or is_other)


def _severity(hole: BlackHole) -> Severity:
    return KINDS[KIND].severity if hole.is_certain else Severity.WARNING


def _fault(hole: BlackHole) -> Fault:
    return Fault(
        component=HOST,
        kind=KIND,
        severity=_severity(hole),
        action=KINDS[KIND].action if hole.is_certain else Action.NONE,
        since=hole.since,
        summary=hole.summary,
        source=WATCHDOG,
        evidence=hole.evidence,
    )


def _write(connection: Connection, changes: Collection[Change], now: float) -> None:
    nodes = sorted({node for node, _, _ in changes})
    lock_nodes(connection, nodes)
    boards = load_boards(connection, nodes)
    for node, fault, why in changes:
        if fault is None:
            boards[node].clear((str(HOST), KIND), now, why)
        else:
            boards[node].see(fault, now)
    write_boards(connection, boards.values())


def _open_faults(connection: Connection) -> dict[str, Any]:
    table = schema.faults
    query = select(table.c.node, table.c.opened_at, table.c.severity, table.c.summary).where(
        table.c.kind == KIND, table.c.state != "cleared"
    )
    return {row.node: row for row in connection.execute(query)}


def _returned_at(connection: Connection) -> dict[str, float]:
    table = schema.isolations
    query = select(table.c.node, func.max(table.c.returned_at)).group_by(table.c.node)
    return {node: at for node, at in connection.execute(query) if at is not None}


def _forgiven_at(connection: Connection, returned: Mapping[str, float]) -> dict[str, float]:
    """Return for each node until when its dead jobs were judged already."""
    table = schema.faults
    query = (
        select(table.c.node, func.max(table.c.cleared_at))
        .where(table.c.kind == KIND, table.c.state == "cleared")
        .group_by(table.c.node)
    )
    forgiven = dict(returned)
    for node, at in connection.execute(query):
        forgiven[node] = max(forgiven.get(node, 0.0), at)
    return forgiven


def _by_our_names(run: JobRun, known: Collection[str]) -> JobRun:
    """Name the nodes as the agents do: a scheduler may use the short name of a host."""
    full = {name.partition(".")[0]: name for name in known}
    names = tuple(n if n in known else full.get(n, n) for n in run.nodes)
    return run if names == run.nodes else replace(run, nodes=names)
