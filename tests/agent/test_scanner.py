"""The scanner with collectors that hang, raise, wake, lie and come late."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Self

import pytest

from agent_story import component
from chipmedic.collector import Collector
from chipmedic.errors import CollectError, ToolBlocked
from chipmedic.host import Host
from chipmedic.metric import Metric
from chipmedic.model import (
    Event,
    GapReason,
    Reading,
    Scan,
    Verdict,
    collector_component,
)
from chipmedic_agent import scanner as scanner_module
from chipmedic_agent.config import CollectorSettings
from chipmedic_agent.registry import Absent, Broken, Discovery, Found
from chipmedic_agent.scanner import Scanner
from waiting import PATIENCE_SECONDS, eventually

WARM = Reading(component("A"), Metric.TEMPERATURE, 40.0)


class Scripted(Collector):
    """Answers with one function after another; the last one again and again."""

    vendor = "acme"
    period_seconds = 0.02
    deadline_seconds = PATIENCE_SECONDS

    def __init__(self, *answers: Callable[[], Scan]) -> None:
        self.answers = list(answers)
        self.calls = 0
        self.running = 0
        self.most_running = 0
        self.threads: set[int] = set()
        self.is_closed = False
        self.fd: int | None = None

    def in_a_hurry(self) -> Self:
        """Return it with a deadline that a hung scan soon misses."""
        self.deadline_seconds = 0.15  # type: ignore[misc]
        return self

    @classmethod
    def discover(cls, host: Host) -> Self | None:
        del host
        return None

    def scan(self) -> Scan:
        self.calls += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.threads.add(threading.get_ident())
        try:
            return self.answers[min(self.calls, len(self.answers)) - 1]()
        finally:
            self.running -= 1

    def cursor(self) -> str | None:
        return f"after {self.calls}"

    def wake_fd(self) -> int | None:
        return self.fd

    def close(self) -> None:
        self.is_closed = True


def good() -> Scan:
    return Scan(source="anything", at=time.time(), readings=(WARM,))


def failing(error: BaseException) -> Callable[[], Scan]:
    def scan() -> Scan:
        raise error

    return scan


class Seen:
    """What a scanner handed on."""

    def __init__(self) -> None:
        self.scans: list[Scan] = []
        self.cursors: list[str | None] = []
        self._more = asyncio.Event()

    def take(self, scan: Scan, cursor: str | None) -> None:
        self.scans.append(scan)
        self.cursors.append(cursor)
        self._more.set()

    async def until(self, is_so: Callable[[Scan], bool]) -> Scan:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for scan in self.scans:
                    if is_so(scan):
                        return scan
                self._more.clear()
                await self._more.wait()


@contextlib.asynccontextmanager
async def scanning(
    find: Callable[[], Discovery] | Collector, **rest: object
) -> AsyncIterator[tuple[Scanner, Seen]]:
    seen = Seen()
    finder = (lambda: Found(find)) if isinstance(find, Collector) else find
    scanner = Scanner("acme", finder, consume=seen.take, now=time.time, **rest)  # type: ignore[arg-type]
    task = asyncio.create_task(scanner.run())
    try:
        yield scanner, seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if scanner.closing is not None:
            await asyncio.wait({scanner.closing}, timeout=2)


def has_gap(reason: GapReason) -> Callable[[Scan], bool]:
    return lambda scan: any(
        gap.reason is reason and gap.component == collector_component("acme") for gap in scan.gaps
    )


def verdict(scanner: Scanner, *, is_open: bool = False) -> Verdict:
    coverage = scanner.coverage(now=time.time(), is_open=is_open)
    assert coverage is not None
    return coverage.verdict


async def test_a_good_collector_is_scanned_on_its_beat_in_one_thread() -> None:
    collector = Scripted(good)
    async with scanning(collector) as (scanner, seen):
        await seen.until(lambda _: len(seen.scans) >= 4)
        assert verdict(scanner) is Verdict.OK
        assert verdict(scanner, is_open=True) is Verdict.FAULT
        assert scanner.tally.is_success
        assert scanner.tally.scans >= 4
    assert seen.scans[0].source == "acme", "the entry point's name is the source's"
    assert seen.cursors[0] == "after 1"
    assert len(collector.threads) == 1
    assert collector.is_closed


async def test_a_stuck_scan_is_told_again_and_again_and_never_started_twice() -> None:
    release = threading.Event()

    def stuck() -> Scan:
        release.wait(PATIENCE_SECONDS)
        return Scan(
            source="x",
            at=1.0,
            events=(Event(component=component("A"), code="c:1", message="late", at=1.0),),
        )

    collector = Scripted(good, stuck, good).in_a_hurry()
    async with scanning(collector) as (scanner, seen):
        await seen.until(lambda _: sum(map(has_gap(GapReason.TIMED_OUT), seen.scans)) >= 3)
        assert collector.calls == 2
        assert scanner.is_stuck
        assert verdict(scanner) is Verdict.UNKNOWN
        assert await scanner.scan_now() == "blocked"
        before = time.time()
        release.set()
        late = await seen.until(lambda scan: bool(scan.events))
        assert late.at >= before, "time does not run backwards"
        await seen.until(lambda _: collector.calls >= 3)
        assert scanner.tally.blocked >= 3
    assert collector.most_running == 1


async def test_one_stuck_collector_holds_up_no_other() -> None:
    release = threading.Event()
    hung = [Scripted(lambda: (release.wait(PATIENCE_SECONDS), good())[1]) for _ in range(12)]
    try:
        async with contextlib.AsyncExitStack() as stack:
            for collector in hung:
                await stack.enter_async_context(scanning(collector))
            _, seen = await stack.enter_async_context(scanning(Scripted(good)))
            await seen.until(lambda _: len(seen.scans) >= 3)
            release.set()
    finally:
        release.set()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ToolBlocked("acme-smi: no answer in 5 s"), GapReason.TIMED_OUT),
        (CollectError("acme-smi: driver not loaded"), GapReason.FAILED),
        (ZeroDivisionError("a defect"), GapReason.FAILED),
        (SystemExit(3), GapReason.FAILED),
    ],
)
async def test_whatever_a_collector_raises_is_a_gap(
    error: BaseException, reason: GapReason
) -> None:
    async with scanning(Scripted(failing(error), good)) as (scanner, seen):
        scan = await seen.until(has_gap(reason))
        assert str(error) in scan.gaps[0].detail
        await seen.until(lambda scan: bool(scan.readings))
        assert scanner.tally.is_success


@pytest.mark.parametrize(
    "answer", [lambda: None, lambda: Scan(source="x", at=float("nan"))], ids=["None", "no time"]
)
async def test_what_is_no_scan_is_a_failure(answer: Callable[[], Scan]) -> None:
    async with scanning(Scripted(answer)) as (scanner, seen):
        await seen.until(has_gap(GapReason.FAILED))
        assert verdict(scanner) is Verdict.UNKNOWN


async def test_trouble_is_logged_when_it_begins_changes_and_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="chipmedic_agent.scanner")
    collector = Scripted(
        *[failing(CollectError("one"))] * 3, *[failing(ValueError("two"))] * 3, good
    )
    async with scanning(collector) as (_, seen):
        await seen.until(lambda scan: bool(scan.readings))
    words = [r.getMessage() for r in caplog.records if "scan" in r.getMessage()]
    assert [word.split(":")[0] for word in words] == [
        "scan failed",
        "scan failed",
        "scan works again",
    ]
    tracebacks = [bool(record.exc_info and record.exc_info[0]) for record in caplog.records]
    assert sum(tracebacks) == 1, "only the defect has a traceback, once"


async def test_a_pushed_source_wakes_the_scanner() -> None:
    reader, writer = os.pipe()
    collector = Scripted(good)
    collector.period_seconds = 60.0  # type: ignore[misc]
    collector.fd = reader

    def drained() -> Scan:
        os.read(reader, 100)
        return good()

    collector.answers = [good, drained]
    try:
        async with scanning(collector) as (_, seen):
            await seen.until(lambda _: len(seen.scans) == 1)
            await asyncio.sleep(0.1)
            assert len(seen.scans) == 1
            os.write(writer, b"x")
            await seen.until(lambda _: len(seen.scans) == 2)
    finally:
        os.close(reader)
        os.close(writer)


async def test_a_descriptor_that_cannot_be_waited_for_costs_only_the_push() -> None:
    collector = Scripted(good)
    collector.fd = 9999
    async with scanning(collector) as (_, seen):
        await seen.until(lambda _: len(seen.scans) >= 3)


async def test_scan_now_does_not_wait_for_the_beat() -> None:
    collector = Scripted(good)
    collector.period_seconds = 3600.0  # type: ignore[misc]
    async with scanning(collector) as (scanner, seen):
        await seen.until(lambda _: True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await scanner.scan_now() == "done"
        assert len(seen.scans) == 2


async def test_scans_between_the_beats_do_not_put_the_beat_off() -> None:
    collector = Scripted(good)
    collector.period_seconds = 0.5  # type: ignore[misc]
    async with scanning(collector) as (scanner, seen):
        for _ in range(10):
            assert await scanner.scan_now() == "done"
        asked = len(seen.scans)
        await seen.until(lambda _: len(seen.scans) >= asked + 2)


async def test_the_configuration_overrules_the_collector() -> None:
    settings = CollectorSettings(period_seconds=30.0, deadline_seconds=7.0)
    async with scanning(Scripted(good), settings=settings) as (scanner, seen):
        await seen.until(lambda _: True)
        assert (scanner.period_seconds, scanner.deadline_seconds) == (30.0, 7.0)


# -- discovery


async def test_a_source_that_is_not_here_is_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner_module, "REDISCOVER_SECONDS", 0.02)
    answers = iter([Absent(), Absent()])
    collector = Scripted(good)
    async with scanning(lambda: next(answers, Found(collector))) as (scanner, seen):
        assert scanner.coverage(now=time.time(), is_open=False) is None
        await seen.until(lambda scan: bool(scan.readings))
        assert verdict(scanner) is Verdict.OK, "a driver that came later is found"


async def test_a_settled_agent_looks_less_often_for_what_was_never_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scanner_module, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(scanner_module, "SETTLED_REDISCOVER_SECONDS", 0.02)
    answers = iter([Absent(), Absent()])
    async with scanning(lambda: next(answers, Found(Scripted(good)))) as (scanner, seen):
        await seen.until(lambda scan: bool(scan.readings))
        assert scanner.is_moving()


async def test_a_source_that_stays_ready_is_not_scanned_without_a_pause() -> None:
    reader, writer = os.pipe()
    collector = Scripted(good)
    collector.period_seconds = 60.0  # type: ignore[misc]
    collector.fd = reader
    try:
        os.write(writer, b"x")  # nobody reads it
        async with scanning(collector) as (_, seen):
            await seen.until(lambda _: len(seen.scans) == 3)
            times = [scan.at for scan in seen.scans]
            assert times[2] - times[0] >= scanner_module.SPACING_SECONDS
    finally:
        os.close(reader)
        os.close(writer)


async def test_a_known_source_that_is_gone_is_unknown_and_later_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scanner_module, "REDISCOVER_SECONDS", 0.02)
    monkeypatch.setattr(scanner_module, "ABSENCE_GRACE_SECONDS", 3600.0)
    async with scanning(lambda: Absent("no acme-smi"), knows_chips=lambda: True) as (
        scanner,
        seen,
    ):
        first = await seen.until(lambda _: True)
        assert not first.is_inventory, "within the grace nothing is called lost"
        assert verdict(scanner) is Verdict.UNKNOWN
        monkeypatch.setattr(scanner_module, "ABSENCE_GRACE_SECONDS", 0.0)
        later = await seen.until(lambda scan: scan.is_inventory)
        assert later.chips == ()
        assert has_gap(GapReason.FAILED)(later)


async def test_a_discovery_that_hangs_is_reported_and_awaited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scanner_module, "DISCOVER_SECONDS", 0.05)
    release = threading.Event()
    collector = Scripted(good)

    def hang() -> Discovery:
        release.wait(PATIENCE_SECONDS)
        return Found(collector)

    async with scanning(hang) as (scanner, seen):
        await seen.until(has_gap(GapReason.TIMED_OUT))
        assert verdict(scanner) is Verdict.UNKNOWN
        release.set()
        await seen.until(lambda scan: bool(scan.readings))


async def test_a_broken_collector_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner_module, "REDISCOVER_SECONDS", 0.02)
    async with scanning(lambda: Broken("cannot be imported", defect=ImportError("x"))) as (
        scanner,
        seen,
    ):
        await seen.until(has_gap(GapReason.FAILED))
        assert verdict(scanner) is Verdict.UNKNOWN


async def test_switched_off_while_stuck_and_on_again_starts_no_second_scan() -> None:
    release = threading.Event()
    collector = Scripted(lambda: (release.wait(PATIENCE_SECONDS), good())[1])
    seen = Seen()
    scanner = Scanner("acme", lambda: Found(collector), consume=seen.take, now=time.time)
    for _ in range(2):
        task = asyncio.create_task(scanner.run())
        await eventually(lambda: collector.most_running)
        await asyncio.sleep(0.3)  # long enough for a second scan, were there one
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert collector.most_running == 1
    release.set()
    await eventually(lambda: not collector.running)
    await asyncio.sleep(0.1)
