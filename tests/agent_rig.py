"""Everything of the agent but its collectors, in this process, for tests of the stream."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

from agent_story import BOOT, Heat
from chipmedic.host import LinuxHost
from chipmedic_agent.config import AgentSettings
from chipmedic_agent.disk import Disk
from chipmedic_agent.gate import Gate
from chipmedic_agent.identity import Identity
from chipmedic_agent.job_acts import JobActs
from chipmedic_agent.job_room import JobRoom
from chipmedic_agent.jobs import JobTracker
from chipmedic_agent.journal import Journal
from chipmedic_agent.orders import Orders
from chipmedic_agent.pipeline import Pipeline
from chipmedic_agent.registry import Absent
from chipmedic_agent.reporter import Reporter
from chipmedic_agent.roster import Roster
from chipmedic_agent.scanner import Scanner
from chipmedic_agent.uplink import Uplink

IDENTITY = Identity(node="n-1", boot_id=BOOT, boot_time=1.0, machine_id="m", version="0")


def orders_of(
    settings: AgentSettings, folder: Path, roster: Roster, pipeline: Pipeline, journal: Journal
) -> Orders:
    """Return what obeys the watchdog, on a node without jobs."""
    room = JobRoom(str(folder / "jobs"), str(folder), BOOT)
    acts = JobActs(settings.jobs, JobTracker(LinuxHost()), room, LinuxHost())
    return Orders(roster, Gate(settings, roster, pipeline), acts, pipeline, journal)


class Agent:
    """Everything of the agent but its collectors."""

    def __init__(self, folder: Path, *watchdogs: str, **settings: object) -> None:
        self.settings = AgentSettings(watchdogs=watchdogs, **settings)  # type: ignore[arg-type]
        self.pipeline = Pipeline([Heat()], boot_id=BOOT)
        disk = Disk(folder, starts=self.pipeline.starts(), bytes_max=1 << 26, boot_id=BOOT)
        self.journal = Journal(disk, boot_id=BOOT, now=time.time, remember=self.pipeline.remember)
        absent = Scanner("acme", Absent, consume=lambda *_: None, now=time.time)
        self.roster = Roster(
            [absent],
            now=time.time,
            is_open_for=self.pipeline.is_open_for,
            disabled=lambda _: None,
        )
        self.reporter = Reporter(IDENTITY, self.pipeline, self.journal, self.roster, time.time)
        self.reporter.labels = {"rack": "r1"}
        self.orders = orders_of(self.settings, folder, self.roster, self.pipeline, self.journal)
        self.uplink = Uplink(
            self.settings, journal=self.journal, reporter=self.reporter, orders=self.orders
        )

    def tell(self, *changes: object) -> None:
        self.journal.write(changes, time.time())  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def running(agent: Agent) -> AsyncIterator[Agent]:
    await agent.journal.open()
    tasks = [
        asyncio.create_task(work)
        for work in (agent.journal.run(), agent.roster.run(), agent.uplink.run())
    ]
    try:
        yield agent
        for task in tasks:
            assert not task.done() or task.exception() is None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await agent.roster.close()
        if agent.journal._disk._lock is not None:
            os.close(agent.journal._disk._lock)


def certificates(folder: Path) -> None:
    """Make an authority, and a certificate for each end, with the openssl of this machine."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(*new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test ca")
    for name in ("watchdog", "agent"):
        openssl(
            *(*new, "-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", f"{name}.key"),
            *("-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        )
