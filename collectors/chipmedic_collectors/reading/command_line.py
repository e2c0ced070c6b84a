"""What a command line asked of a vendor's tool."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A tool and its arguments, found inside wrappers such as `timeout 10` or `sh -c "..."`."""

    tool: str | None
    """None: none of the vendor's tools is named."""
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, argv: Sequence[str], tools: Collection[str]) -> CommandLine:
        """Find one of the tools among the words, also in a quoted shell line."""
        inner = [word for outer in argv if " " in outer for word in _shell_words(outer)]
        for words in (list(argv), inner):
            for position, word in enumerate(words):
                name = PurePosixPath(word.replace("\\", "/")).name.lower().removesuffix(".exe")
                if name in tools:
                    return cls(name, tuple(words[position + 1 :]))
        return cls(None)

    def has(self, *names: str) -> bool:
        """Say whether one of these options or subcommands was given, with or without `=value`."""
        return any(word.partition("=")[0] in names for word in self.words)

    def value(self, *names: str) -> str | None:
        """Return what follows one of these options, after a blank or `=`; None: not given."""
        for position, word in enumerate(self.words):
            name, equals, value = word.partition("=")
            if name in names:
                return value if equals else next(iter(self.words[position + 1 :]), None)
        return None


def _shell_words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()
