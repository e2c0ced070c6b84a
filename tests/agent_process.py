"""The agent as a real process, and what became of its faults in a real watchdog's store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from sqlalchemy import select

from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database, open_engine
from waiting import PATIENCE_SECONDS
from watchdog_process import WatchdogProcess

RUN = "from chipmedic_agent.main import run; run()"


class AgentProcess:
    """The real `chipmedic-agent` on a simulated root; its state stays over restarts."""

    def __init__(self, folder: Path, watchdog: str) -> None:
        self.folder = folder
        self.config = folder / "agent.toml"
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = dict(os.environ)
        folder.mkdir()
        self.config.write_text(
            f'node = "node-1"\nwatchdogs = ["{watchdog}"]\nhost_root = "{folder}/root"\n'
            f'state_directory = "{folder}/state"\nprogress_socket = "{folder}/beats"\n'
            f'[http]\nlisten = "127.0.0.1:0"\n'
        )

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, "--config", self.config],
                stdout=log, stderr=log, env=self.environment, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE_SECONDS)
            self.process = None


def stored(watchdog: WatchdogProcess) -> tuple[Counter[str], list[int], Counter[str]]:
    """Return how often each chip's fault began, all event numbers, and how many incidents have it.

    Of the chips that the test has broken; other faults of this host are none of its business.
    """
    database = Database(open_engine(f"sqlite:///{watchdog.folder}/store/watchdog.db"))
    try:
        faults = database.read_now(lambda c: c.execute(select(schema.faults)).mappings().all())
        seqs = database.read_now(lambda c: list(c.execute(select(schema.events.c.seq)).scalars()))
    finally:
        database.close()
    ours = [fault for fault in faults if fault["kind"] == "chip.lost"]
    begun = Counter(fault["component"] for fault in ours)
    told = Counter(fault["component"] for fault in ours if fault["incident"])
    return begun, seqs, told
