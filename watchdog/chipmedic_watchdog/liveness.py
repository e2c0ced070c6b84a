"""Turns silence into a verdict, and distrusts itself first.

An agent pings once a second. One that the kernel has not heard for a little more than two, while
its connection is open, is `node.unreachable`; many that fall quiet in one moment are most often a
pause of the network that ends by itself, and they are waited for longer (`intake/pauses.py`). A
stream that ends without a goodbye is another matter: its agent may be on its way back. One whose
host closed it is being started again and gets more time than one that we let go. When the watchdog
itself has stalled, has just started or could not write, silence proves nothing about the nodes:
every one of them gets the grace time to come back.

Each watchdog judges the streams that it has lost, for only its kernel knows how they ended; the
fault is the leader's to make. The leader also waits for the nodes of a watchdog that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection, select

from chipmedic.errors import StoreError
from chipmedic_watchdog.bell import Bell
from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.config import LivenessSettings
from chipmedic_watchdog.intake.arrival import Arrival, Expiry, Silence
from chipmedic_watchdog.intake.board import WATCHDOG
from chipmedic_watchdog.intake.commit import REBOOTED
from chipmedic_watchdog.intake.committer import Committer
from chipmedic_watchdog.intake.heard import Unheard, is_told, unheard
from chipmedic_watchdog.intake.pauses import MANY_LEAST, MANY_RATIO, Pause, pauses
from chipmedic_watchdog.intake.peers import Address, unanswered
from chipmedic_watchdog.intake.sessions import DOUBT_SECONDS, Away, Sessions
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
LISTEN_SECONDS, LISTEN_RATIO = 0.2, 0.05
"""How often the kernel is asked whom it has not heard; the share of our time that it may take."""
OVERDUE_SECONDS = 1.25
"""A ping comes a second after an agent last read something, so who has said nothing for longer and
was told nothing either is late. It counts for how many fall quiet in one moment (`pauses`)."""
TOLD_SECONDS = 5.0
"""After so long without a word it excuses nobody that we still tell him something."""
DEAF_SECONDS = 1.5
"""After so long a pause of our own, of the whole machine perhaps, the network gets as long to bring
what was under way."""
QUIET = "no ping comes from it any more, on an open connection"
LAG_SECONDS = 0.3
"""Time in which the loop did not listen for longer than this is no silence of the nodes."""
RETURN_SECONDS, RETURN_LEAST, RETURN_RATIO = 3.0, 5, 0.01
"""While so many nodes, and this share of all, come back within this time, a pause is ending."""
START_GRACES = 4
"""So many times the grace time those are waited for who have not come back to a watchdog that has
just started, as long as many others still do."""
PAUSE_LOOK_SECONDS = 0.2
EXPIRY_TICK_SECONDS = 10.0
ADOPTION_SECONDS = 5.0
"""How often the leader looks for nodes that nobody has; a watchdog that gives one up rings."""
FOLLOW_SECONDS = 0.5


class Liveness:
    """Watches the sessions and its own clock."""

    def __init__(
        self,
        database: Database,
        committer: Committer,
        sessions: Sessions,
        metrics: Metrics,
        settings: LivenessSettings,
        clock: Clock | None = None,
        unanswered: Callable[[Collection[str], int], set[str]] = unanswered,
        alive: Callable[[], Collection[str]] = tuple,
        unheard: Callable[[int, float], Mapping[Address, Unheard]] | None = None,
        me: str = "",
    ) -> None:
        self._database = database
        self._committer = committer
        self._sessions = sessions
        self._metrics = metrics
        self._clock = clock or Clock()
        self._unanswered = unanswered
        self._alive, self._me = alive, me
        self._unheard = unheard or _unheard
        self._is_deaf = False
        self._next_listen = self._deaf_until = 0.0
        self._pauses: tuple[Pause, ...] = ()
        self._bell = Bell()
        self.settings = settings
        self.stream_port = 0
        """Where the agents connect."""
        self.ticked_at = self._clock.elapsed()
        """When the loop last moved; systemd's watchdog is fed only while it does."""

    async def run(self) -> None:
        """Watch until cancelled."""
        self.ticked_at = self._clock.elapsed()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.tick()

    def wake(self) -> None:
        """Look at once for nodes that another watchdog has given up."""
        self._bell.ring()

    async def lead(self) -> None:
        """Do what only the leader does, until cancelled."""
        next_expiry = self._clock.elapsed()
        while True:
            try:
                await self.expect_known(self._alive())
                await self.take_up_lost()
                if self._clock.elapsed() >= next_expiry:
                    next_expiry = self._clock.elapsed() + EXPIRY_TICK_SECONDS
                    await self._expire()
            except StoreError:
                pass  # the committer reports the store
            await self._bell.wait(ADOPTION_SECONDS)

    async def follow(self) -> None:
        """Forget nodes that have come to another watchdog, until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            with contextlib.suppress(StoreError):
                await self.forget_moved()

    async def forget_moved(self) -> None:
        """Wait no more for nodes that are connected elsewhere."""
        away = sorted(self._sessions.away)
        if not away:
            return
        nodes = schema.nodes.c
        query = select(nodes.node, nodes.stream, nodes.watchdog).where(
            nodes.node.in_(away), nodes.state == "connected"
        )
        rows = await self._database.read(lambda c: c.execute(query).all())
        waiting, others = self._sessions.away, {*self._alive()} - {self._me}
        # One that was taken for gone and lives, as after a pause of the database, has old streams.
        self._sessions.forget(
            row.node
            for row in rows
            if row.node in waiting
            and (waiting[row.node].stream != row.stream or row.watchdog in others)
        )

    async def take_up_lost(self) -> None:
        """Let the committer make faults of the nodes that other watchdogs have given up."""
        nodes = schema.nodes.c
        query = select(nodes.node, nodes.stream, nodes.silent_since, nodes.silent_reason).where(
            nodes.is_lost.is_(True)
        )
        for row in await self._database.read(lambda c: c.execute(query).all()):
            self._put(row.node, Silence(row.silent_since or 0.0, row.silent_reason), row.stream)

    async def expect_known(self, alive: Collection[str] = ()) -> None:
        """Wait for the nodes that are connected to none of the watchdogs that live."""

        def known(connection: Connection) -> tuple[dict[str, tuple[float, str]], set[str]]:
            nodes, faults = schema.nodes.c, schema.faults.c
            rows = connection.execute(
                select(nodes.node, nodes.last_seen_at, nodes.stream).where(
                    nodes.state != "stopped",
                    nodes.watchdog.not_in(sorted(alive)),
                    nodes.is_lost.is_(False),
                )
            )
            judged = connection.execute(
                select(faults.node).where(
                    faults.kind == "node.unreachable", faults.state != "cleared"
                )
            )
            seen = {row.node: (row.last_seen_at, row.stream) for row in rows}
            return seen, {row.node for row in judged}

        seen, judged = await self._database.read(known)
        self._sessions.expect(seen, self.settings.startup_grace_seconds)
        for node in judged & self._sessions.away.keys():
            self._sessions.away[node].is_judged = True

    def tick(self) -> None:
        """Judge the silent nodes whose time is up."""
        now = self._clock.elapsed()
        pause_seconds = now - self.ticked_at
        self.ticked_at = now
        if pause_seconds > self.settings.stall_seconds:
            self._metrics.stalls.inc()
            log.warning(
                "own loop stalled: seconds=%.1f; no node is judged for %.0f s",
                pause_seconds, self.settings.startup_grace_seconds,
            )  # fmt: skip
            self.forgive()
        elif pause_seconds > DEAF_SECONDS:
            self._deaf_until = now + DEAF_SECONDS
        if LAG_SECONDS < pause_seconds <= self.settings.stall_seconds:
            # Who came back meanwhile may stand in the queue behind what kept us busy.
            self._sessions.lend(pause_seconds - TICK_SECONDS)
        if self._committer.is_failing:
            return
        if now >= max(self._next_listen, self._deaf_until):
            self._listen()
            took_seconds = self._clock.elapsed() - now
            self._next_listen = now + max(LISTEN_SECONDS, took_seconds / LISTEN_RATIO)
        away = self._sessions.away
        due = {n: a for n, a in away.items() if a.due <= now and not a.is_judged}
        if due:
            self._put_off(due, now)
        for node, lost in due.items():
            if lost.due <= now:
                lost.is_judged = True
                self._judge(node, lost)

    def _listen(self) -> None:
        """Judge those from which the kernel has heard nothing for too long."""
        try:
            heard = self._unheard(self.stream_port, OVERDUE_SECONDS)
            self._is_deaf = False
        except OSError as e:
            if not self._is_deaf:
                log.warning("the kernel lists no sockets: silence is told late: why=%s", e)
            self._is_deaf = True
            return
        now = self._clock.elapsed()
        late = [
            (session, received, now - min(received, sent))
            for address, (received, sent) in heard.items()
            if sent >= OVERDUE_SECONDS or received >= TOLD_SECONDS
            if (session := self._sessions.at(address)) is not None
        ]
        known = len(self._sessions.live) + len(self._sessions.away)
        self._pauses = pauses(self._pauses, [moment for _, _, moment in late], known, now)
        quiet, many = self.settings.quiet_seconds, self.settings.many_seconds
        for session, received, moment in late:
            is_pause = any(pause.covers(moment) for pause in self._pauses)
            if received < (max(many, quiet) if is_pause else quiet):
                continue
            if (away := self._sessions.give_up(session, QUIET, received)) is not None:
                away.is_judged = True
                self._judge(session.node, away)

    def _put_off(self, due: dict[str, Away], now: float) -> None:
        """Give more time to those of whom something better than a dead host may be true."""
        if self._is_pausing(now):
            for away in due.values():
                graces = 1 if away.peer else START_GRACES
                if away.lost_at + graces * self.settings.startup_grace_seconds > now:
                    away.due = max(away.due, now + PAUSE_LOOK_SECONDS)
        restart_seconds = self.settings.restart_seconds
        asked = {
            a.peer
            for a in due.values()
            if a.due <= now and a.peer and a.lost_at + restart_seconds > now
        }
        closed = asked - self._unanswered(asked, self.stream_port) if asked else set()
        for away in due.values():
            if away.peer in closed:
                away.due = max(away.due, away.lost_at + restart_seconds)

    def _is_pausing(self, now: float) -> bool:
        """Say whether many fall silent or many come back, in these seconds.

        A watchdog notices the one and lets in the other node by node: of a large fleet that takes
        it seconds, in which those that stand in the queue are silent to it.
        """
        known = len(self._sessions.live) + len(self._sessions.away)
        returned = self._sessions.returned_within(RETURN_SECONDS)
        if returned >= max(RETURN_LEAST, RETURN_RATIO * known):
            return True
        since = now - self.settings.many_seconds
        lost = sum(
            a.lost_at > since and bool(a.peer) and not a.is_judged
            for a in self._sessions.away.values()
        )
        return lost >= max(MANY_LEAST, MANY_RATIO * known)

    def forgive(self) -> None:
        """Give the silent nodes the grace time: what was not heard may be our own fault."""
        self._deaf_until = self._clock.elapsed() + DOUBT_SECONDS
        self._sessions.forgive(self.settings.startup_grace_seconds)

    def _judge(self, node: str, away: Away) -> None:
        since = datetime.fromtimestamp(away.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        reason = f"{away.reason}; not heard since {since}"
        log.warning("unreachable: node=%s why=%s", node, reason)
        self._put(node, Silence(away.since, reason), away.stream)

    async def _expire(self) -> None:
        """End the notes of reboots; a node whose agent tells of its own ends them itself."""
        table = schema.faults.c
        oldest = self._clock.now() - self.settings.rebooted_expiry_seconds
        query = select(table.node).where(
            table.kind == REBOOTED,
            table.source == WATCHDOG,
            table.state != "cleared",
            table.opened_at < oldest,
        )
        for node in await self._database.read(lambda c: [row.node for row in c.execute(query)]):
            self._put(node, Expiry(REBOOTED))

    def _put(self, node: str, body: Silence | Expiry, stream: str = "") -> None:
        now = self._clock.now()
        self._committer.put_now(Arrival(node=node, stream=stream, received_at=now, body=body))


def _unheard(port: int, seconds: float) -> Mapping[Address, Unheard]:
    """Ask the kernel; where it does not tell, gRPC's pings end the streams (intake/server.py)."""
    return unheard(port, seconds) if is_told() else {}
