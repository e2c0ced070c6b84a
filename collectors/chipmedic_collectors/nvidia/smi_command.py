"""What the command line of an NVIDIA tool asked for."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

TOOLS = frozenset({"nvidia-smi", "dcgmi"})


@dataclass(frozen=True, slots=True)
class Command:
    """A tool and its arguments, found inside wrappers such as `timeout 10` or `ssh host`."""

    tool: str | None
    """None: no tool of NVIDIA is named."""
    arguments: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, argv: Sequence[str]) -> Command:
        """Find the tool among the words of a command line, also in a quoted `sh -c` line."""
        for position, word in enumerate(argv):
            if (name := _tool_name(word)) is not None:
                return cls(name, tuple(argv[position + 1 :]))
        for word in argv:
            words = _shell_words(word) if " " in word else []
            for position, inner in enumerate(words):
                if (name := _tool_name(inner)) is not None:
                    return cls(name, tuple(words[position + 1 :]))
        return cls(None)

    def has(self, *names: str) -> bool:
        """Say whether one of these options or subcommands was given, with or without `=value`."""
        return any(word.split("=", 1)[0] in names for word in self.arguments)

    def value(self, *names: str) -> str | None:
        """Return what follows one of these options, after a blank or `=`; None: not given."""
        for position, word in enumerate(self.arguments):
            name, equals, value = word.partition("=")
            if name in names:
                return value if equals else next(iter(self.arguments[position + 1 :]), None)
        return None

    @property
    def selection(self) -> list[str]:
        """The chips that were asked for, as written: indexes, UUIDs or bus ids."""
        given = self.value("-i", "--id")
        return [one.strip() for one in given.split(",") if one.strip()] if given else []

    @property
    def selects_chips(self) -> bool:
        """True: not all chips were asked for."""
        return bool(self.selection)

    @property
    def only_index(self) -> int | None:
        """The index of the one chip that was asked for by index, else None."""
        chosen = self.selection
        return int(chosen[0]) if len(chosen) == 1 and chosen[0].isdecimal() else None


def _tool_name(word: str) -> str | None:
    name = PurePosixPath(word.replace("\\", "/")).name.lower().removesuffix(".exe")
    return name if name in TOOLS else None


def _shell_words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return line.split()
