"""The rules of correlation as data: each has an id and a version that is written into the incident.

A rule says when a fault joins an incident. Rules are tried in the order of the table and the first
that fits decides; the incident keeps the id of the weightiest rule that has formed it.
"""

from __future__ import annotations

from dataclasses import dataclass

CRITICAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One reason why faults belong together."""

    name: str
    version: int
    weight: int
    """The heaviest rule of an incident names its cause."""
    window_seconds: float
    """Between the new fault and the one that it joins."""
    words: str

    @property
    def id(self) -> str:
        """What stands in `incidents.cause`."""
        return f"{self.name}/{self.version}"


SINGLE = Rule(
    name="single", version=1, weight=0, window_seconds=0.0,
    words="one fault by itself",
)  # fmt: skip
CHIP = Rule(
    name="chip.same", version=1, weight=1, window_seconds=3600.0,
    words="faults of one chip, its links included",
)  # fmt: skip
NODE_KIND = Rule(
    name="node.same_kind", version=1, weight=2, window_seconds=60.0,
    words="the same condition on several parts of one node",
)  # fmt: skip
CONSEQUENCE = Rule(
    name="node.consequence", version=1, weight=1, window_seconds=120.0,
    words="driver, collector or the whole node failed with a part of it",
)  # fmt: skip
JOB = Rule(
    name="job.same", version=1, weight=1, window_seconds=3600.0,
    words="one job, told by several of its nodes",
)  # fmt: skip
JOB_ROOT = Rule(
    name="job.root", version=1, weight=3, window_seconds=900.0,
    words="a job stands still and a part that it uses has failed",
)  # fmt: skip
SOFTWARE = Rule(
    name="software.same_code", version=1, weight=6, window_seconds=30.0,
    words="the same code on several chips of one job: software until shown otherwise",
)  # fmt: skip
GROUP = Rule(
    name="silence.group", version=1, weight=4, window_seconds=60.0,
    words="nodes of one switch, rack or power feed went silent together",
)  # fmt: skip
FLEET = Rule(
    name="silence.fleet", version=1, weight=5, window_seconds=60.0,
    words="many nodes went silent together: network, power, or the watchdog's own connection",
)  # fmt: skip

RULES = {
    rule.id: rule
    for rule in (SINGLE, CHIP, NODE_KIND, CONSEQUENCE, JOB, JOB_ROOT, SOFTWARE, GROUP, FLEET)
}

PRECEDENCE: tuple[tuple[str, int], ...] = (
    # (beginning of the kind, class): a lower class is nearer to the cause.
    ("memory.", 0), ("chip.", 0), ("link.", 0), ("pcie.", 0), ("power.", 0), ("thermal.", 0),
    ("nic.", 0), ("host.", 0),
    ("node.", 1), ("driver.", 1),
    ("app.", 2), ("collector.", 3),
    ("job.", 4),
)  # fmt: skip

CAN_STOP_A_JOB = ("memory.", "chip.", "link.", "pcie.", "power.", "thermal.", "nic.", "host.",
                  "node.", "driver.", "app.")  # fmt: skip
"""Kinds that explain a hang or a crash, when critical."""
CAN_STOP_A_JOB_AS_WARNING = ("link.", "nic.", "pcie.", "app.")
"""Kinds that explain it as warnings too, when they come close to it."""
WARNING_ROOT_WINDOW_SECONDS = 60.0

CONSEQUENCES = ("driver.", "collector.", "node.unreachable", "host.hung_task", "host.lockup",
                "host.panic")  # fmt: skip
"""Kinds that follow from a critical fault of the same node."""

PHYSICAL = ("memory.", "link.", "nic.", "pcie.", "thermal.", "power.", "host.", "node.", "driver.",
            "collector.", "chip.lost", "job.")  # fmt: skip
"""Kinds that no program causes, on however many chips they show at once."""


def precedence(kind: str) -> tuple[int, int]:
    """Return how near to the cause a kind is: its class, then its place in the table."""
    for place, (start, rank) in enumerate(PRECEDENCE):
        if kind.startswith(start):
            return rank, place
    return 2, len(PRECEDENCE)


def heavier(first: str, second: str) -> str:
    """Return the cause that says more; an id of an earlier version counts as itself."""
    weights = [RULES[c].weight if c in RULES else 0 for c in (first, second)]
    return second if weights[1] > weights[0] else first
