"""Whether a job can have ended of a fault that was seen after its end: a table of delays. Pure.

A job that its own program ended must not be started again because its node breaks a minute later;
one that a broken chip ended must be, though the chip is only looked at after it. What decides is
how late a fault of this kind, from this source, can be seen. Where nothing is known of the end of a
job the fault hurts it: a restart for nothing costs minutes, a job that nobody starts costs a night.
"""

from __future__ import annotations

LOGGED_SECONDS = 10.0
"""The kernel writes its line when the driver notices; a process may die of it a moment before, and
the end of processes is looked for every two seconds."""
POLLED_SECONDS = 90.0
"""The slowest source is asked once a minute and may take its deadline; a chip counts as lost when
two looks in a row have missed it."""
HEARD_SECONDS = 30.0
"""A stream that ends is known within seconds, and what the node last said was then news."""

KERNEL_LOG, WATCHDOG = "kernel_log", "watchdog"

LATE_BY_KIND: tuple[tuple[str, float], ...] = (
    # The kernel looks for such tasks every two minutes, and tells of those that slept as long.
    ("host.hung_task", 240.0),
    # Six tries of 30 s each are the kernel's default for a disk that does not answer.
    ("host.disk_error", 180.0),
    # Pages that cannot be written are found out half a minute later (dirty_expire_centisecs).
    ("host.fs_error", 60.0),
    # 20 s for a lockup, 21 to 60 s for a stalled RCU.
    ("host.lockup", 60.0),
    # Xid 119 waits 45 s for the GSP before it says so.
    ("chip.firmware", 60.0),
    ("chip.hung", 60.0),
    # A driver's tool must be stuck twice before it is said: twice its period and deadline.
    ("driver.fault", 120.0),
    # It is made of the jobs that died there one after the other.
    ("node.black_hole", 300.0),
)
"""Kinds that are seen later than their source alone would say; the longer of the two counts."""


def late_seconds(kind: str, source: str) -> float:
    """Return how long after its cause a fault may be seen at the latest."""
    by_source = {KERNEL_LOG: LOGGED_SECONDS, WATCHDOG: HEARD_SECONDS}.get(source, POLLED_SECONDS)
    return max(by_source, dict(LATE_BY_KIND).get(kind, 0.0))


def had_ended(ended_at: float | None, *, kind: str, source: str, began_at: float) -> bool:
    """Whether a job had ended for a reason of its own when a fault began; None: it is not known."""
    return ended_at is not None and ended_at < began_at - late_seconds(kind, source)
