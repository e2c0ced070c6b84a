"""What the agent of a node leaves for jobs: small files in a folder that every user may read.

`keep_out` is there while no launcher may start on this node; its first line says why. A launcher
that finds it does not start, and ends with `NO_RESTART_EXIT_STATUS` (`chipmedic.launch` does).

`checkpoint-<job>` is written when the job is asked for a checkpoint; each request makes it newer:

    from chipmedic.beat import beat
    from chipmedic.job_files import CheckpointRequests

    requests = CheckpointRequests()
    for step, batch in enumerate(data):
        train(batch)
        beat(step=step)
        if requests.is_new():            # one look at a file; cheap enough for every step
            save()
            beat(step=step, checkpoint=step)

Ranks that save together must agree: let rank 0 look and broadcast what it saw.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from chipmedic.beat import job_of

DEFAULT_DIRECTORY = "/run/chipmedic/jobs"
DIRECTORY_VARIABLE = "CHIPMEDIC_JOBS"
KEEP_OUT = "keep_out"
NO_RESTART_EXIT_STATUS = 93
"""The job must not be started again here: the contract that nvidia-resiliency-ext's launcher has
with its scheduler, so that one rule in a site's wrapper serves both."""
NAME_MAX = 200


def directory_of(environ: Mapping[str, str]) -> Path:
    """Return the folder in which the agent leaves its files."""
    return Path(environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY)


def checkpoint_file(job: str) -> str:
    """Return the name of the file that asks a job for a checkpoint."""
    return f"checkpoint-{quote(job, safe=':')[:NAME_MAX]}"


def keep_out_reason(directory: Path) -> str | None:
    """Return why no launcher may start on this node, or None where one may.

    A file that is there and cannot be read keeps out as well.
    """
    try:
        with (directory / KEEP_OUT).open(encoding="utf-8", errors="replace") as file:
            return file.readline(1000).strip() or "no reason is given"
    except FileNotFoundError:
        return None
    except OSError as e:
        return f"{directory / KEEP_OUT} cannot be read: {e.strerror}"


class CheckpointRequests:
    """Whether the agent has asked this job for a checkpoint since the last look.

    Never raises: no agent, no folder or no job's name is no request.
    """

    def __init__(self, job: str | None = None, *, directory: str | None = None) -> None:
        """Watch the requests for `job`; without one for the job that the environment marks.

        What was asked before this process began is no request to it.
        """
        name = job or job_of(os.environ)
        folder = Path(directory) if directory else directory_of(os.environ)
        self._path = None if name is None else folder / checkpoint_file(name)
        self._seen = self._written_at()

    def is_new(self) -> bool:
        """Tell whether a request has come since the last call; True once for each."""
        written_at = self._written_at()
        if written_at is None or written_at == self._seen:
            return False
        self._seen = written_at
        return True

    def _written_at(self) -> int | None:
        """Return when the file was written, in ns; None where there is none."""
        if self._path is None:
            return None
        try:
            return self._path.stat().st_mtime_ns
        except (OSError, ValueError):
            return None
