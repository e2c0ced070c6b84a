"""A short load of the host itself, for nodes without a load of their own: `python -m ...`.

It fills memory with a pattern, hashes it again and again on one core, and writes it to the disk and
back. Memory, CPU or disk that gives another answer the second time is not fit for work. It says
nothing about the chips: a site sets `[gate] command` for these.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time

SIZE_BYTES = 16 << 20
"""Small beside the agent's memory limit, of which this child is a part."""


def check(folder: str, seconds: float) -> str:
    """Return what was found to be wrong; empty: nothing."""
    pattern = bytes(range(256)) * (SIZE_BYTES // 256)
    first = hashlib.sha256(pattern).digest()
    end = time.monotonic() + seconds
    rounds = 0
    while rounds < 2 or time.monotonic() < end:
        if hashlib.sha256(bytes(bytearray(pattern))).digest() != first:
            return f"memory or CPU gave another answer in round {rounds + 1}"
        rounds += 1
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(pattern)
        file.flush()
        file.seek(0)
        if hashlib.sha256(file.read()).digest() != first:
            return f"{folder}: what was read back is not what was written"
    return ""


def main() -> int:
    """Run it as `host_load FOLDER SECONDS`; exit status 0: nothing is wrong."""
    try:
        wrong = check(sys.argv[1], float(sys.argv[2]))
    except OSError as e:
        wrong = f"{sys.argv[1]}: {e.strerror}"
    sys.stdout.write((wrong or "memory, CPU and disk gave the same answer each time") + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
