"""The folder in which the agent leaves files for jobs (`chipmedic.job_files` reads them).

What keeps launchers off this node outlives a reboot, which empties `/run`: it is kept in the
agent's own folder too, and put back at the start.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from chipmedic.job_files import KEEP_OUT, checkpoint_file, keep_out_reason

KEPT_FILE = "keep_out.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOut:
    """Since when launchers are kept off this node, and why."""

    reason: str
    since: float
    """UNIX seconds; 0: since before this boot."""
    boot_id: str


class JobRoom:
    """Every method blocks on a disk or on `/run`."""

    def __init__(self, directory: str, state_directory: str, boot_id: str) -> None:
        self._directory = Path(directory)
        self._kept_file = Path(state_directory) / KEPT_FILE
        self._boot_id = boot_id
        self.kept_out: KeptOut | None = None
        """What we were told; a person may have left a file of their own."""

    def restore(self) -> None:
        """Put back what was in force before the agent's start, or the host's.

        Trouble is logged: it is no reason not to watch the chips.
        """
        try:
            kept = KeptOut(**json.loads(self._kept_file.read_text(encoding="utf-8")))
            if kept.boot_id != self._boot_id:
                kept = KeptOut(reason=kept.reason, since=0.0, boot_id=self._boot_id)
            self.kept_out = kept
            if self.reason() is None:
                self._write(KEEP_OUT, kept.reason)
        except FileNotFoundError:
            return
        except (OSError, TypeError, ValueError) as e:
            logger.warning("launchers may start although they were kept out: why=%s", e)
            return
        logger.info("launchers are kept off this node: reason=%s", kept.reason)

    def since(self) -> float | None:
        """Return since when we keep launchers out (UNIX seconds), None where we do not."""
        return None if self.kept_out is None else self.kept_out.since

    def reason(self) -> str | None:
        """Return why launchers are kept out now, None where they are not."""
        return keep_out_reason(self._directory)

    def keep_out(self, reason: str, now: float) -> str:
        """Keep launchers out; return a trouble that a reboot would show, empty where there is none.

        Raises:
            OSError: they are not kept out.
        """
        if self.kept_out is None or self.kept_out.reason != reason:
            self.kept_out = KeptOut(reason=reason, since=now, boot_id=self._boot_id)
        self._write(KEEP_OUT, reason)
        try:
            _replace(self._kept_file, json.dumps(asdict(self.kept_out)))
        except OSError as e:
            return f"a reboot would forget it: {self._kept_file}: {e.strerror}"
        return ""

    def let_in(self) -> None:
        """Let launchers start again.

        Raises:
            OSError: they are still kept out.
        """
        self._kept_file.unlink(missing_ok=True)
        (self._directory / KEEP_OUT).unlink(missing_ok=True)
        self.kept_out = None

    def ask_checkpoint(self, job: str, reason: str) -> Path:
        """Ask a job for a checkpoint by its file; return which.

        Raises:
            OSError: it cannot be written.
        """
        return self._write(checkpoint_file(job), reason)

    def _write(self, name: str, text: str) -> Path:
        if not self._directory.is_dir():
            self._directory.mkdir(parents=True)
            self._directory.chmod(0o755)  # whatever the umask: the jobs of every user read here
        path = self._directory / name
        _replace(path, text + "\n")
        return path


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all; every user may read it."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    fresh.replace(path)
