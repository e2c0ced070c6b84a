"""`chipmedic beat`: a job tells from a shell script that it moves.

It never fails a job: without an agent it says so on stderr and exits with 0, so that `set -e` is
safe.
"""

from __future__ import annotations

import os

import typer

from chipmedic.beat import DEFAULT_SOCKET
from chipmedic.beat import beat as send
from chipmedic.errors import ChipmedicError


def run(
    *,
    step: int | None,
    phase: str | None,
    checkpoint: int | None,
    rank: int | None,
    job: str | None,
    log: str | None,
) -> None:
    """Send one beat.

    Raises:
        ChipmedicError: nothing was given to tell.
    """
    if step is None and phase is None and checkpoint is None and log is None:
        raise ChipmedicError("beat: tell at least one of --step, --phase, --checkpoint, --log")
    if not send(step=step, phase=phase, checkpoint=checkpoint, rank=rank, job=job, log=log):
        path = os.environ.get("CHIPMEDIC_SOCKET") or DEFAULT_SOCKET
        typer.echo(f"chipmedic beat: no agent listens at {path}; the job goes on", err=True)
