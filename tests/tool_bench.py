"""What the tests of vendors' tools share: a real machine that they can hurry, and no tool left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from chipmedic.host import Answer, LinuxHost
from waiting import until


class SteppingHost(LinuxHost):
    """The real machine with a clock that the test moves ahead, and with less patience if it likes.

    A tool that is well gets all the time that its collector gives it, however busy the machine is.
    """

    def __init__(self, root: Path, env: dict[str, str]) -> None:
        super().__init__(root=str(root), env=env)
        self.ahead = 0.0
        self.limit_seconds = math.inf
        """No tool gets longer: for the time in which one of them hangs."""

    def now(self) -> float:
        return super().now() + self.ahead

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None = None
    ) -> Answer:
        limit_seconds = min(timeout_seconds, self.limit_seconds)
        return super().run(argv, timeout_seconds=limit_seconds, env=env)


def no_tool_is_left(words: str) -> None:
    """Wait until no process of this one has the words in its command line."""
    until(lambda: not tools_left(words), f"a tool outlived the scan that started it: {words}")


def tools_left(words: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if words in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:  # it ended meanwhile
            continue
    return found
