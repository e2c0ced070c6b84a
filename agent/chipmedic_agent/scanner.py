"""One collector on its beat: discovered, woken, given a deadline, and never started twice.

What a collector does here can hurt nobody else: it runs in a thread of its own that can be
abandoned, and whatever it raises becomes a gap. A scan that misses its deadline is left alone until
it comes back; what it then brings is still taken in, because the events in it will not be told
again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from chipmedic.collector import Collector
from chipmedic.errors import CollectError, ToolBlocked
from chipmedic.model import Coverage, Gap, GapReason, Scan, collector_component
from chipmedic_agent.config import CollectorSettings
from chipmedic_agent.coverage import Look, judge, look_at
from chipmedic_agent.registry import Absent, Broken, Discovery, Found
from chipmedic_agent.worker import Worker, finished

HOST_VENDOR = "host"
"""The vendor of a collector that asks no chip's driver."""
REDISCOVER_SECONDS = 60.0
"""How often a source that is not here is looked for: a driver may be loaded later."""
SETTLED_SECONDS = 600.0
SETTLED_REDISCOVER_SECONDS = 300.0
"""How often, once the agent has run for so long, where nothing of the source was ever seen."""
DISCOVER_SECONDS = 10.0
"""When a discovery that has not returned is reported."""
ABSENCE_GRACE_SECONDS = 300.0
"""After the start, how long a known source may be absent before its chips count as gone: a tool on
a network file system, or a module that is loaded late, is no loss of eight chips."""
SPACING_SECONDS = 0.05
"""The least time between two scans, however often a source wakes us."""
SLACK_SECONDS = 60.0
"""How late our own loop may be before `is_moving` says that it is stuck."""

logger = logging.getLogger(__name__)

Consume = Callable[[Scan, str | None], None]
"""Takes a scan and the cursor that belongs to it."""


