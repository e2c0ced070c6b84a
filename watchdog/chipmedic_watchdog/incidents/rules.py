"""The rules of correlation: which faults belong together. Data in `rules.toml`, read and checked.

Every rule has a name and a version, which the incident keeps as its cause. A site may name a file
of its own in `[incidents] rules_file`; `extends = "chipmedic"` lets it hold the differences only.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Any, TypeVar

from chipmedic.config import loads, unreadable
from chipmedic.errors import ConfigError
from chipmedic.faults.kinds import KINDS
from chipmedic.model import Severity
from chipmedic_watchdog.incidents.predicates import (
    Alone,
    Flood,
    Pair,
    Predicate,
    SharedLabel,
    SilenceFleet,
    SilenceGroup,
)
from chipmedic_watchdog.incidents.rule_lint import kind_of_code, nearest, read_parameters

FILE = "rules.toml"
BUILTIN = "chipmedic"
TITLE_FIELDS = ("node", "summary", "kind", "code", "chips", "nodes", "where")
TITLE = "{node}: {summary}"
FAR = 2
"""The class of a kind that the table of nearness does not name."""

When = TypeVar("When")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRow:
    """One `[[rules]]` of a file."""

    name: str
    version: int
    weight: int
    """The heaviest rule of an incident names its cause."""
    window_seconds: float
    """Between the new fault and the one that it joins."""
    when: str
    """Name of the predicate."""
    en: str
    zh: str
    parameters: dict[str, Any] = field(default_factory=dict)
    severity: str | None = None
    title: str = TITLE
    source: str = ""

    def __post_init__(self) -> None:
        problems = []
        if self.version < 1:
            problems.append(f"version: {self.version} is not 1 or more")
        if self.window_seconds < 0:
            problems.append(f"window_seconds: {self.window_seconds:g} is less than 0")
        if self.severity is not None and self.severity not in ("warning", "critical"):
            problems.append(f"severity: {self.severity!r} is not warning or critical")
        problems += _title_problems(self.title)
        if problems:
            raise ValueError(f"{self.name}: " + "; ".join(problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesFile:
    """A whole file."""

    name: str
    version: int
    extends: str | None = None
    """`chipmedic`: what ships, changed by what follows."""
    without: tuple[str, ...] = ()
    """Names of shipped rules that are left out."""
    nearness: tuple[tuple[str, ...], ...] | None = None
    rules: tuple[RuleRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason why faults belong together."""

    row: RuleRow
    predicate: Any

    @property
    def id(self) -> str:
        """What stands in `incidents.cause`."""
        return f"{self.row.name}/{self.row.version}"

    @property
    def severity(self) -> int:
        """What its incident is at least."""
        return 0 if self.row.severity is None else int(Severity[self.row.severity.upper()])


@dataclass(frozen=True)
class RuleSet:
    """All rules, in the order in which they are tried."""

    name: str
    version: int
    rules: tuple[Rule, ...]
    nearness: tuple[tuple[str, ...], ...]

    @property
    def id(self) -> str:
        """Name and version of the file."""
        return f"{self.name}/{self.version}"

    def of(self, cause: str) -> Rule | None:
        """Return the rule that is an incident's cause, of whichever version; None: it is gone."""
        return self._by_name.get(cause.partition("/")[0])

    def words_of(self, cause: str, language: str) -> str:
        """Return why the faults of an incident are one, in words; empty: there is one, or no why.

        `language` is `en` or `zh`. A rule of a later version than the incident's says the same.
        """
        rule = self.of(cause)
        if rule is None or rule is self.single:
            return ""
        return rule.row.zh if language == "zh" else rule.row.en

    def heavier(self, first: str, second: str) -> str:
        """Return the cause that says more; one of an unknown rule says least."""
        rules = [self.of(cause) for cause in (first, second)]
        weights = [-1 if rule is None else rule.row.weight for rule in rules]
        return second if weights[1] > weights[0] else first

    def precedence(self, kind: str) -> tuple[int, int]:
        """Return how near to the cause a kind is: its class, then its place in the table."""
        place = 0
        for rank, starts in enumerate(self.nearness):
            for start in starts:
                if kind.startswith(start):
                    return rank, place
                place += 1
        return FAR, place

    @cached_property
    def _by_name(self) -> dict[str, Rule]:
        return {rule.row.name: rule for rule in self.rules}

    @cached_property
    def single(self) -> Rule:
        """What a fault by itself is."""
        return next(rule for rule in self.rules if isinstance(rule.predicate, Alone))

    @cached_property
    def joining(self) -> tuple[tuple[Rule, Predicate], ...]:
        """The rules about two faults."""
        others = (Alone, Flood, SilenceGroup, SilenceFleet)
        return tuple((r, r.predicate) for r in self.rules if not isinstance(r.predicate, others))

    @cached_property
    def pairs(self) -> tuple[tuple[Rule, Pair], ...]:
        """The rules that also take notes (severity info)."""
        return tuple((r, r.predicate) for r in self.rules if isinstance(r.predicate, Pair))

    @cached_property
    def group(self) -> tuple[Rule, SilenceGroup] | None:
        """How silence of nodes with a common label is judged."""
        return self._first(SilenceGroup)

    @cached_property
    def fleet(self) -> tuple[Rule, SilenceFleet] | None:
        """How silence of much of the fleet is judged."""
        return self._first(SilenceFleet)

    @cached_property
    def flood(self) -> tuple[Rule, Flood] | None:
        """From when on the faults of one node are one incident."""
        return self._first(Flood)

    def _first(self, kind: type[When]) -> tuple[Rule, When] | None:
        found = (rule for rule in self.rules if isinstance(rule.predicate, kind))
        return next(((rule, rule.predicate) for rule in found), None)

    @cached_property
    def silence_seconds(self) -> float:
        """How far apart nodes may fall silent and still be judged together."""
        found = [rule.row.window_seconds for rule, _ in filter(None, (self.group, self.fleet))]
        return max(found, default=0.0)

    @cached_property
    def label_kinds(self) -> tuple[str, ...]:
        """Beginnings of the kinds for which the labels of nodes must be known."""
        found = {
            start
            for rule in self.rules
            if hasattr(rule.predicate, "prefix") or isinstance(rule.predicate, SharedLabel)
            for start in rule.predicate.kinds
        }
        return tuple(sorted(found))

    @cached_property
    def note_kinds(self) -> frozenset[str]:
        """Kinds of the notes (severity info) that can be half of a pair."""
        halves = [half for _, pair in self.pairs for half in (pair.first, pair.second)]
        starts = tuple(start for half in halves for start in half.kinds)
        codes = {code for half in halves for code in half.codes}
        named = {kind for kind in KINDS if starts and kind.startswith(starts)}
        return frozenset(named | {kind for kind in map(kind_of_code, codes) if kind})

    @cached_property
    def note_seconds(self) -> float:
        """How long a note can wait for its other half."""
        return max((rule.row.window_seconds for rule, _ in self.pairs), default=0.0)


