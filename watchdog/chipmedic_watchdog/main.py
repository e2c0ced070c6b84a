"""The command `chipmedic-watchdog`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from chipmedic.errors import ChipmedicError, told
from chipmedic.logs import LEVELS, log_to_stderr
from chipmedic_watchdog import file_checks
from chipmedic_watchdog.config import DEFAULT_PATH, WatchdogSettings, load_settings
from chipmedic_watchdog.daemon import serve
from chipmedic_watchdog.version import own_version

EXIT_OK, EXIT_FAILED = 0, 1
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: starting again cannot help."""
COLLECT_AFTER = (50_000, 20, 20)
"""Objects that are made before the youngest are looked at; then every 20th look goes deeper."""
SWITCH_SECONDS = 0.0005
"""How long a thread of the store may keep the interpreter while the main loop waits for it.

The loop takes one new stream in each of its rounds, and with Python's own 5 ms a round of a busy
watchdog took so long that 10,000 agents needed two minutes to come back."""
UMASK = 0o027
"""The store holds log lines of jobs: it is not for everybody on the host."""


def run(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status."""
    sys.exit(main(argv))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 stopped, 1 failed, 78 wrong configuration."""
    arguments = _parser().parse_args(argv)
    _set_up_logging(arguments.log_level)
    try:
        settings = read_config(arguments.config, files=arguments.check_config)
    except ChipmedicError as e:
        _complain(e)
        return EXIT_CONFIG
    if arguments.check_config:
        sys.stdout.write(f"{arguments.config or DEFAULT_PATH}: ok\n")
        return EXIT_OK
    os.umask(UMASK)
    _collect_seldom()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        asyncio.run(serve(settings, arguments.config))
    except ChipmedicError as e:
        _complain(e)
        return EXIT_FAILED
    return EXIT_OK


def _collect_seldom() -> None:
    """Let the garbage collector look rarely.

    It goes through what lives, which grows with the fleet: with 6,000 agents and Python's own
    thresholds it took half of the main loop's time (bench/watchdog.py). Most of what comes and goes
    here is freed by its reference count.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def read_config(path: Path | None, *, files: bool = True) -> WatchdogSettings:
    """Read the configuration with the rules that it names; None: the usual place.

    `files`: look into the other files that it names as well. A daemon that starts reads each where
    it needs it.

    Raises:
        ConfigError: with every problem of it.
    """
    return load_settings(path, file_checks.ALL if files else (file_checks.rules,))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chipmedic-watchdog",
        description="The central service of chipmedic: takes in what the agents report, tells "
        "people, moves jobs off bad hardware.",
    )
    parser.add_argument(
        "--config", type=Path, help=f"configuration file (default: {DEFAULT_PATH}, if it exists)"
    )
    parser.add_argument(
        "--check-config", action="store_true", help="check the configuration file and exit"
    )
    parser.add_argument("--log-level", default="info", choices=LEVELS)
    parser.add_argument("--version", action="version", version=f"%(prog)s {own_version()}")
    return parser


def _set_up_logging(level: str) -> None:
    log_to_stderr(level)
    for name in ("alembic", "httpx", "apprise", "uvicorn"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def _complain(error: ChipmedicError) -> None:
    sys.stderr.write(f"{told('chipmedic-watchdog', error)}\n")


if __name__ == "__main__":
    run()
