"""What a vendor's tool is asked: command lines, how often, and what each is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from chipmedic import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One command line of a tool."""

    argv: tuple[str, ...]
    every_seconds: float = 0.0
    """0: in every scan."""
    timeout_seconds: float = 10.0
    states: frozenset[Metric] = frozenset()
    """What it is asked for: a shown chip without one of these is a gap, never silence."""
    names_chips: bool = False
    """It says who the chips are. Asked before a chip is first reported, when the rows of the
    summary have changed, and every `every_seconds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to ask when the tool of this plan is installed."""

    questions: tuple[Question, ...]
    """The first is the summary: asked in every scan, it shows each chip of the host."""
    is_own_name: bool = True
    """False: another vendor's tool has this name too, so its presence proves nothing."""
    one_chip: tuple[str, ...] = ()
    """The summary of one chip, with `{index}` for its number: asked when the summary has hung
    twice, because one dead chip can take the answer of all away. Empty: the tool cannot."""

    @property
    def program(self) -> str:
        """The tool that this plan needs."""
        return self.questions[0].argv[0]
