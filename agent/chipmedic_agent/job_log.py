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
LOGS_MAX = 64


@dataclass(slots=True)
class _Look:
    next_at: float
    labels: dict[str, str]


class LogAge:
    """Looks at logs, each at most every `LOOK_SECONDS`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._looks: dict[str, _Look] = {}

    def labels(self, log: str, pid: int | None, now: float) -> dict[str, str]:
        """Return `log` with `log_at`, when it last grew in UNIX seconds, or `log_trouble`."""
        known = self._looks.get(log)
        if known is None or now >= known.next_at or now < known.next_at - AFTER_BLOCK_SECONDS:
            if len(self._looks) >= LOGS_MAX:
                self._looks.clear()
            known = self._looks[log] = self._look(log, pid, now)
        return known.labels

    def _look(self, log: str, pid: int | None, now: float) -> _Look:
        if not log.startswith("/") or "\0" in log:
            return _Look(now + AFTER_BLOCK_SECONDS, {"log": log, "log_trouble": "no absolute path"})
        places = [] if pid is None else [self._host.path(f"/proc/{pid}/root{log}")]
        places.append(self._host.path(log))
        try:
            answer = self._host.run(
                ["stat", "-L", "-c", "%Y", "--", *places], timeout_seconds=DEADLINE_SECONDS
            )
        except ToolBlocked as e:
            return _Look(now + AFTER_BLOCK_SECONDS, {"log": log, "log_trouble": str(e)})
        except CollectError as e:
            return _Look(now + LOOK_SECONDS, {"log": log, "log_trouble": str(e)})
        times = [line for line in answer.stdout.split() if line.isdecimal()]
        if not times:
            why = answer.stderr.strip().splitlines()
            trouble = why[-1] if why else "stat printed nothing"
            return _Look(now + LOOK_SECONDS, {"log": log, "log_trouble": trouble})
        return _Look(now + LOOK_SECONDS, {"log": log, "log_at": times[0]})
