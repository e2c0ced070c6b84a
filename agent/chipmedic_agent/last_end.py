"""The end of the process when nothing else ends it: a bound on what follows SIGTERM.

What may hold an orderly end up is not in our hands: the C library looking for a name, a disk that
does not answer, gRPC's own threads. Everything that must last is on the disk before it is told of,
so that an end in the middle loses nothing, as SIGKILL does not.
"""

from __future__ import annotations

import logging
import os
import threading
import time

logger = logging.getLogger(__name__)


def end_within(seconds: float) -> None:
    """End this process, with status 0, unless it has ended by itself within this time."""
    threading.Thread(target=_end, args=(seconds,), name="last end", daemon=True).start()


def _end(seconds: float) -> None:
    time.sleep(seconds)
    others = [each.name for each in threading.enumerate() if each is not threading.current_thread()]
    logger.warning(
        "ended without waiting any longer: seconds=%g threads=%s", seconds, ", ".join(others)
    )
    os._exit(0)
