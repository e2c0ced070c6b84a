"""How the daemons log: to standard error, and under systemd with the journal's priorities."""

from __future__ import annotations

import logging
import os

LEVELS = ("debug", "info", "warning", "error")


def log_to_stderr(level: str) -> None:
    """Log records of this level and above.

    Under systemd (`JOURNAL_STREAM` is set) each line begins with its priority, so that
    `journalctl -p warning` finds it, and has no time, as the journal adds its own.
    """
    handler = logging.StreamHandler()
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(JournalFormatter("%(name)s: %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class JournalFormatter(logging.Formatter):
    """Puts the priority in front of each line, as sd-daemon(3) describes."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines, a traceback's too, each with its priority."""
        priority = 3 if record.levelno >= logging.ERROR else 4
        if record.levelno < logging.WARNING:
            priority = 6 if record.levelno >= logging.INFO else 7
        lines = super().format(record).splitlines() or [""]
        return "\n".join(f"<{priority}>{line}" for line in lines)
