"""The command `chipmedic-agent`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from chipmedic.errors import ChipmedicError, ConfigError
from chipmedic.heap import use_one_heap
from chipmedic.logs import LEVELS, log_to_stderr
from chipmedic_agent.config import DEFAULT_PATH, AgentSettings, load_settings
from chipmedic_agent.registry import installed_collectors

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: starting again cannot help."""


def run() -> None:
    """Be the console command."""
    raise SystemExit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["join"]:
        return _join(words[1:])
    arguments = _parser().parse_args(words)
    log_to_stderr(arguments.log_level)
    try:
        settings = read_config(arguments.config)
        if arguments.check_config:
            print(f"{arguments.config or DEFAULT_PATH}: ok")  # noqa: T201 - the command's answer
            return EXIT_OK
        use_one_heap()
        # gRPC reads these when it is imported. Its fork handlers are for programs that go on to use
        # it in a forked child; ours only start tools. Its own log repeats what the uplink says.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from chipmedic_agent.daemon import Daemon

        async def work() -> None:
            await Daemon(settings, arguments.config).run()

        asyncio.run(work())
    except ChipmedicError as e:
        print(f"chipmedic-agent: {e}", file=sys.stderr)  # noqa: T201 - the one place of errors
        return EXIT_CONFIG if isinstance(e, ConfigError) else EXIT_FAILED
    return EXIT_OK


def read_config(path: Path | None) -> AgentSettings:
    """Read the configuration with all that it names; None: the usual place.

    Raises:
        ConfigError: with every problem of it.
    """
    return load_settings(path, {*installed_collectors(), "jobs"})


def _join(argv: Sequence[str]) -> int:
    """Be `chipmedic agent join`; only this command loads cryptography."""
    from chipmedic_agent.enrol import join_command

    try:
        return join_command(argv)
    except ChipmedicError as e:
        print(f"chipmedic: {e}", file=sys.stderr)  # noqa: T201 - the one place of errors
        return EXIT_CONFIG if isinstance(e, ConfigError) else EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chipmedic-agent",
        description="Watches the accelerator chips of this host. `chipmedic-agent join` gets it a "
        "certificate of the watchdog.",
    )
    parser.add_argument(
        "--config", type=Path, help=f"configuration (default: {DEFAULT_PATH}, if it is there)"
    )
    parser.add_argument(
        "--check-config", action="store_true", help="say what is wrong with it, and end"
    )
    parser.add_argument(
        "--log-level",
        default="info",
        choices=LEVELS,
        help="the least that is logged to standard error (default: info)",
    )
    return parser
