"""The daemon: every part as one task of a group; a defect in one ends the process.

Order of the start: store, addresses, tasks, READY. Order of the end: agents are told to come back,
the queue is committed, the store is closed. What the parts are is in `parts`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from chipmedic import systemd
from chipmedic.errors import ChipmedicError
from chipmedic_watchdog.config import WatchdogSettings
from chipmedic_watchdog.lead.leader import Part, lead_while_held
from chipmedic_watchdog.parts.configuration import Configuration
from chipmedic_watchdog.parts.instruments import Instruments
from chipmedic_watchdog.parts.intake import build_intake
from chipmedic_watchdog.parts.leading import build_leading
from chipmedic_watchdog.parts.pulse import Pulse
from chipmedic_watchdog.parts.recovery import build_recovery
from chipmedic_watchdog.parts.store import open_store
from chipmedic_watchdog.parts.wakes import Wakes
from chipmedic_watchdog.parts.web import build_web, open_ports
from chipmedic_watchdog.startup import raise_file_limit

log = logging.getLogger(__name__)


class Daemon:
    """The watchdog."""

    def __init__(self, settings: WatchdogSettings, path: Path | None = None) -> None:
        """Open the store and bind the addresses.

        Raises:
            ChipmedicError: one of them is not to be had; the text says which and what to do.
        """
        own = Instruments()
        self._health = own.health
        self._configuration = Configuration(settings, path, own)
        self._store = open_store(settings, own)
        self._intake = build_intake(settings, self._store, own)
        self._pulse = Pulse(self._intake.liveness, own)
        self._recovery = build_recovery(
            settings, self._store, self._intake, own, lambda: self._configuration.settings
        )
        self._leading = build_leading(
            settings,
            self._store,
            self._intake,
            own,
            recovery=self._recovery.loop,
            pulse=self._pulse,
        )
        self._web = build_web(settings, self._store, self._intake, own, self._leading)
        self._wakes = Wakes(self._intake, self._leading, self._recovery)
        self._wakes.connect(self._web)
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
        raise_file_limit()
        self._handle_signals()
        settings = self._configuration.settings
        port = self._intake.listen(settings.stream)
        self._store.introduce(port, self._web.server.url)
        await self._intake.start()
        self._warn_of_open_ports(settings)
        address, door = self._web.server.address, self._intake.access.door
        log.info(
            "ready: stream_port=%d http=%s join=%s",
            port, address, "off" if door is None else door.address,
        )  # fmt: skip
        try:
            await self._serve(f"stream on port {port}, http on {address}")
        finally:
            # Also after a defect: agents see the end at once and nothing is written any more.
            await self._intake.stop(0)
            await self._store.close()
        log.info("stopped")

    async def _serve(self, status: str) -> None:
        tasks: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:
            web = group.create_task(self._web.server.run(), name="web")
            for name, run in self._parts().items():
                tasks.append(group.create_task(run(), name=name))
            systemd.ready(status)
            await self._stop.wait()
            systemd.stopping()
            await self._intake.say_goodbye()
            self._web.server.stop()
            await web
            for task in tasks:
                task.cancel()

    def stop(self) -> None:
        """End as on SIGTERM."""
        self._stop.set()

    def _parts(self) -> dict[str, Part]:
        store = self._store
        leading = {"liveness of all": self._intake.liveness.lead, **self._leading.parts()}
        parts: dict[str, Part] = {
            **self._intake.parts(),
            "alive": self._pulse.feed_systemd,
            **self._recovery.parts(),
            "lead": store.lead.run,
            "leading": lambda: lead_while_held(store.lead, leading),
        }
        if store.database.is_shared:
            parts["signals"] = store.listener(self._wakes.by_signal())
            parts["nodes elsewhere"] = self._intake.liveness.follow
        return parts

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        self._configuration.reload(self._intake, self._leading, self._web)

    def _warn_of_open_ports(self, settings: WatchdogSettings) -> None:
        for key, words in open_ports(settings):
            self._health.warnings[key] = words
            log.warning("%s", words)


async def serve(settings: WatchdogSettings, config_path: Path | None) -> None:
    """Run a watchdog in this process until it is told to stop.

    Raises:
        ChipmedicError: it cannot start, or a part of it failed for a foreseen reason.
    """
    daemon = Daemon(settings, config_path)
    failed: BaseExceptionGroup[ChipmedicError] | None = None
    try:
        await daemon.run()
    except* ChipmedicError as group:
        failed = group
    # Not in the clause: Python before 3.11.4 (Debian 12 has 3.11.2) wraps what is raised there.
    if failed is not None:
        raise _first(failed) from failed


def _first(group: BaseExceptionGroup[ChipmedicError]) -> ChipmedicError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
