"""Matchers over the labels of an incident, written as Alertmanager writes them.

    severity="critical"   node!="gpu-017"   kind=~"memory[.].*"   user!~"mei|lin"

A regular expression has to fit the whole value. An incident can have several values of one label
(its nodes, its jobs); a label that it does not have counts as the empty text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

SHAPE = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*(=~|!~|!=|=)\s*(.*?)\s*", re.DOTALL)
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
PATTERN_LETTERS_MAX = 500

Labels = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label."""

    label: str
    operator: str
    value: str

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{self.label}{self.operator}"{escaped}"'

    def fits(self, value: str) -> bool:
        """Whether one value fulfils it."""
        if self.operator in ("=~", "!~"):
            is_equal = _compiled(self.value).fullmatch(value) is not None
        else:
            is_equal = value == self.value
        return is_equal != self.operator.startswith("!")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


@cache
def parse(text: str) -> Matcher:
    """Read a matcher.

    Raises:
        ValueError: it is none; the text says what is wrong.
    """
    shape = SHAPE.fullmatch(text)
    if shape is None:
        raise ValueError(f'{text!r} is no matcher; write label="value", !=, =~ or !~')
    label, operator, value = shape.groups()
    if value.startswith('"'):
        quoted = QUOTED.fullmatch(value)
        if quoted is None:
            raise ValueError(f"{text!r}: the quotes do not end")
        value = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
    if operator in ("=~", "!~"):
        if len(value) > PATTERN_LETTERS_MAX:
            raise ValueError(f"{text[:60]!r}: the pattern is over {PATTERN_LETTERS_MAX} letters")
        try:
            _compiled(value)
        except re.error as e:
            raise ValueError(f"{text!r}: not a regular expression: {e}") from e
    return Matcher(label, operator, value)


def concerns(matchers: Iterable[Matcher], labels: Labels) -> bool:
    """Whether an incident has to do with what is matched: for a route.

    One node of many is enough for `node="n1"`; `node!="n1"` wants that none of them is n1.
    """
    return all(_some(matcher, labels.get(matcher.label, _NONE)) for matcher in matchers)


def covers(matchers: Iterable[Matcher], labels: Labels) -> bool:
    """Whether an incident is nothing else than what is matched: for a silence.

    A silence for one node must not hide that its whole rack is gone.
    """
    return all(
        all(matcher.fits(value) for value in labels.get(matcher.label, _NONE))
        for matcher in matchers
    )


_NONE = frozenset({""})


def _some(matcher: Matcher, values: frozenset[str]) -> bool:
    quantifier = all if matcher.operator.startswith("!") else any
    return quantifier(matcher.fits(value) for value in values)
