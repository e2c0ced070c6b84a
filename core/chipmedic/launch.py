"""Starts a launcher (torchrun) on a node, unless the node is kept out; keeps the exit contract.

    python -m chipmedic.launch -- torchrun --nnodes=2:4 --rdzv-id=llama train.py

Exit status 93 means: do not start this again here. It is given where the agent keeps launchers off
this node, before the start or when the launcher has ended meanwhile, and where the launcher itself
ended with 93. Every other status is the launcher's own; one that a signal ended gives 128 and the
signal's number, as a shell does. Whatever starts this program again and again (systemd, a loop, a
scheduler) must leave off at 93: systemd with `RestartPreventExitStatus=93`.

The standard library alone: copy `beat.py`, `job_files.py` and this file into an image that has no
chipmedic, and mount the folder `/run/chipmedic` into its containers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from chipmedic.job_files import NO_RESTART_EXIT_STATUS, directory_of, keep_out_reason

USAGE = "usage: python -m chipmedic.launch [--] LAUNCHER ARGUMENT..."
EXIT_USAGE, EXIT_NOT_FOUND, EXIT_NOT_RUNNABLE = 2, 127, 126
UNSHARED_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
"""Set to 1 for the launcher unless it is set. Read and seen in torch 2.13: with a shared store the
first launcher tells its address in the first round alone, so a spare that comes in later waits a
minute for it and ends, and the job with it."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: Sequence[str]) -> int:
    """Run the launcher to its end; return the exit status."""
    argv = list(arguments[1:] if arguments[:1] == ["--"] else arguments)
    if not argv or argv[0] in ("-h", "--help"):
        sys.stderr.write(f"{USAGE}\n\n{__doc__}")
        return 0 if argv else EXIT_USAGE
    folder = directory_of(os.environ)
    if (reason := keep_out_reason(folder)) is not None:
        return _refuse(f"{argv[0]} is not started", reason)
    try:
        status = _run(argv)
    except FileNotFoundError:
        return _say(f"{argv[0]}: not found", EXIT_NOT_FOUND)
    except OSError as e:
        return _say(f"{argv[0]}: cannot be started: {e.strerror}", EXIT_NOT_RUNNABLE)
    if (reason := keep_out_reason(folder)) is not None:
        return _refuse(f"{argv[0]} has ended with {status}", reason)
    return status


def _run(argv: Sequence[str]) -> int:
    """Run a program, hand signals on to it, and return its status as a shell would."""
    waiting: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def hand_on(number: int, _: FrameType | None) -> None:
        if child is None:
            waiting.append(number)  # it is being started
        else:
            child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in FORWARDED}
    try:
        child = subprocess.Popen(argv, env={UNSHARED_STORE: "1", **os.environ})
        for number in waiting:
            child.send_signal(number)
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def _refuse(what: str, reason: str) -> int:
    words = f"{what}; this node is kept out: {reason}"
    return _say(f"{words}; exit status {NO_RESTART_EXIT_STATUS}: do not start it again here",
                NO_RESTART_EXIT_STATUS)  # fmt: skip


def _say(words: str, status: int) -> int:
    sys.stderr.write(f"chipmedic.launch: {words}\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
