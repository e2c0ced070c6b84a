"""The entry point of the command `chipmedic`.

A compute node may have the agent alone; then the command line's libraries are absent, and that gets
one clear line instead of a traceback.
"""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command line."""
    try:
        from chipmedic_cli.main import run as run_app
    except ModuleNotFoundError as e:
        if e.name not in {"typer", "rich", "httpx"}:
            raise
        sys.stderr.write(
            f"chipmedic: the command line needs {e.name}: pip install 'chipmedic[cli]' "
            "(the daemon chipmedic-agent runs without it)\n"
        )
        sys.exit(1)
    run_app()
