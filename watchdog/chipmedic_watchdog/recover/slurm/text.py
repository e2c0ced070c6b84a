"""What Slurm's commands print, read by pure functions.

Formats: Slurm 22.05. Fields that a user may fill (a job's name, its comment) are never asked for,
so that nobody can write another field's text into his own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from chipmedic.recoverer import NodeView

NODES_FORMAT = "%N|%T|%u|%H|%E"
"""For `sinfo -N -h -o`; the reason is last because it may hold any character."""

JOB_FIELDS = (
    "JobID", "State", "RestartCnt", "Requeue", "BatchFlag", "StartTime", "ArrayJobID",
    "ArrayTaskID", "HetJobID", "NodeList",
)  # fmt: skip
JOB_FORMAT = ",".join(f"{name}:|" for name in (*JOB_FIELDS, "Reason"))
"""For `squeue -h -t all -O`."""

RUN_FIELDS = (
    "JobID", "State", "StartTime", "EndTime", "UserID", "ArrayJobID", "ArrayTaskID", "exit_code",
    "NodeList",
)  # fmt: skip
RUN_FORMAT = ",".join(f"{name}:|" for name in RUN_FIELDS)
"""For `squeue -h -t all -O`, with `SLURM_TIME_FORMAT=%s`: times are UNIX seconds."""
NAMES_FORMAT = "%i|%j"

# UNKNOWN is none of them: so is every node for some seconds after a restart of slurmctld, and a
# fleet that seems to be gone would open the breaker for a person to close.
OUT_OF_SERVICE = frozenset(
    {
        "DOWN",
        "DRAIN",
        "DRAINED",
        "DRAINING",
        "FAIL",
        "FAILING",
        "MAINT",
        "POWERED_DOWN",
        "POWERING_DOWN",
        "POWER_DOWN",
        "REBOOT",
        "REBOOT_ISSUED",
        "REBOOT_REQUESTED",
        "NOT_RESPONDING",
        "NO_RESPOND",
        "INVAL",
        "ERROR",
        "FUTURE",
    }
)

SUFFIXES = {"*": "NOT_RESPONDING", "~": "POWERED_DOWN", "!": "POWERING_DOWN", "@": "REBOOT"}
"""sinfo's marks after a state that take a node out of service; `#`, `%`, `$`, `^`, `-`, `+` do not
all, so that only these are read."""

MEANT_AWAY = frozenset({"MAINT", "REBOOT", "REBOOT_ISSUED", "POWERED_DOWN", "POWERING_DOWN"})
"""States in which a node is away by order; a reboot that only waits (`@`) is none yet."""
MEANT_MARKS = frozenset("^$~%")
"""The same as marks: reboot issued, in a maintenance reservation, powered down, powering down."""
SLURMS_WORDS = frozenset({"Not responding", "Node unexpectedly rebooted", "Prolog error"})
"""Reasons that Slurm itself gives."""

HOST_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
JOB_PATTERN = re.compile(r"[0-9]+(_[0-9]+)?")
ENDED_STATES = frozenset({"COMPLETED", "CANCELLED", "TIMEOUT", "DEADLINE", "PREEMPTED", "REVOKED"})
CRASHED_STATES = frozenset({"FAILED", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY"})
RUNNING_STATES = frozenset({"RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING"})
HOSTS_MAX = 100_000
"""A list that stands for more names than this is not a list of nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmNode:
    """One node as `scontrol -o show node` tells it."""

    name: str
    flags: frozenset[str]
    """`ALLOCATED`, `DRAIN`, `NOT_RESPONDING`, ..."""
    reason: str
    reason_by: str
    """`root@2026-11-24T06:45:30`, or empty."""

    @property
    def is_drained(self) -> bool:
        """No new work goes there, by somebody's order."""
        return "DRAIN" in self.flags or "FAIL" in self.flags

    @property
    def is_down(self) -> bool:
        """Slurm does not use it."""
        return "DOWN" in self.flags

    @property
    def answers(self) -> bool:
        """Its slurmd answers the controller, so that an end of a job there is an end."""
        return not self.flags & {"DOWN", "NOT_RESPONDING", "POWERED_DOWN", "UNKNOWN"}

    @property
    def is_unheard(self) -> bool:
        """The controller has just started and has not heard of it yet: it may be in order.

        It hears of it within seconds, or takes it for down after `SlurmdTimeout`.
        """
        return "UNKNOWN" in self.flags and not self.is_down

    @property
    def state(self) -> str:
        """The state as Slurm writes it."""
        return "+".join(sorted(self.flags))


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmJob:
    """One job as `squeue` tells it."""

    id: str
    state: str
    restarts: int
    may_requeue: bool
    is_batch: bool
    start_time: str
    nodes: tuple[str, ...]
    reason: str
    array: str = ""
    """Number of its array, where it is a task of one."""
    task: str = ""
    whole: str = ""
    """Number of the heterogeneous job that it is a part of (`1234` of `1234+0`); empty: of none."""

    @property
    def address(self) -> str:
        """How a command names this job and no other.

        An array's number means all of its tasks, and Slurm gives it to one of them as its own.
        """
        return f"{self.array}_{self.task}" if self.task else self.id


