"""Options that several commands share."""

from __future__ import annotations

import getpass
import json
import os
import sys
from typing import Annotated, Any

import typer

DEFAULT_WATCHDOG = "http://127.0.0.1:7480"

WatchdogOption = Annotated[
    str,
    typer.Option(
        "--watchdog",
        envvar="CHIPMEDIC_WATCHDOG",
        help="Address of the watchdog's HTTP interface.",
        default_factory=lambda: DEFAULT_WATCHDOG,
        show_default=DEFAULT_WATCHDOG,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
WhoOption = Annotated[
    str,
    typer.Option(
        "--who",
        help="Your name, for the audit.",
        default_factory=lambda: _own_name(),
        show_default="who you are on this host",
    ),
]


def _own_name() -> str:
    """Return who asks: through sudo the person, not root; empty where the host has no name."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return ""


def print_json(value: Any) -> None:
    """Print a value for programs."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
