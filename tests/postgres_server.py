"""A real PostgreSQL server in a folder of its own, for tests of the store and of the system."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from waiting import PATIENCE_SECONDS

USER = "chipmedic"
PASSWORD = "only-for-tests"
NOBODY = 65534


def binaries() -> Path | None:
    """Return the folder of the newest server that is installed; Debian keeps it off PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: p.parts[4])
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _run_as() -> list[str]:
    """The server refuses to be root, and must not outlive a test that was killed."""
    dies_with_us = ["setpriv", "--pdeathsig=INT"]
    if os.geteuid() != 0:
        return dies_with_us
    return [*dies_with_us, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@dataclass
class PostgresServer:
    """One server, on a unix socket alone; its data stay in `folder` over restarts."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @classmethod
    def create(cls, place: Path | None = None) -> PostgresServer:
        """Make a new cluster of databases; the path of its socket must be a short one."""
        folder = place or Path(tempfile.mkdtemp(prefix="chipmedic-pg-"))
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        server = cls(folder)
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        server._call(
            "initdb", "--pgdata", str(folder / "data"), "--username", USER, "--encoding", "UTF8",
            "--locale", "C", "--auth", "scram-sha-256", "--pwfile", str(password), "--no-sync",
            "--wal-segsize", "1",
        )  # fmt: skip
        return server

    def _command(self, program: str, *arguments: str) -> list[str]:
        folder = binaries()
        assert folder is not None
        return [*_run_as(), str(folder / program), *arguments]

    def _call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(program, *arguments), capture_output=True, text=True, cwd="/", check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it and wait until it lets somebody in."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(
                    "postgres", "-D", str(self.folder / "data"), "-k", str(self.folder),
                    "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60",
                ),
                stdout=log, stderr=log, cwd="/", start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self.process is not None and self.process.poll() is None

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop it: SIGINT ends the sessions (fast), SIGQUIT is a crash of all of its processes."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
            try:
                self.process.wait(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:  # a session does not end: leave it no choice
                os.kill(self.process.pid, signal.SIGQUIT)
                self.process.wait(timeout=PATIENCE_SECONDS)
            self.process = None

    def connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.folder), user=USER, password=PASSWORD, dbname=database, autocommit=True
        )

    def new_database(self, template: str = "template0") -> str:
        """Make a database and return its name."""
        name = f"test_{next(self._numbers)}"
        with self.connect("postgres") as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        return name

    def drop_database(self, name: str) -> None:
        with self.connect("postgres") as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql+psycopg://{USER}:{password}@/{database}?host={self.folder}"

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
