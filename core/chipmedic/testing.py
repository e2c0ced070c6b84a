"""Public fakes for authors of collectors: a machine that answers from tables."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chipmedic.errors import ChipmedicError, ToolMissing
from chipmedic.host import Answer


@dataclass(slots=True)
class FakeHost:
    """A `Host` that answers from tables and keeps its own time.

    `tools` maps the beginning of a command line (`"npu-smi info -t ecc"`; the longest match wins)
    to stdout, an `Answer`, or an error to raise. `files` maps absolute paths to text or to an
    `OSError`.
    """

    tools: Mapping[str, str | Answer | ChipmedicError] = field(default_factory=dict)
    files: Mapping[str, str | OSError] = field(default_factory=dict)
    at: float = 1_000_000.0
    ran: list[tuple[str, ...]] = field(default_factory=list)

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float, env: Mapping[str, str] | None = None
    ) -> Answer:
        """See `Host.run`."""
        del timeout_seconds, env
        self.ran.append(tuple(argv))
        line = " ".join(argv)
        matching = [start for start in self.tools if f"{line} ".startswith(f"{start} ")]
        if not matching:
            raise ToolMissing(f"{argv[0]}: not installed")
        answer = self.tools[max(matching, key=len)]
        if isinstance(answer, ChipmedicError):
            raise answer
        return answer if isinstance(answer, Answer) else Answer(answer, "", 0)

    def which(self, program: str) -> str | None:
        """See `Host.which`."""
        here = any(start.split()[0] == program for start in self.tools)
        return f"/usr/bin/{program}" if here else None

    def read(self, path: str) -> str:
        """See `Host.read`."""
        try:
            text = self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None
        if isinstance(text, OSError):
            raise text
        return text

    def glob(self, pattern: str) -> list[str]:
        """See `Host.glob`; a folder exists when a file below it does."""
        depth = pattern.count("/")
        found = set()
        for path in self.files:
            parts = path.split("/")
            for end in range(2, len(parts) + 1):
                place = "/".join(parts[:end])
                if place.count("/") == depth and fnmatch.fnmatchcase(place, pattern):
                    found.add(place)
        return sorted(found)

    def path(self, path: str) -> str:
        """See `Host.path`."""
        return path

    def now(self) -> float:
        """See `Host.now`; set `at` to move it."""
        return self.at