@dataclass(slots=True)
class Tally:
    """What the framework counts for each collector."""

    scans: int = 0
    failed: int = 0
    blocked: int = 0
    seconds: float | None = None
    """Of the last scan that returned."""
    is_success: bool = False
    last_success_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of one call of `scan`."""

    scan: Scan | None
    error: BaseException | None
    cursor: str | None
    wake_fd: int | None
    seconds: float


class Scanner:
    """Runs one collector for ever."""

    def __init__(
        self,
        name: str,
        find: Callable[[], Discovery],
        *,
        consume: Consume,
        now: Callable[[], float],
        settings: CollectorSettings | None = None,
        knows_chips: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self.settings = settings or CollectorSettings()
        self.tally = Tally()
        self._find = find
        self._consume = consume
        self._now = now
        self._knows_chips = knows_chips
        self._worker = Worker(f"scan-{name}")
        self._collector: Collector | None = None
        self._running: asyncio.Future[Attempt] | None = None
        self._is_late = False
        self.closing: asyncio.Future[None] | None = None
        self._wake = asyncio.Event()
        self._wake_fd: int | None = None
        self._due = 0.0
        self._began_at = now()
        self._moved = time.monotonic()
        self._look: Look | None = None
        self._trouble = ""
        self._waiting: list[asyncio.Future[str]] = []

    @property
    def is_here(self) -> bool:
        """Whether the source was found."""
        return self._collector is not None

    @property
    def is_stuck(self) -> bool:
        """Whether a scan is running past its deadline."""
        return self._is_late

    @property
    def period_seconds(self) -> float:
        """How often it scans."""
        collector = self._collector or Collector
        return max(self.settings.period_seconds or collector.period_seconds, SPACING_SECONDS)

    @property
    def deadline_seconds(self) -> float:
        """When a scan is given up."""
        collector = self._collector or Collector
        return self.settings.deadline_seconds or collector.deadline_seconds

    def is_moving(self) -> bool:
        """Tell whether this loop still turns; a stuck collector does not stop it."""
        pause = self.period_seconds if self._collector else self._rediscover_seconds()
        allowed = pause + self.deadline_seconds + REDISCOVER_SECONDS + SLACK_SECONDS
        return time.monotonic() - self._moved < allowed

    def coverage(self, *, now: float, is_open: bool) -> Coverage | None:
        """Return the verdict of this check; None: its source is not on this host, and never was."""
        if self._look is None:
            if self._collector is None and not self._knows_chips():
                return None
            look = Look(self._began_at, blind="has not looked yet")
        else:
            look = self._look
        period = self.period_seconds if self._collector else REDISCOVER_SECONDS
        # A healthy scan may take as long as its deadline: it is not stale before that.
        period = max(period, self.deadline_seconds / 2)
        return judge(self.name, look, now=now, period_seconds=period, is_open=is_open)

    async def scan_now(self) -> str:
        """Scan without waiting for the beat; return what came of it in a few words."""
        if self.is_stuck:
            return "blocked"
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._wake.set()
        return await waiting

    async def run(self) -> None:
        """Discover the source, then scan on its beat, for ever."""
        if self._running is not None:  # switched off while it was stuck, and on again
            while not await finished(self._running, self.period_seconds):
                self._blocked("a scan from before it was switched off has not ended")
            self._running, self._is_late = None, False
        self._worker = Worker(f"scan-{self.name}")
        self._moved = time.monotonic()
        try:
            self._collector = await self._discover()
            self._due = time.monotonic()
            while True:
                await self._beat(self._collector)
                await self._rest()
        finally:
            self._close()

    # -- discovery

    async def _discover(self) -> Collector:
        while True:
            answer = await self._ask()
            match answer:
                case Found(collector):
                    logger.info("collector found: name=%s", self.name)
                    return collector
                case Absent(detail):
                    self._absent(detail)
                    self._worker.close()  # a thread is 60 KiB, and a dozen vendors are absent
                    self._worker = Worker(f"scan-{self.name}")
                case Broken(detail, is_blocked, defect):
                    self.tally.failed += 1
                    self._say(detail, defect)
                    self._report_gap(
                        GapReason.TIMED_OUT if is_blocked else GapReason.FAILED, detail
                    )
            await self._wait(self._rediscover_seconds())

    def _rediscover_seconds(self) -> float:
        """Return how long to leave a source alone that is not here.

        A dozen vendors' chips are looked for on every node, whose bus has hundreds of devices.
        """
        is_settled = self._look is None and self._now() - self._began_at >= SETTLED_SECONDS
        return SETTLED_REDISCOVER_SECONDS if is_settled else REDISCOVER_SECONDS

    async def _ask(self) -> Discovery:
        asked = self._worker.call(self._find)
        patience = DISCOVER_SECONDS
        while not await finished(asked, patience):
            patience = REDISCOVER_SECONDS
            self.tally.blocked += 1
            detail = f"discovery has not answered in {DISCOVER_SECONDS:g} s"
            self._say(detail, None)
            self._report_gap(GapReason.TIMED_OUT, detail)
        return asked.result()

    def _absent(self, detail: str) -> None:
        """Report a source that is not here; only one that has been here before is missed."""
        self._moved = time.monotonic()
        if not self._knows_chips():
            if self._look is not None:  # its trouble is over: it is not here
                self._hand_on(Scan(source=self.name, at=self._now()), None, "")
            self._look = None
            self._say("", None)
            self._answer("not on this host")
            return
        why = f"not found, though its chips are known: {detail}"
        self._say(why, None)
        if self._now() - self._began_at < ABSENCE_GRACE_SECONDS:
            self._report_gap(GapReason.FAILED, why)
            return
        gap = Gap(collector_component(self.name), None, GapReason.FAILED, why)
        scan = Scan(source=self.name, at=self._now(), gaps=(gap,), is_inventory=True)
        self._look = Look(scan.at, blind=why)
        self._hand_on(scan, None, why)

    # -- the beat

    async def _beat(self, collector: Collector) -> None:
        patience = self.deadline_seconds
        if self._running is None:
            self._running = self._worker.call(partial(_attempt, collector))
        elif self._is_late:
            patience = self.period_seconds
        if not await finished(self._running, patience):
            self._is_late = True
            self._blocked(f"no answer in {self.deadline_seconds:g} s")
            return
        attempt = self._running.result()
        was_late, self._is_late = self._is_late, False
        self._running = None
        self.tally.scans += 1
        self.tally.seconds = attempt.seconds
        self._wake_fd = attempt.wake_fd
        if attempt.scan is None:
            self._failed(attempt)
            return
        # It ended now: of a late scan, and of a clock that runs ahead, the time is not believed.
        at = self._now() if was_late else min(attempt.scan.at, self._now())
        scan = replace(attempt.scan, source=self.name, at=at)
        self.tally.is_success = True
        self.tally.last_success_at = self._now()
        self._say(str(attempt.error or ""), attempt.error)
        self._look = look_at(scan)
        self._hand_on(scan, attempt.cursor, self._look.blind or "done")

    def _blocked(self, detail: str) -> None:
        self.tally.blocked += 1
        self.tally.is_success = False
        self._say(detail, None)
        self._report_gap(GapReason.TIMED_OUT, detail)

    def _failed(self, attempt: Attempt) -> None:
        error = attempt.error
        if isinstance(error, ToolBlocked):
            self._blocked(str(error))
            return
        self.tally.failed += 1
        self.tally.is_success = False
        detail = str(error) if isinstance(error, CollectError) else repr(error)
        self._say(detail, error)
        self._report_gap(GapReason.FAILED, detail)

    def _report_gap(self, reason: GapReason, detail: str) -> None:
        gap = Gap(collector_component(self.name), None, reason, detail)
        scan = Scan(source=self.name, at=self._now(), gaps=(gap,))
        self._look = Look(scan.at, blind=f"{reason.value}: {detail}")
        self._hand_on(scan, None, detail)

    def _hand_on(self, scan: Scan, cursor: str | None, words: str) -> None:
        self._moved = time.monotonic()
        if self._asks_driver():
            scan = replace(scan, asks_driver=True)
        self._consume(scan, cursor)
        self._answer(words)

    def _asks_driver(self) -> bool:
        """Tell whether this source asks the driver of chips."""
        if self._collector is None:
            return self._knows_chips()
        return self._collector.vendor != HOST_VENDOR

    def _answer(self, words: str) -> None:
        """Tell whoever asked for a scan what came of it."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(words)
        self._waiting.clear()

    # -- waiting

    async def _rest(self) -> None:
        """Wait for the next beat, or for the source to wake us; that does not put the beat off."""
        now = time.monotonic()
        if self._due <= now:
            self._due = max(self._due + self.period_seconds, now)
        self._due = min(self._due, now + self.period_seconds)
        watched = None if self._running else self._watch(self._wake_fd)
        try:
            await self._wait(self._due - now)
        finally:
            if watched is not None:
                asyncio.get_running_loop().remove_reader(watched)
        too_early = now + SPACING_SECONDS - time.monotonic()
        if too_early > 0:
            await asyncio.sleep(too_early)

    def _watch(self, descriptor: int | None) -> int | None:
        """Let a descriptor wake us, once; return it unless it cannot be waited for."""
        if descriptor is None:
            return None
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.remove_reader(descriptor)  # it stays readable until it is scanned
            self._wake.set()

        try:
            loop.add_reader(descriptor, wake)
        except (OSError, ValueError) as e:  # closed, or a file that cannot be waited for
            self._say(f"cannot wait for its descriptor {descriptor}: {e}", None)
            return None
        return descriptor

    async def _wait(self, seconds: float) -> None:
        alarm = asyncio.get_running_loop().call_later(max(seconds, 0.0), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()
        self._wake.clear()

    def _say(self, trouble: str, error: BaseException | None) -> None:
        """Log a trouble when it begins, changes or ends, not at each beat."""
        if trouble == self._trouble:
            return
        if trouble:
            defect = None if isinstance(error, CollectError) else error
            logger.warning("scan failed: collector=%s why=%s", self.name, trouble, exc_info=defect)
        else:
            logger.info("scan works again: collector=%s", self.name)
        self._trouble = trouble

    def _close(self) -> None:
        self._answer("stopped")
        if self._collector is not None:
            self.closing = self._worker.call(partial(_close, self._collector))
            self._collector = None
            self._look = None
        self._worker.close()


def _attempt(collector: Collector) -> Attempt:
    """Call a collector in its thread; the wall around foreign code."""
    started = time.monotonic()
    scan: Scan | None = None
    error: BaseException | None = None
    cursor: str | None = None
    wake_fd: int | None = None
    try:
        scan = _checked(collector.scan())
        cursor = collector.cursor()
        wake_fd = collector.wake_fd()
    except (Exception, SystemExit) as e:  # noqa: BLE001 - the wall around foreign code
        error = e
    return Attempt(
        scan=scan,
        error=error,
        cursor=cursor,
        wake_fd=wake_fd,
        seconds=time.monotonic() - started,
    )


def _checked(scan: object) -> Scan:
    if not isinstance(scan, Scan):
        raise TypeError(f"scan returned {type(scan).__name__}, not a Scan")
    if not math.isfinite(scan.at):
        raise ValueError(f"scan: {scan.at} is no time")
    return scan


def _close(collector: Collector) -> None:
    try:
        collector.close()
    except Exception:
        logger.exception("collector did not close cleanly")
