"""The command `chipmedic-agent`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from chipmedic.errors import ChipmedicError, ConfigError, told
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
        settings = read_config(arguments.config, files=arguments.check_config)
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
        print(told("chipmedic-agent", e), file=sys.stderr)  # noqa: T201 - the one place of errors
        return EXIT_CONFIG if isinstance(e, ConfigError) else EXIT_FAILED
    return EXIT_OK


def read_config(path: Path | None, *, files: bool = True) -> AgentSettings:
    """Read the configuration; None: the usual place.

    `files`: look into the files that it names as well. A daemon that starts does not: a host is
    watched even while its certificate is missing.

    Raises:
        ConfigError: with every problem of it.
    """
    known = {*installed_collectors(), "jobs"}
    return load_settings(path, known, (_tls_files,) if files else ())


def _tls_files(settings: AgentSettings) -> Iterator[str]:
    """Say what is wrong with the files of `[tls]`; only a check loads cryptography."""
    from chipmedic.tls_files import TlsFiles

    tls = settings.tls
    yield from TlsFiles(
        section="tls",
        certificate_file=tls.certificate_file,
        key_file=tls.key_file,
        ca_file=tls.ca_file,
    ).problems(time.time())


def _join(argv: Sequence[str]) -> int:
    """Be `chipmedic agent join`; only this command loads cryptography."""
    from chipmedic_agent.enrol import join_command

    try:
        return join_command(argv)
    except ChipmedicError as e:
        print(told("chipmedic", e), file=sys.stderr)  # noqa: T201 - the one place of errors
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
