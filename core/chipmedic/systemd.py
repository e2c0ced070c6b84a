"""What a daemon says to systemd: ready, alive, reloading, stopping (sd_notify(3)).

Outside systemd (`NOTIFY_SOCKET` not set) every call does nothing and returns False.
"""

from __future__ import annotations

import os
import socket
import time


def notify(state: str) -> bool:
    """Send one state to the service manager; False: there is none, or it cannot be reached."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    # A leading @ stands for the abstract namespace, whose addresses begin with a zero byte.
    target = "\0" + address[1:] if address.startswith("@") else address
    # Never blocks: a manager that does not read (its queue holds ten) must not stop our loop.
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    try:
        with socket.socket(socket.AF_UNIX, kind) as manager:
            manager.connect(target)
            manager.sendall(state.encode())
    except OSError:
        return False
    return True


def ready(status: str = "") -> bool:
    """Say that the start, or a reload, is complete."""
    return notify("READY=1" + (f"\nSTATUS={status}" if status else ""))


def status(words: str) -> bool:
    """Say how it goes, in one line of `systemctl status`."""
    return notify(f"STATUS={words}")


def stopping() -> bool:
    """Say that the end has begun."""
    return notify("STOPPING=1")


def reloading() -> bool:
    """Say that a reload has begun; `ready` ends it (Type=notify-reload wants the time as well)."""
    return notify(
        f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
    )


def alive() -> bool:
    """Say that the main loop moves (WATCHDOG=1)."""
    return notify("WATCHDOG=1")


def watchdog_interval_seconds() -> float | None:
    """Return after how long without `alive` systemd kills this process; None: no watch is kept."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None
