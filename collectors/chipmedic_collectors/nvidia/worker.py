"""The child process that talks to NVML, so that the agent never has to.

A call into a driver that is stuck cannot be ended, only its process can be left behind: this one.
It holds one connection to NVML for as long as it lives, reads requests from standard input and
answers on standard output, one JSON object a line; Xids go to a pipe of their own the moment they
come.

    {"id": 7, "calls": ["fast", "slow"], "timings": true}
    {"id": 7, "init": [0, null], "count": [0, 8], "chips": [...], "failed": [[3, 999, 2]], ...}

Whatever the library itself prints goes to standard error. End of input ends the process.
`CHIPMEDIC_NVML_LIBRARY` is the path of the library where it is not on the loader's (a driver
container).
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

import pynvml

from chipmedic_collectors.nvidia.queries import GROUPS
from chipmedic_collectors.nvidia.session import (
    GPU_IS_LOST,
    SUCCESS,
    Answer,
    Lost,
    OpenChip,
    Session,
)
from chipmedic_collectors.nvidia.trail import TrailWriter
from chipmedic_collectors.nvidia.xids import XidListener

LIBRARY_VARIABLE = "CHIPMEDIC_NVML_LIBRARY"


class NoTrail:
    """A trail that nobody reads."""

    def note(self, symbol: str, index: int | None) -> None:
        """See `Trail.note`."""


class Worker:
    """Answers requests; `xids` gets the chips as they are opened."""

    def __init__(self, session: Session, xids: XidListener) -> None:
        self._session = session
        self._xids = xids
        self._watched: set[int] = set()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks; never raises for what NVML answers."""
        reply: dict[str, Any] = {"id": request["id"], "init": self._session.open()}
        calls = request["calls"]
        if reply["init"][0] == SUCCESS and calls:
            reply["count"], failed = self._session.enumerate(retry="slow" in calls)
            reply["failed"] = [[index, *why] for index, why in sorted(failed.items())]
            reply["chips"] = [self._chip(chip, calls) for chip in self._session.chips.values()]
            reply["system"] = self._session.system() if "slow" in calls else {}
            self._watch()
            reply["events"] = self._xids.code
            reply["deaf"] = list(self._xids.deaf.items())
        if request.get("timings"):
            reply["timings"] = self._session.timings
        return reply

    def _chip(self, chip: OpenChip, calls: list[str]) -> dict[str, Any]:
        identity: dict[str, Answer] = {}
        answers: dict[str, Answer] = {}
        try:
            identity = chip.identity()
            for group in calls:
                answers |= GROUPS[group](chip)
        except Lost:
            answers["lost"] = (GPU_IS_LOST, None)
        return {"index": chip.index, "identity": identity, "answers": answers}

    def _watch(self) -> None:
        fresh = [chip for chip in self._session.chips.values() if chip.index not in self._watched]
        self._watched |= {chip.index for chip in fresh}
        self._xids.watch([(chip.index, chip.handle) for chip in fresh])


def load_library() -> None:
    """Load the library that the environment names; without one the binding looks for it itself.

    A path that cannot be loaded is left to the binding too, which then answers 12, library not
    found.
    """
    path = os.environ.get(LIBRARY_VARIABLE)
    if path and pynvml.nvmlLib is None:
        try:
            pynvml.nvmlLib = ctypes.CDLL(path)
        except OSError as e:
            print(f"{LIBRARY_VARIABLE}={path}: {e}", file=sys.stderr)  # noqa: T201 - no logging here


def give_back() -> None:
    """Give what the imports have left behind back to the kernel, half a MiB; glibc only."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def probe() -> int:
    """Print how many chips NVML counts; 0: it works and counts some."""
    session = Session(NoTrail())
    code, count = session.open()
    if code == SUCCESS:
        code, count = session.call("nvmlDeviceGetCount", None)
    print(json.dumps({"code": code, "count": count}))  # noqa: T201 - this is its answer
    return 0 if code == SUCCESS and count else 1


def serve(events_descriptor: int, trail_descriptor: int) -> int:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the library's own prints are no answers
    xids = XidListener(lambda event: _write_event(events_descriptor, event))
    worker = Worker(Session(TrailWriter(trail_descriptor)), xids)
    give_back()
    while line := sys.stdin.buffer.readline():
        answers.write(json.dumps(worker.answer(json.loads(line))).encode() + b"\n")
        answers.flush()
    return 0


def _write_event(descriptor: int, event: dict[str, Any]) -> None:
    """Write one line; shorter than PIPE_BUF, so it arrives whole. The parent's end may be gone."""
    try:
        os.write(descriptor, json.dumps(event).encode() + b"\n")
    except OSError:
        os._exit(0)


def main(argv: list[str]) -> int:
    """Run as `worker --probe`, or as `worker EVENTS_DESCRIPTOR TRAIL_DESCRIPTOR`."""
    load_library()
    if argv == ["--probe"]:
        return probe()
    events_descriptor, trail_descriptor = (int(argument) for argument in argv)
    return serve(events_descriptor, trail_descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
