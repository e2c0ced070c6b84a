"""The watchdog's own standard output: a notice as a person reads it."""

from __future__ import annotations

import sys

from chipmedic.errors import DeliveryFailed
from chipmedic.notifier import Notice
from chipmedic_watchdog.notify.settings import ChannelSettings

RULE = "─" * 78


class Terminal:
    """Writes each notice in one piece."""

    def __init__(self, name: str, _: ChannelSettings) -> None:
        self.name = name

    def deliver(self, notice: Notice) -> str:
        """Write; see `Notifier.deliver`."""
        text = f"{RULE}\n{notice.title}\n\n{notice.body}\n{RULE}\n"
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except (OSError, ValueError) as e:
            raise DeliveryFailed(f"standard output is closed: {e}") from e
        return "written to standard output"