@cache
def builtin() -> RuleSet:
    """Return the rules that ship."""
    file = resources.files("chipmedic_watchdog.incidents") / FILE
    return read(file.read_text(encoding="utf-8"), path=FILE)


def load_rules(path: str | None) -> RuleSet:
    """Return the rules of a site's file; None means those that ship.

    Raises:
        ConfigError: it cannot be read, or any rule is wrong; all problems at once.
    """
    if path is None:
        return builtin()
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(path, [unreadable(e)]) from e
    return read(text, path=path)


def read(text: str, *, path: str) -> RuleSet:
    """Decode a file of rules; see `load_rules`."""
    file = loads(text, RulesFile, path=path)
    problems = list(_file_problems(file, tomllib.loads(text)))
    rules = []
    for row in file.rules:
        try:
            rules.append(Rule(row, read_parameters(row.name, row.when, row.parameters)))
        except ConfigError as e:
            problems += e.problems
    base = builtin() if file.extends == BUILTIN else None
    merged = _merged(rules, base, file.without)
    if not problems and not any(isinstance(rule.predicate, Alone) for rule in merged):
        problems.append('rules: one with when = "alone" is needed')
    if file.nearness is None and base is None:
        problems.append('nearness: required where the file does not extend "chipmedic"')
    if problems:
        raise ConfigError(path, problems)
    nearness = file.nearness or (base.nearness if base else ())
    return RuleSet(file.name, file.version, merged, nearness)


def _merged(rules: list[Rule], base: RuleSet | None, without: Iterable[str]) -> tuple[Rule, ...]:
    """Put a site's rules over those that ship: of the same name in place, others before them."""
    if base is None:
        return tuple(rules)
    own = {rule.row.name: rule for rule in rules}
    shipped = {rule.row.name for rule in base.rules}
    new = [rule for rule in rules if rule.row.name not in shipped]
    kept = [own.get(r.row.name, r) for r in base.rules if r.row.name not in without]
    return (*new, *kept)


def _file_problems(file: RulesFile, data: Mapping[str, Any]) -> Iterator[str]:
    if file.extends not in (None, BUILTIN):
        yield f'extends: {file.extends!r}; there is only "{BUILTIN}"'
    seen: set[str] = set()
    for row in file.rules:
        if row.name in seen:
            yield f"rules: {row.name} stands there twice"
        if not row.name or "/" in row.name:
            yield f"rules: {row.name!r} is no name: it must not be empty or hold a slash"
        seen.add(row.name)
    shipped = {rule.row.name for rule in builtin().rules} if file.extends == BUILTIN else set()
    for name in file.without:
        if name not in shipped:
            yield f"without: no shipped rule is named {name}" + nearest(name, shipped)
    for starts in file.nearness or ():
        for start in starts:
            if not any(kind.startswith(start) for kind in KINDS):
                yield f"nearness: {start!r} begins no kind of fault (docs/faults.md)"


def _title_problems(title: str) -> Iterator[str]:
    try:
        parts = list(Formatter().parse(title))
    except ValueError as e:
        yield f"title: {e}"
        return
    for _, name, _, _ in parts:
        if name is not None and name not in TITLE_FIELDS:
            yield f"title: {{{name}}} is unknown; there are: {', '.join(TITLE_FIELDS)}"
