"""A table of a configuration file that judges its own values, each check apart from the others.

    class StreamSettings(Section):
        listen: str = "127.0.0.1:7443"
        heartbeat_seconds: float = 5.0

        CHECKS = (address("listen"), above_zero("heartbeat_seconds"))

A check reads what it needs. Where a file gave a value that could not be decoded, that value is not
there, and the checks that need it say nothing; the others do. So one mistake hides no other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from chipmedic.address import split_address

Check = Callable[[Any], Iterable[str]]
"""Looks at one section; what it yields are problems, each beginning with the key it is about."""


class SectionRefused(ValueError):
    """A section cannot be used; `problems` are all of them."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class Section:
    """The base of the dataclasses that stand for a table."""

    __slots__ = ()
    CHECKS: ClassVar[tuple[Check, ...]] = ()

    def __post_init__(self) -> None:
        """Hold the values to the checks.

        Raises:
            SectionRefused: with every problem.
        """
        if problems := [words for check in self.CHECKS for words in judged(check, self)]:
            raise SectionRefused(problems)


def judged(check: Check, section: Any) -> list[str]:
    """Return what a check says, as far as the values that it reads are there."""
    said: list[str] = []
    try:
        said.extend(check(section))
    except AttributeError as e:
        if not _is_left_out(e.obj, e.name):
            raise
    return said


def _is_left_out(owner: object, name: str | None) -> bool:
    """Whether a field was left unset because what the file gives for it is wrong."""
    if not dataclasses.is_dataclass(owner):
        return False
    return any(field.name == name for field in dataclasses.fields(owner))


def checks(*parts: Check | Iterable[Check]) -> tuple[Check, ...]:
    """Return checks and groups of checks as one row."""
    row: list[Check] = []
    for part in parts:
        row.extend([part] if callable(part) else part)
    return tuple(row)


def in_full(value: object) -> str:
    """Return a value as the file may have it: whole numbers in all their digits."""
    return f"{value:g}" if isinstance(value, float) else repr(value)


def _each(names: Iterable[str], is_right: Callable[[Any], bool], words: str) -> tuple[Check, ...]:
    """Return one check for each name; a value that is None was not set and is right."""

    def of(name: str) -> Check:
        def check(section: Any) -> Iterable[str]:
            value = getattr(section, name)
            if value is not None and not is_right(value):
                yield f"{name}: {in_full(value)} {words}"

        return check

    return tuple(of(name) for name in names)


def above_zero(*names: str) -> tuple[Check, ...]:
    """These are more than zero, and no NaN."""
    return _each(names, lambda value: value > 0, "is not a positive number")


def numbers_above_zero(section: Any) -> Iterable[str]:
    """Every number that is there is more than zero: a check of a whole section."""
    for field in dataclasses.fields(section):
        value = getattr(section, field.name, None)
        if isinstance(value, int | float) and not value > 0:
            yield f"{field.name}: {in_full(value)} is not a positive number"


def at_least(least: float, *names: str) -> tuple[Check, ...]:
    """These are no less than this."""
    return _each(names, lambda value: value >= least, f"is less than {in_full(least)}")


def at_most(most: float, *names: str) -> tuple[Check, ...]:
    """These are no more than this."""
    return _each(names, lambda value: value <= most, f"is more than {in_full(most)}")


def one_of(name: str, allowed: Iterable[str]) -> tuple[Check, ...]:
    """It is one of these words."""
    words = tuple(allowed)
    return _each((name,), lambda value: value in words, f"is not one of: {', '.join(words)}")


def not_empty(name: str, words: str) -> tuple[Check, ...]:
    """There is something in it; `words` say of what one is needed."""

    def check(section: Any) -> Iterable[str]:
        if not getattr(section, name):
            yield f"{name}: {words}"

    return (check,)


def both_or_none(one: str, other: str) -> tuple[Check, ...]:
    """Two keys that are useless apart."""

    def check(section: Any) -> Iterable[str]:
        if (getattr(section, one) is None) != (getattr(section, other) is None):
            yield f"{one} and {other}: give both or none"

    return (check,)


def address(name: str) -> tuple[Check, ...]:
    """It is `host:port`, where it is set."""

    def check(section: Any) -> Iterable[str]:
        value = getattr(section, name)
        for given in () if value is None else value if isinstance(value, tuple) else (value,):
            try:
                split_address(given)
            except ValueError as e:
                yield f"{name}: {e}"

    return (check,)
