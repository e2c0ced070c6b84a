"""The end: what cannot be waited for does not hold it up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from chipmedic.host import Answer, LinuxHost
from chipmedic_agent.config import AgentSettings, TlsSettings
from chipmedic_agent.membership import Membership
from chipmedic_agent.worker import apart
from waiting import PATIENCE_SECONDS

HELD_UP = """
import threading, time
from chipmedic_agent.last_end import end_within
threading.Thread(target=time.sleep, args=(3600,), name="a library").start()
end_within({seconds})
"""
ENDS_BY_ITSELF = "from chipmedic_agent.last_end import end_within; end_within(3600)"


def ended(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_a_thread_that_never_ends_is_named_and_left() -> None:
    answer = ended(HELD_UP.format(seconds=0.1))
    assert answer.returncode == 0
    assert "ended without waiting any longer" in answer.stderr
    assert "a library" in answer.stderr


def test_the_bound_itself_holds_nothing_up_and_says_nothing() -> None:
    answer = ended(ENDS_BY_ITSELF)
    assert (answer.returncode, answer.stderr) == (0, "")


class Silent(LinuxHost):
    """Its tools answer only when the test is over."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked, self.is_over = threading.Event(), threading.Event()

    def run(self, argv: Sequence[str], **_: object) -> Answer:
        self.is_asked.set()
        self.is_over.wait()
        return Answer("", "", 1)


async def _cancelled(work: asyncio.Task[object], is_begun: threading.Event) -> None:
    while not is_begun.is_set():
        await asyncio.sleep(0.01)
    work.cancel()
    await asyncio.wait({work})


def test_a_certificate_that_nobody_gives_does_not_hold_the_end_up(tmp_path: Path) -> None:
    host = Silent()
    settings = AgentSettings(
        node="n1",
        watchdogs=("w1:7443",),
        state_directory=str(tmp_path),
        tls=TlsSettings(token_file="/etc/token"),
    )

    async def work() -> None:
        membership = Membership(settings, host, lambda _: None)
        await _cancelled(asyncio.create_task(membership.run()), host.is_asked)

    asyncio.run(work())  # would wait for the threads of the loop's executor
    host.is_over.set()


def test_a_load_that_never_ends_does_not_hold_the_end_up() -> None:
    host = Silent()

    async def work() -> None:
        load = asyncio.create_task(apart("load", lambda: host.run(["load"])))
        await _cancelled(load, host.is_asked)

    asyncio.run(work())
    host.is_over.set()
