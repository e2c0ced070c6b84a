"""A launcher as torchrun is one: it marks its workers, ends them when it is told to, and starts
them again when one of them ends. Printed for each start: `workers PID PID`.

Arguments: run id, and any of `stubborn` (launcher and workers ignore SIGTERM), `child` (each worker
has a child), `saves` (workers catch SIGUSR1 and write it into the file CAUGHT).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

WORKER = """
import os, signal, subprocess, sys, time
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "saves" in sys.argv:
    def save(*_):
        with open(os.environ["CAUGHT"], "a") as file:
            file.write("saved\\n")
    signal.signal(signal.SIGUSR1, save)
if "child" in sys.argv:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
print("ready", flush=True)
while True:
    time.sleep(300)
"""


def start(run: str, attempt: int, words: list[str]) -> list[subprocess.Popen[str]]:
    environ = {**os.environ, "TORCHELASTIC_RUN_ID": run}
    environ["TORCHELASTIC_RESTART_COUNT"] = str(attempt)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *words], env={**environ, "RANK": str(rank)},
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()  # its handlers are set
    sys.stdout.write(" ".join(["workers", *(str(worker.pid) for worker in workers)]) + "\n")
    sys.stdout.flush()
    return workers


def main(run: str, words: list[str]) -> None:
    workers = start(run, 0, words)
    attempt = 0

    def leave(number: int, _: FrameType | None) -> None:
        for worker in workers:
            worker.kill()
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in words else leave)
    while True:
        time.sleep(0.05)
        if any(worker.poll() is not None for worker in workers):
            for worker in workers:
                worker.kill()
                worker.wait()
            attempt += 1
            workers = start(run, attempt, words)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
