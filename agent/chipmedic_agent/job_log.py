"""The age of a job's log, for jobs that tell nothing else.

The file may lie on a network mount that is dead, where `stat` blocks for ever: a child asks, with a
deadline. Inside a container the path is the container's own, so it is looked for there first.
"""

from __future__ import annotations

from dataclasses import dataclass

from chipmedic.errors import CollectError, ToolBlocked
from chipmedic.host import Host

LOOK_SECONDS = 10.0
DEADLINE_SECONDS = 2.0
AFTER_BLOCK_SECONDS = 120.0
"""A file system that did not answer is left alone for so long."""
LOGS_MAX = 256
"""As many as there are jobs."""
LOOKS_MAX = 32
"""How many logs of jobs without a chip are looked at in one scan, the others in the next ones.
Every user may name logs, on file systems that answer or not, and the scan has a deadline."""
LATE_SECONDS = 60.0
"""How long after its turn the age of a log still counts."""


@dataclass(slots=True)
class _Look:
    next_at: float
    labels: dict[str, str]


class LogAge:
    """Looks at logs, each at most every `LOOK_SECONDS`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._looks: dict[str, _Look] = {}
        self._scan_at = 0.0
        self._looks_left = LOOKS_MAX
        self._is_blocked = False

    def labels(
        self, log: str, pid: int | None, now: float, *, is_holder: bool = False
    ) -> dict[str, str]:
        """Return `log` with `log_at`, when it last grew in UNIX seconds, or `log_trouble`.

        `now` is the time of the scan: all that is asked with one time shares its looks. A job that
        holds a chip (`is_holder`) always has its turn.
        """
        if now != self._scan_at:
            self._scan_at, self._looks_left, self._is_blocked = now, LOOKS_MAX, False
        known = self._looks.get(log)
        if known is None or now >= known.next_at or now < known.next_at - AFTER_BLOCK_SECONDS:
            if self._is_blocked or (self._looks_left <= 0 and not is_holder):
                if known is not None and now < known.next_at + LATE_SECONDS:
                    return known.labels
                return _trouble(log, "too many logs to look at")
            self._looks_left -= not is_holder
            self._looks.pop(log, None)
            if len(self._looks) >= LOGS_MAX:
                del self._looks[next(iter(self._looks))]
            known = self._looks[log] = self._look(log, pid, now)
        return known.labels

    def _look(self, log: str, pid: int | None, now: float) -> _Look:
        if not log.startswith("/") or "\0" in log:
            return _Look(now + AFTER_BLOCK_SECONDS, _trouble(log, "no absolute path"))
        places = [] if pid is None else [self._host.path(f"/proc/{pid}/root{log}")]
        places.append(self._host.path(log))
        try:
            answer = self._host.run(
                ["stat", "-L", "-c", "%Y", "--", *places], timeout_seconds=DEADLINE_SECONDS
            )
        except ToolBlocked as e:
            self._is_blocked = True
            return _Look(now + AFTER_BLOCK_SECONDS, _trouble(log, str(e)))
        except CollectError as e:
            return _Look(now + LOOK_SECONDS, _trouble(log, str(e)))
        times = [line for line in answer.stdout.split() if line.isdecimal()]
        if not times:
            why = answer.stderr.strip().splitlines()
            trouble = why[-1] if why else "stat printed nothing"
            return _Look(now + LOOK_SECONDS, _trouble(log, trouble))
        return _Look(now + LOOK_SECONDS, {"log": log, "log_at": times[0]})


def _trouble(log: str, why: str) -> dict[str, str]:
    return {"log": log, "log_trouble": why}
