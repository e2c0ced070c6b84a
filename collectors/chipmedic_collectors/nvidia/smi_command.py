"""What the command line of an NVIDIA tool asked for, beyond what all vendors' tools have."""

from __future__ import annotations

from collections.abc import Sequence

from chipmedic_collectors.reading.command_line import CommandLine

TOOLS = frozenset({"nvidia-smi", "dcgmi"})


def find_command(argv: Sequence[str]) -> CommandLine:
    """Return the run of an NVIDIA tool in a command line; its tool is None where there is none."""
    return CommandLine.of(argv, TOOLS)


def selection(command: CommandLine) -> list[str]:
    """Return the chips that were asked for, as written: indexes, UUIDs or bus ids; empty: all."""
    given = command.value("-i", "--id") or ""
    return [one.strip() for one in given.split(",") if one.strip()]


def only_index(command: CommandLine) -> int | None:
    """Return the index of the one chip that was asked for by index, else None."""
    chosen = selection(command)
    return int(chosen[0]) if len(chosen) == 1 and chosen[0].isdecimal() else None
