"""What a training job calls to say that it moves: one datagram to the agent of its node.

    from chipmedic.beat import beat

    for step, batch in enumerate(data):
        train(batch)
        beat(step=step)
        if step % 1000 == 0:
            beat(step=step, phase="checkpoint")
            save()
            beat(step=step, phase="train", checkpoint=step)

A beat costs some microseconds, never waits and never raises; without an agent nothing happens.
Name the phases that take their time (`init`, `compile`, `checkpoint`, `evaluate`; `done` at the
end): a job that does is judged within seconds in phase `train`, and left alone in the others.

A job that must not import anything copies this instead:

    import os, socket
    SOCKET = os.environ.get("CHIPMEDIC_SOCKET", "/run/chipmedic/progress.sock")
    def beat(**facts):
        text = " ".join(f"{name}={value}" for name, value in facts.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(text.encode(), socket.MSG_DONTWAIT, SOCKET)
        except OSError:
            pass

The datagram is text: `job=... rank=0 step=12 phase=train checkpoint=10 log=/path`, every word
optional, blanks and control characters in values percent-encoded, at most `SIZE_MAX` bytes.
"""

from __future__ import annotations

import operator
import os
import socket
from collections.abc import Mapping
from typing import SupportsIndex
from urllib.parse import quote

DEFAULT_SOCKET = "/run/chipmedic/progress.sock"
SIZE_MAX = 1024
_PLAIN = "/:@+,=()[]{}<>!*'~$&;?#^|"


def beat(
    step: SupportsIndex | None = None,
    phase: str | None = None,
    checkpoint: SupportsIndex | None = None,
    *,
    rank: SupportsIndex | None = None,
    job: str | None = None,
    log: str | None = None,
    socket_path: str | None = None,
) -> bool:
    """Tell the agent how far this process has come; return whether it was handed over.

    Job and rank come from the environment that Slurm, torchrun or the user set. `checkpoint` is the
    step of the newest checkpoint that is safe on disk; `log` names a file whose growth is progress
    too (or set `CHIPMEDIC_LOG`). A tensor as `step` costs a synchronisation: give an int.
    """
    environ = os.environ
    path = socket_path or environ.get("CHIPMEDIC_SOCKET") or DEFAULT_SOCKET
    try:
        text = encode(
            job=job or job_of(environ),
            rank=rank_of(environ) if rank is None else operator.index(rank),
            step=None if step is None else operator.index(step),
            phase=phase,
            checkpoint=None if checkpoint is None else operator.index(checkpoint),
            log=log or environ.get("CHIPMEDIC_LOG"),
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(text, socket.MSG_DONTWAIT, path)
    except (OSError, OverflowError, RuntimeError, TypeError, ValueError):
        return False  # no agent, a full queue, a step that is no number: never the job's trouble
    return True


def encode(**facts: int | str | None) -> bytes:
    """Return the datagram for these facts; None is left out."""
    words = (
        f"{name}={quote(str(value), safe=_PLAIN)}"
        for name, value in facts.items()
        if value is not None
    )
    return " ".join(words).encode()


def job_of(environ: Mapping[str, str]) -> str | None:
    """Return the job that an environment marks; the scheduler's mark goes before a launcher's.

    torchrun's run id is `none` unless one was given; then the rendezvous address tells runs apart,
    on every node alike.
    """
    if number := environ.get("SLURM_JOB_ID") or environ.get("SLURM_JOBID"):
        return f"slurm:{number}"
    if name := environ.get("CHIPMEDIC_JOB"):
        return f"local:{name}"
    return torchrun_of(environ)


def torchrun_of(environ: Mapping[str, str]) -> str | None:
    """Return torchrun's own name of the job, if it started this process."""
    run = environ.get("TORCHELASTIC_RUN_ID")
    if not run:
        return None
    if run == "none" and environ.get("MASTER_ADDR"):
        run = f"{environ['MASTER_ADDR']}:{environ.get('MASTER_PORT', '')}"
    return f"torchrun:{run}"


def rank_of(environ: Mapping[str, str]) -> int | None:
    """Return the global rank of a process, from the launcher that is nearest to it."""
    for name in ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"):
        if (number := small_number(environ.get(name, ""))) is not None:
            return number
    return None


def small_number(text: str) -> int | None:
    """Return a count that an environment holds; None for what no launcher counts up to.

    Anybody can write any number of digits there, and the stream carries 31 bits.
    """
    return int(text) if text.isdecimal() and len(text) < 10 else None
