"""The C library's heap, kept small: the agent must be small beside the jobs that it watches.

glibc gives each thread a heap of its own, and every collector here has a thread that allocates a
little now and then: that is 3 to 7 MiB of the agent's 41 (measured, PSS). Contention does not
matter to threads that share Python's lock anyway. What was freed it keeps: imports and
configuration leave 1 to 2 MiB behind that are not needed again.
"""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8
"""From glibc's malloc.h."""


def use_one_heap() -> bool:
    """Set it for this process, before any thread starts; False: this C library cannot."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_ARENA_MAX, 1) == 1


def give_back() -> bool:
    """Give what is free in the heap back to the kernel; False: this C library cannot.

    Takes a few milliseconds.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and trim(0) == 1