def read_node(text: str) -> SlurmNode:
    """Read one line of `scontrol -o show node NAME`.

    Raises:
        ValueError: it is no such line.
    """
    line = text.strip()
    head, _, reason = line.partition(" Reason=")
    fields = dict(part.split("=", 1) for part in head.split() if "=" in part)
    if "NodeName" not in fields or "State" not in fields or "\n" in line:
        raise ValueError(f"not one node: {line[:200]!r}")
    words, by = reason, ""
    if match := re.search(r" \[([^\[\]]*@[^\[\]]*)\]$", reason):
        words, by = reason[: match.start()], match.group(1)
    return SlurmNode(
        name=fields["NodeName"],
        flags=frozenset(fields["State"].rstrip("*").split("+")),
        reason=words,
        reason_by=by,
    )


def read_job(text: str, job: str) -> SlurmJob:
    """Read the line of one job out of what `squeue -O` printed for it.

    An array prints a line for each task; the line whose id is the one that was asked for counts.

    Raises:
        ValueError: there is no such line, or a field is no such field.
    """
    rows = [line.split("|") for line in text.splitlines() if line.strip()]
    rows = [[cell.strip() for cell in row] for row in rows]
    chosen = [row for row in rows if row[0] == job] or (rows if len(rows) == 1 else [])
    if not chosen or len(chosen[0]) < len(JOB_FIELDS) + 1:
        raise ValueError(f"not the job {job}: {text[:200]!r}")
    identity, state, restarts, requeue, batch, start, array, task, whole, nodes, reason = chosen[0][
        : len(JOB_FIELDS) + 1
    ]
    return SlurmJob(
        id=identity,
        state=state.upper(),
        restarts=int(restarts),
        may_requeue=requeue == "1",
        is_batch=batch == "1",
        start_time=start,
        nodes=tuple(expand_hosts(nodes)),
        reason=reason,
        array=array,
        task=task if task.isdecimal() else "",
        whole=whole if whole.isdecimal() and int(whole) else "",
    )


def read_nodes(text: str) -> list[NodeView]:
    """Read what `sinfo -N -h -o NODES_FORMAT` printed; a node of several partitions counts once.

    Raises:
        ValueError: a line is no such line, or there is none at all.
    """
    views: dict[str, NodeView] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        cells = line.strip().split("|", 4)
        if len(cells) != 5 or not cells[0] or not cells[1]:
            raise ValueError(f"not a line of sinfo: {line[:200]!r}")
        name, state, by, _, reason = cells
        flags = _flags(state)
        has_reason = reason not in ("", "none", "Unknown")
        why = state + (f": {reason} [{by}]" if has_reason else "")
        views[name] = NodeView(
            node=name,
            is_available=not flags & OUT_OF_SERVICE,
            is_down="DOWN" in flags or "POWERED_DOWN" in flags,
            why=why,
            expected=why if _is_meant(state, flags, reason if has_reason else "") else "",
        )
    if not views:
        raise ValueError("sinfo printed no node at all")
    return list(views.values())


def _is_meant(state: str, flags: set[str], reason: str) -> bool:
    """Whether somebody wanted the node away: by booting it, or by draining it till it was empty.

    A node that drains still has jobs, and their end is news. What chipmedic or Slurm itself took
    out is no person's order.
    """
    if state.endswith("@"):
        return False
    if flags & MEANT_AWAY or MEANT_MARKS & set(state):
        return True
    is_ours = reason.startswith("chipmedic:")
    return "DRAINED" in flags and bool(reason) and not is_ours and reason not in SLURMS_WORDS


def _flags(state: str) -> set[str]:
    """Take sinfo's long state apart: `drained*` is DRAINED and NOT_RESPONDING."""
    word = state.rstrip("*~#!%$@^-+")
    marks = state[len(word) :]
    return {word.upper()} | {SUFFIXES[mark] for mark in marks if mark in SUFFIXES}


def expand_hosts(text: str) -> list[str]:
    """Expand Slurm's list of hosts: `a[1-2,07],b` is a1, a2, a07, b.

    Raises:
        ValueError: the brackets do not fit, or it stands for too many names.
    """
    if text in ("", "(null)", "None", "N/A"):
        return []
    names: list[str] = []
    for part in _split_outside_brackets(text):
        names.extend(_expand(part))
        if len(names) > HOSTS_MAX:
            raise ValueError(f"more than {HOSTS_MAX} hosts: {text[:100]!r}")
    return names


def _split_outside_brackets(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        if letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
        if depth not in (0, 1):
            raise ValueError(f"brackets do not fit: {text[:100]!r}")
    if depth != 0:
        raise ValueError(f"brackets do not fit: {text[:100]!r}")
    return [part for part in [*parts, text[start:]] if part]


def _expand(part: str) -> list[str]:
    head, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    inner, _, tail = rest.partition("]")
    tails = _expand(tail) if tail else [""]
    numbers: list[str] = []
    for piece in inner.split(","):
        low, dash, high = piece.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise ValueError(f"not numbers in brackets: {part[:100]!r}")
        last = int(high) if dash else int(low)
        if last - int(low) > HOSTS_MAX:
            raise ValueError(f"more than {HOSTS_MAX} hosts: {part[:100]!r}")
        numbers += [str(number).zfill(len(low)) for number in range(int(low), last + 1)]
    if len(numbers) * len(tails) > HOSTS_MAX:
        raise ValueError(f"more than {HOSTS_MAX} hosts: {part[:100]!r}")
    return [f"{head}{number}{end}" for number in numbers for end in tails]
