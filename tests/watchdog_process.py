"""The real `chipmedic-watchdog` as a process of its own, for tests of the system."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from waiting import PATIENCE_SECONDS

READY = re.compile(r"ready: stream_port=(\d+) http=(\S+)")


@dataclass
class WatchdogProcess:
    """One watchdog; its store and log stay in `folder` over restarts."""

    folder: Path
    config: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    store_url: str = ""
    """Empty: an SQLite file in the folder."""
    prefix: tuple[str, ...] = ()
    """Words before the command line: `ip netns exec NAME`, say."""
    process: subprocess.Popen[bytes] | None = None
    address: str = ""
    http: str = ""

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def config_path(self) -> Path:
        return self.folder / "watchdog.toml"

    def start(
        self, *, stream: str = "127.0.0.1:0", timeout_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Start it and wait until it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_config(stream)
        (self.folder / "log").write_text("")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.prefix,
                    sys.executable,
                    "-m",
                    "chipmedic_watchdog.main",
                    "--config",
                    self.config_path,
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + timeout_seconds
        while not (found := READY.search(self.log)):
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"not ready:\n{self.log}")
            time.sleep(0.05)
        self.address = f"{stream.rpartition(':')[0]}:{found[1]}"
        self.http = f"http://{found[2]}"

    def write_config(self, stream: str = "127.0.0.1:0") -> None:
        url = self.store_url or f"sqlite:///{self.folder}/store/watchdog.db"
        self.config_path.write_text(
            f'store.url = "{url}"\n'
            f'stream.listen = "{stream}"\nhttp.listen = "127.0.0.1:0"\n{self.config}'
        )

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Signal it and wait for its end; returns the exit status."""
        assert self.process is not None
        os.kill(self.process.pid, number)
        return self.process.wait(timeout=PATIENCE_SECONDS)

    def signal(self, number: int) -> None:
        """Signal it and go on."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def close(self) -> None:
        """End it, whatever its state."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.kill()

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.http + path, timeout=60)

    def items(self, path: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = self.get(path).json()["items"]
        return found
