"""The child's answer as typed values; what does not fit is refused whole.

Every answer of NVML is a pair: its return code and the raw value, which is None unless the code is
0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chipmedic.errors import ToolFailed

Answer = tuple[int, Any]

SUCCESS = 0


@dataclass(frozen=True, slots=True)
class ChipAnswers:
    """What one chip answered."""

    index: int
    identity: Mapping[str, Answer]
    answers: Mapping[str, Answer]

    @property
    def is_lost(self) -> bool:
        """True: some call answered 15, off the bus."""
        return "lost" in self.answers

    def name(self, key: str) -> str | None:
        """Return a text of the identity, if it could be read."""
        code, text = self.identity.get(key, (SUCCESS, None))
        return text if code == SUCCESS and isinstance(text, str) and text.strip() else None


@dataclass(frozen=True, slots=True)
class FailedChip:
    """A chip that enumeration counts and that cannot be opened."""

    index: int
    code: int
    times: int
    """How many tries in a row answered so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer of the child."""

    init: int
    """Return code of the initialisation."""
    count: Answer = (SUCCESS, 0)
    chips: tuple[ChipAnswers, ...] = ()
    failed: tuple[FailedChip, ...] = ()
    system: Mapping[str, Answer] = field(default_factory=dict)
    events: int = SUCCESS
    """Return code of the event set."""
    deaf: Mapping[int, int] = field(default_factory=dict)
    """Chips that no Xid comes from, by index, with the return code that said so."""
    timings: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)


def read_reply(raw: Mapping[str, Any]) -> Reply:
    """Read the object that the child wrote.

    Raises:
        ToolFailed: it is not what a child of this version writes.
    """
    try:
        return Reply(
            init=_whole(raw["init"][0]),
            count=_count(raw.get("count", (SUCCESS, 0))),
            chips=tuple(_chip(chip) for chip in raw.get("chips", ())),
            failed=tuple(
                FailedChip(*(_whole(part) for part in row)) for row in raw.get("failed", ())
            ),
            system=_answers(raw.get("system", {})),
            events=_whole(raw.get("events", SUCCESS)),
            deaf={_whole(index): _whole(code) for index, code in raw.get("deaf", ())},
            timings={
                str(symbol): (_whole(calls), _whole(total), _whole(slowest))
                for symbol, (calls, total, slowest) in raw.get("timings", {}).items()
            },
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as e:
        raise ToolFailed(f"the NVML process wrote an answer that cannot be read: {e!r}") from e


def _chip(raw: Mapping[str, Any]) -> ChipAnswers:
    return ChipAnswers(_whole(raw["index"]), _answers(raw["identity"]), _answers(raw["answers"]))


def _answers(raw: Mapping[str, Any]) -> dict[str, Answer]:
    return {str(name): _answer(answer) for name, answer in raw.items()}


def _answer(raw: Any) -> Answer:
    code, value = raw
    return (_whole(code), value)


def _count(raw: Any) -> Answer:
    code, count = _answer(raw)
    return (code, _whole(count) if code == SUCCESS else None)


def _whole(raw: Any) -> int:
    """Return a whole number as it is; anything else is none, a truth value too."""
    if type(raw) is not int:
        raise TypeError(f"{raw!r} is no whole number")
    return raw
