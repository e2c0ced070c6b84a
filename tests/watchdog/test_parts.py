"""The daemon's parts: what a reload replaces or leaves for a restart, and which port is open."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from chipmedic_watchdog.config import HttpSettings, StoreSettings, StreamSettings, WatchdogSettings
from chipmedic_watchdog.metrics import Metrics
from chipmedic_watchdog.parts.configuration import needs_restart
from chipmedic_watchdog.parts.replaceable import Replaceable
from chipmedic_watchdog.parts.web import open_ports
from chipmedic_watchdog.recover.kubernetes.settings import KubernetesSettings
from chipmedic_watchdog.recover.settings import RecoverSettings
from chipmedic_watchdog.store_figures import StoreFigures

BEFORE = WatchdogSettings()


class Counting:
    """A loop that says how often it was begun, ended and woken."""

    def __init__(self) -> None:
        self.begun, self.ended, self.woken = asyncio.Event(), asyncio.Event(), 0

    async def run(self) -> None:
        """Work until cancelled."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    def wake(self) -> None:
        """Look now."""
        self.woken += 1


def test_a_loop_is_replaced_while_it_runs() -> None:
    async def story() -> None:
        first, second = Counting(), Counting()
        part = Replaceable("told", first)
        task = asyncio.create_task(part.run())
        await first.begun.wait()
        part.replace(second)
        await second.begun.wait()
        assert first.ended.is_set()
        part.wake()
        assert (first.woken, second.woken) == (0, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert second.ended.is_set()

    asyncio.run(story())


def test_a_loop_that_does_not_run_is_replaced_and_begins_once() -> None:
    async def story() -> None:
        first, second = Counting(), Counting()
        part = Replaceable("told", first)
        part.replace(second)  # this watchdog does not lead
        task = asyncio.create_task(part.run())
        await second.begun.wait()
        await asyncio.sleep(0)
        assert not first.begun.is_set()
        assert not second.ended.is_set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())


@pytest.mark.parametrize(
    ("after", "sections"),
    [
        (BEFORE, []),
        (replace(BEFORE, stream=StreamSettings(certificate_names="any")), []),
        (replace(BEFORE, stream=StreamSettings(listen="127.0.0.1:1")), ["stream"]),
        (replace(BEFORE, http=HttpSettings(loopback_role="view")), []),
        (
            replace(
                BEFORE,
                http=HttpSettings(listen="127.0.0.1:1"),
                store=StoreSettings(keep_events_days=1),
            ),
            ["store", "http"],
        ),
        (
            replace(BEFORE, recover=RecoverSettings(kubernetes=KubernetesSettings())),
            ["recover.kubernetes (for the names of jobs)"],
        ),
    ],
)
def test_what_needs_a_restart_is_named(after: WatchdogSettings, sections: list[str]) -> None:
    assert needs_restart(BEFORE, after) == sections


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (BEFORE, []),
        (
            replace(
                BEFORE,
                stream=StreamSettings(listen="0.0.0.0:1"),
                http=HttpSettings(listen="0.0.0.0:2"),
            ),
            ["stream", "http"],
        ),
        (
            replace(
                BEFORE,
                stream=StreamSettings(listen="0.0.0.0:1", certificate_file="c", key_file="k"),
            ),
            ["stream"],
        ),
    ],
)
def test_a_port_that_is_open_to_everybody_is_warned_of(
    settings: WatchdogSettings, keys: list[str]
) -> None:
    assert [key for key, _ in open_ports(settings)] == keys


def test_every_metric_has_a_name_of_its_own_and_words() -> None:
    page = Metrics().render(StoreFigures()).decode()
    helps = [line.split(maxsplit=3) for line in page.splitlines() if line.startswith("# HELP")]
    names = [name for _, _, name, _ in helps]
    assert len(names) == len(set(names))
    assert {"chipmedic_watchdog_stalls_total", "chipmedic_audit_head"} <= set(names)
    assert all(words.endswith(".") for *_, words in helps)
