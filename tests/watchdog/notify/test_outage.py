"""A great outage: few incidents, about one notice for each, and the all-clear in the same place.

Two hundred nodes lose their streams in one moment and are judged over three seconds; the engine and
the notices look every tenth of a second, with the real rules.
"""

from __future__ import annotations

import random

import pytest
from sqlalchemy import func, insert, select, update

from chipmedic_watchdog.clock import Clock
from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.health import Health
from chipmedic_watchdog.incidents.engine import IncidentEngine
from chipmedic_watchdog.intake.sessions import Away, Sessions
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.notify import news
from chipmedic_watchdog.notify.news import Desk
from chipmedic_watchdog.notify.settings import ChannelKind, ChannelSettings, NotifySettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.notify import story

SETTINGS = NotifySettings(
    channels={"chat": ChannelSettings(kind=ChannelKind.STDOUT)}, decision_wait_seconds=0.3
)
DESK = Desk(settings=SETTINGS)
NODES, OUT = 1000, 200
NOTICES_PER_INCIDENT = 1.2


class Cluster:
    """A thousand nodes in racks of twenty, five racks behind a switch."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = story.NOW
        clock = Clock(now=lambda: self.now)
        self.sessions = Sessions(clock, 1.0)
        self.engine = IncidentEngine(
            database, self.sessions, Metrics(), Health(), IncidentSettings(), clock
        )
        rows = [
            {"node": f"n{n:04d}", "state": "connected", "first_seen_at": 1.0,
             "last_seen_at": self.now,
             "labels": {"rack": f"r{n // 20}", "switch": f"s{n // 100}"}}
            for n in range(NODES)
        ]  # fmt: skip
        database.write_now(lambda c: c.execute(insert(schema.nodes), rows))

    async def look(self) -> None:
        await self.engine.look()
        ids = self.database.read_now(lambda c: news.unread(c, SETTINGS, self.now))
        self.database.write_now(lambda c: news.write_news(c, ids, DESK, self.now))
        self.now += 0.1

    async def fail(self, nodes: list[str], seconds: float) -> None:
        """Lose the streams and let the verdicts come in evenly."""
        for node in nodes:
            self.sessions.away[node] = Away(since=self.now, due=0.0, reason="lost")
        looks = round(seconds * 10)
        for number in range(looks):
            part = nodes[number::looks]
            rows = [
                {"node": node, "component": "host", "kind": "node.unreachable", "severity": 3,
                 "action": "none", "node_since": self.now, "opened_at": self.now,
                 "updated_at": self.now, "summary": "no stream", "source": "watchdog",
                 "codes": [], "evidence": [], "state": "open"}
                for node in part
            ]  # fmt: skip
            if rows:
                self.database.write_now(lambda c, rows=rows: c.execute(insert(schema.faults), rows))
            await self.look()

    async def recover(self) -> None:
        self.sessions.away.clear()
        values = {"state": "cleared", "cleared_at": self.now}
        self.database.write_now(lambda c: c.execute(update(schema.faults).values(**values)))
        for _ in range(5):
            await self.look()

    def count(self) -> tuple[int, int, int]:
        """Return incidents, notices that tell of trouble, and notices of its end."""
        notices = [row["occasion"] for row in story.rows(self.database, schema.notices)]
        incidents = self.database.read_now(
            lambda c: c.execute(select(func.count()).select_from(schema.incidents)).scalar_one()
        )
        resolved = notices.count("resolved")
        return incidents, len(notices) - resolved, resolved


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("name", "most_incidents"), [("two switches", 3), ("ten racks", 3), ("anywhere", 3)]
)
async def test_two_hundred_nodes_are_about_one_page(
    database: Database, name: str, most_incidents: int, seed: int
) -> None:
    chance = random.Random(seed)
    cluster = Cluster(database)
    every = [f"n{n:04d}" for n in range(NODES)]
    nodes = {
        "two switches": every[:OUT],
        "ten racks": [node for n, node in enumerate(every) if n // 20 % 5 == 0],
        "anywhere": chance.sample(every, OUT),
    }[name]
    chance.shuffle(nodes)
    await cluster.fail(nodes, 3.0)
    for _ in range(20):
        await cluster.look()
    incidents, trouble, resolved = cluster.count()
    assert 1 <= incidents <= most_incidents
    assert trouble <= max(NOTICES_PER_INCIDENT * incidents, 1), (incidents, trouble)
    assert resolved == 0
    await cluster.recover()
    assert cluster.count() == (incidents, trouble, incidents), "one all-clear for each"
