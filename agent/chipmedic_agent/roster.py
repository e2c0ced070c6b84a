"""The scanners of this node: which run, which are switched off, and what their checks say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from chipmedic.model import Coverage, Verdict
from chipmedic_agent.config import AgentSettings
from chipmedic_agent.scanner import Scanner

CLOSE_SECONDS = 2.0
"""How long collectors may take to close at the end."""

logger = logging.getLogger(__name__)


class Roster:
    """Starts and stops scanners as the configuration says."""

    def __init__(
        self,
        scanners: Iterable[Scanner],
        *,
        now: Callable[[], float],
        is_open_for: Callable[[str], bool],
        disabled: Callable[[str], None],
    ) -> None:
        self._scanners = {scanner.name: scanner for scanner in scanners}
        self._now = now
        self._is_open_for = is_open_for
        self._disabled = disabled
        self._off: dict[str, float] = {}
        """When each scanner that is switched off was switched off."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def scanners(self) -> Mapping[str, Scanner]:
        """All scanners by name, those that are switched off too."""
        return self._scanners

    @property
    def switched_off(self) -> frozenset[str]:
        """Names of those that the configuration has switched off."""
        return frozenset(self._off)

    async def run(self) -> None:
        """Run what is switched on, for ever; a defect in a scanner of ours ends it."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for name in self._scanners:
                self._start(name)
            await asyncio.get_running_loop().create_future()

    def apply(self, settings: AgentSettings) -> None:
        """Take over periods, deadlines and switches."""
        for name, scanner in self._scanners.items():
            scanner.settings = settings.for_collector(name)
            if scanner.settings.enabled:
                self._off.pop(name, None)
                self._start(name)
            elif name not in self._off:
                self._stop(name)

    def period_seconds(self, name: str) -> float:
        """Return how often a source scans."""
        scanner = self._scanners.get(name)
        return scanner.period_seconds if scanner else 60.0

    def coverage(self) -> list[Coverage]:
        """Return the verdict of every check, those that are switched off included."""
        now = self._now()
        verdicts = []
        for name, scanner in self._scanners.items():
            if name in self._off:
                off_at = self._off[name]
                verdicts.append(
                    Coverage(name, off_at, Verdict.UNKNOWN, "switched off by the configuration")
                )
                continue
            verdict = scanner.coverage(now=now, is_open=self._is_open_for(name))
            if verdict is not None:
                verdicts.append(verdict)
        return verdicts

    def looks(self, name: str) -> bool:
        """Tell whether a check sees anything now."""
        return any(
            one.check == name and one.verdict is not Verdict.UNKNOWN for one in self.coverage()
        )

    def is_moving(self) -> bool:
        """Tell whether every scanner's own loop turns, whatever its collector does."""
        return all(
            scanner.is_moving()
            for name, scanner in self._scanners.items()
            if name in self._tasks and name not in self._off
        )

    async def scan_now(self, names: Iterable[str]) -> dict[str, str]:
        """Scan at once; return what came of each. All that are switched on when none is named.

        Raises:
            KeyError: a name that is no check of this node.
        """
        chosen = list(names) or [name for name in self._scanners if name not in self._off]
        scanners = [self._scanners[name] for name in chosen]
        words = await asyncio.gather(
            *(
                _none("switched off") if scanner.name in self._off else scanner.scan_now()
                for scanner in scanners
            )
        )
        return dict(zip(chosen, words, strict=True))

    async def close(self) -> None:
        """Wait a little for collectors to close."""
        closing = [s.closing for s in self._scanners.values() if s.closing is not None]
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_SECONDS)

    def _start(self, name: str) -> None:
        if self._group is None or name in self._tasks or name in self._off:
            return
        self._tasks[name] = self._group.create_task(self._scanners[name].run(), name=f"scan {name}")

    def _stop(self, name: str) -> None:
        self._off[name] = self._now()
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
        logger.info("collector switched off: name=%s", name)
        self._disabled(name)


async def _none(words: str) -> str:
    return words
