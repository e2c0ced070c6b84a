"""The agent as a whole: everything is made here, runs side by side, and ends in order.

A defect of our own in any part ends the process, and systemd starts it anew; what a collector, a
tool, a disk or a watchdog does ends nothing.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from pathlib import Path

from chipmedic import systemd
from chipmedic.errors import ConfigError
from chipmedic.heap import give_back
from chipmedic.host import LinuxHost
from chipmedic.model import Change, Scan, Severity, collector_component
from chipmedic_agent.config import NEED_RESTART, AgentSettings, changed, load_settings
from chipmedic_agent.detectors import builtin_detectors
from chipmedic_agent.disk import Disk
from chipmedic_agent.fitness import fitness
from chipmedic_agent.gate import Gate
from chipmedic_agent.health import Pulse, health
from chipmedic_agent.identity import read_identity
from chipmedic_agent.job_acts import JobActs
from chipmedic_agent.job_room import JobRoom
from chipmedic_agent.job_source import JOBS, JobSource
from chipmedic_agent.jobs import JobTracker
from chipmedic_agent.journal import Journal
from chipmedic_agent.last_end import end_within
from chipmedic_agent.membership import Membership
from chipmedic_agent.metrics import World, exposition
from chipmedic_agent.orders import Orders
from chipmedic_agent.own_files import OwnFiles
from chipmedic_agent.pages import Pages
from chipmedic_agent.pipeline import Pipeline
from chipmedic_agent.progress import ProgressListener
from chipmedic_agent.registry import Found, discover, installed_collectors
from chipmedic_agent.reporter import Reporter
from chipmedic_agent.roster import Roster
from chipmedic_agent.scanner import Scanner
from chipmedic_agent.unheard import Unheard
from chipmedic_agent.uplink import Uplink

TICK_SECONDS = 1.0
RETRY_SECONDS = 30.0
"""How often a port or socket that is taken is tried again."""
GOODBYE_SECONDS = 5.0
"""How long the stream may take to end politely."""
END_SECONDS = 12.0
"""When the process ends even so: before systemd would kill it (`TimeoutStopSec`), with a word."""
HEAP_SECONDS = (20.0, 60.0, 600.0)
"""After which pauses memory that is not needed any more is given back; the last one for ever."""
STREAM_PARTS = frozenset({"labels", "watchdogs", "tls", "stream"})
"""What the stream must begin anew for."""

logger = logging.getLogger(__name__)


class Daemon:
    """One agent, from its start to its end."""

    def __init__(self, settings: AgentSettings, path: Path | None) -> None:
        self._settings = settings
        self._path = path
        self._host = LinuxHost(settings.host_root)
        self._now = self._host.now
        identity = read_identity(self._host, node=settings.node, boot_id_file=settings.boot_id_file)
        self._pipeline = Pipeline(builtin_detectors(settings.detectors), boot_id=identity.boot_id)
        disk = Disk(
            Path(settings.state_directory),
            starts=self._pipeline.starts(),
            bytes_max=settings.spool.bytes_max,
            boot_id=identity.boot_id,
        )
        self._journal = Journal(
            disk, boot_id=identity.boot_id, now=self._now, remember=self._pipeline.remember
        )
        # Beats and processes are those of the running kernel, also where the hardware is simulated.
        self._listener = ProgressListener(settings.progress_socket)
        self._tracker = JobTracker(LinuxHost(), self._listener)
        self._roster = Roster(
            self._scanners(),
            now=self._now,
            is_open_for=self._pipeline.is_open_for,
            disabled=self._forget_collector,
        )
        self._reporter = Reporter(identity, self._pipeline, self._journal, self._roster, self._now)
        self._reporter.labels = settings.labels
        self._membership = Membership(
            settings, LinuxHost(), lambda why: self._uplink.begin_anew(why)
        )
        self._room = JobRoom(settings.jobs_directory, settings.state_directory, identity.boot_id)
        self._tracker.kept_out_since = self._room.since
        self._orders = Orders(
            self._roster,
            Gate(settings, self._roster, self._pipeline),
            JobActs(settings.jobs, self._tracker, self._room, LinuxHost(), self._now),
            self._pipeline,
            self._journal,
        )
        self._uplink = Uplink(
            settings,
            membership=self._membership,
            journal=self._journal,
            reporter=self._reporter,
            orders=self._orders,
            own_files=OwnFiles(LinuxHost()),
        )
        self._world = World(
            identity=identity,
            pipeline=self._pipeline,
            journal=self._journal,
            roster=self._roster,
            uplink=self._uplink,
            membership=self._membership,
            now=self._now,
            stuck_tools=self._host.stuck,
        )
        self._pulse = Pulse()
        self._unheard = Unheard()
        self._stop = asyncio.Event()
        self._hup = asyncio.Event()
        self._stop_reason = ""

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT.

        Raises:
            FolderTaken: another agent works in the state directory.
        """
        self._watch_signals()
        opened = await self._journal.open()
        told = self._pipeline.restore(opened, self._settings.inventory.forget, self._now())
        self._tell(told, self._now())
        self._room.restore()
        self._roster.apply(self._settings)
        async with asyncio.TaskGroup() as group:
            roster = group.create_task(self._roster.run(), name="roster")
            uplink = group.create_task(self._uplink.run(), name="uplink")
            others = [
                group.create_task(work, name=name)
                for name, work in (
                    ("journal", self._journal.run()),
                    ("membership", self._membership.run()),
                    ("tick", self._tick()),
                    ("heap", _keep_heap_small()),
                    ("reload", self._reload_on_hup()),
                    ("pages", self._keep_pages()),
                    ("progress", self._keep_listening()),
                )
            ]
            self._say_ready()
            await self._stop.wait()
            systemd.stopping()
            logger.info("stopping: reason=%s", self._stop_reason)
            roster.cancel()
            self._uplink.end(self._stop_reason)
            await asyncio.wait({uplink}, timeout=GOODBYE_SECONDS)
            for task in (uplink, *others):
                task.cancel()
        self._journal.touch()
        await self._journal.save()
        await self._roster.close()

    # -- what comes in

    def _scanners(self) -> Iterable[Scanner]:
        """Make a scanner for each installed collector, and one for the jobs."""
        for name, entry in installed_collectors().items():
            yield Scanner(
                name,
                # Looked up when it is found: the cursors are not loaded yet.
                lambda entry=entry, name=name: discover(  # type: ignore[misc]
                    entry, self._host, self._pipeline.cursors.get(name)
                ),
                consume=self._take,
                now=self._now,
                # A method of the pipeline, as its inventory is replaced when the state is loaded.
                knows_chips=partial(self._pipeline.knows_chips_of, name),
            )
        jobs = JobSource(self._tracker, self._pipeline.processes, self._now)
        yield Scanner(JOBS, lambda: Found(jobs), consume=self._take, now=self._now)

    def _take(self, scan: Scan, cursor: str | None) -> None:
        period = self._roster.period_seconds(scan.source)
        changes, is_changed = self._pipeline.consume(scan, cursor, period_seconds=period)
        self._tell(changes, scan.at)
        if is_changed:
            self._journal.touch()
        if scan.chips or scan.is_inventory:
            self._uplink.look_for_new_chips()

    def _tell(self, changes: Iterable[Change], at: float) -> None:
        """Number and log what happened, and count it."""
        changes = list(changes)
        self._journal.write(changes, at)
        for change in changes:
            word = type(change).__name__.lower()
            counts = self._world.changes_told
            counts[word] = counts.get(word, 0) + 1
            level = logging.INFO if word != "updated" else logging.DEBUG
            fault = change.fault
            if self._unheard.is_so and word == "raised" and fault.severity is Severity.CRITICAL:
                level = logging.ERROR  # nobody else will tell of it
            logger.log(
                level,
                "fault %s: component=%s kind=%s severity=%s summary=%s",
                word,
                fault.component,
                fault.kind,
                fault.severity.name.lower(),
                fault.summary,
            )

    def _forget_collector(self, name: str) -> None:
        """End the faults of a collector itself when it is switched off; those of chips stay."""
        gone = collector_component(name)
        now = self._now()
        self._tell(self._pipeline.retire(gone.__eq__, now, "collector switched off"), now)

    # -- what goes on

    async def _tick(self) -> None:
        """Prove that the loop moves, and let time pass for the book."""
        interval = systemd.watchdog_interval_seconds()
        pause = min(TICK_SECONDS, interval / 3) if interval else TICK_SECONDS
        alive_at = 0.0
        while True:
            self._pulse.beat()
            moment = time.monotonic()
            if interval and moment >= alive_at and self._roster.is_moving():
                alive_at = moment + interval / 4  # looking at every scanner each second costs more
                systemd.alive()
            now = self._now()
            self._tell(self._pipeline.tick(now, self._roster.looks), now)
            self._look_for_a_listener(now)
            await asyncio.sleep(pause)

    def _look_for_a_listener(self, now: float) -> None:
        if not self._uplink.is_configured:
            return
        open_faults = self._pipeline.book.open()
        self._unheard.look(
            self._uplink.state,
            now,
            kept_events=self._journal.backlog_events,
            critical=sum(fault.severity is Severity.CRITICAL for fault in open_faults),
        )

    async def _keep_pages(self) -> None:
        """Serve the pages; a port that is taken is no reason not to watch the chips."""
        address = self._settings.http.listen
        if not self._settings.http.enabled:
            return
        make = partial(
            Pages,
            address,
            metrics=exposition(self._world),
            health=partial(health, self._world, self._pulse),
            fitness=partial(fitness, self._world, self._pulse),
        )
        pages = await _until_bound(make, f"http.listen: {address}")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            pages.close()

    async def _keep_listening(self) -> None:
        what = f"progress_socket: {self._settings.progress_socket}"
        trouble = ""
        while True:
            try:
                await self._listener.start()
                break
            except OSError as e:
                trouble = _warn_once(what, e, trouble)
                await asyncio.sleep(RETRY_SECONDS)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._listener.close()

    # -- what systemd and the operator say

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self._hup.set)

    def _end(self, reason: str) -> None:
        if not self._stop.is_set():
            end_within(END_SECONDS)
        self._stop_reason = reason
        self._stop.set()

    def _say_ready(self) -> None:
        watchdogs = ", ".join(self._settings.watchdogs) or "none configured"
        logger.info(
            "ready: node=%s version=%s watchdogs=%s",
            self._settings.node,
            self._world.identity.version,
            watchdogs,
        )
        systemd.ready(f"watching {self._settings.node}; watchdogs: {watchdogs}")

    async def _reload_on_hup(self) -> None:
        while True:
            await self._hup.wait()
            self._hup.clear()
            systemd.reloading()
            self._reload()
            self._say_ready()

    def _reload(self) -> None:
        """Read the configuration again; a wrong one changes nothing."""
        state = self._world.reload
        state.at = self._now()
        try:
            new = load_settings(self._path, self._roster.scanners)
        except ConfigError as e:
            problems = "; ".join(e.problems)
            logger.warning("configuration kept as it was, the new one is wrong: %s", problems)
            state.is_successful, state.problems = False, e.problems
            return
        differing = changed(self._settings, new)
        state.is_successful, state.problems = True, ()
        state.needs_restart = tuple(name for name in differing if name in NEED_RESTART)
        if state.needs_restart:
            logger.warning("needs a restart: changed=%s", ", ".join(state.needs_restart))
        kept = {name: getattr(self._settings, name) for name in NEED_RESTART}
        self._settings = replace(new, **kept)
        self._apply(frozenset(differing))
        logger.info("configuration read again: changed=%s", ", ".join(differing) or "nothing")

    def _apply(self, differing: frozenset[str]) -> None:
        settings, now = self._settings, self._now()
        if "detectors" in differing:
            self._pipeline.retune(builtin_detectors(settings.detectors))
        if "inventory" in differing:
            self._tell(self._pipeline.forget(settings.inventory.forget, now), now)
        if "spool" in differing:
            self._journal.resize(settings.spool.bytes_max)
        if "collectors" in differing:
            self._roster.apply(settings)
        self._orders.apply(settings)
        if differing & STREAM_PARTS:
            self._reporter.labels = settings.labels
            self._membership.apply(settings)
            self._uplink.apply(settings)


async def _keep_heap_small() -> None:
    for pause in chain(HEAP_SECONDS, repeat(HEAP_SECONDS[-1])):
        await asyncio.sleep(pause)
        give_back()


async def _until_bound(make: Callable[[], Pages], what: str) -> Pages:
    trouble = ""
    while True:
        try:
            return make()
        except OSError as e:
            trouble = _warn_once(what, e, trouble)
            await asyncio.sleep(RETRY_SECONDS)


def _warn_once(what: str, error: OSError, trouble: str) -> str:
    """Log a trouble that is new; return it."""
    words = str(error.strerror or error)
    if words != trouble:
        logger.warning("%s: %s; tried again every %g s", what, words, RETRY_SECONDS)
    return words
