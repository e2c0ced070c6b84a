"""What may be wrong with a file of escalation rules, beyond what cannot be read at all."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from chipmedic.faults.catalog import lookup
from chipmedic.faults.escalation import (
    FILE,
    TIMES_MAX,
    WINDOW_SECONDS_MAX,
    EscalationRules,
    Outcome,
    Repeat,
    read_rules,
)
from chipmedic.faults.kinds import KINDS
from chipmedic.model import Severity

TIMES_MIN = 2
WORDS_MIN_CHARACTERS = 12
SOFTWARE_SECONDS_MAX = 300.0
"""A longer filter would take two broken chips of one node for one program."""


def escalation_problems(text: str) -> list[str]:
    """Return one line for each problem of a file of rules."""
    try:
        rules = read_rules(text)
    except (ValueError, KeyError) as e:
        return [str(e) if str(e).startswith(FILE) else f"{FILE}: {e!r}"]
    problems = [
        *_filter(rules),
        *_names(rules),
        *_repeats(rules),
        *_lasting(rules),
        *_together(rules),
        *_companions(rules),
        *_pages(rules),
        *_sources(tomllib.loads(text), rules),
    ]
    return [f"{FILE}: {problem}" for problem in problems]


def _filter(rules: EscalationRules) -> Iterator[str]:
    if not 0 < rules.software_seconds <= SOFTWARE_SECONDS_MAX:
        yield f"software_seconds: {rules.software_seconds:g} is not in 0 to 300"


def _names(rules: EscalationRules) -> Iterator[str]:
    names = [rule.name for rule in rules.repeat] + [rule.name for rule in rules.lasting]
    names += [rule.name for rule in rules.together] + [rule.name for rule in rules.companions]
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{name}: {count} rules of one name"


def _repeats(rules: EscalationRules) -> Iterator[str]:
    for rule in rules.repeat:
        yield from _codes(rule.name, rule.codes)
        yield from _outcome(rule.name, rule.outcome, rule.codes)
        if not TIMES_MIN <= rule.times <= TIMES_MAX:
            yield f"{rule.name}: times: {rule.times} is not in {TIMES_MIN} to {TIMES_MAX}"
        yield from _window(rule.name, rule.window_seconds)
        if rule.same not in ("", "unit") or rule.different not in ("", "program"):
            yield f"{rule.name}: same is unit, different is program"
    yield from _conflicts(rules.repeat)


def _conflicts(repeats: tuple[Repeat, ...]) -> Iterator[str]:
    """Two rules that count the same things of one code contradict each other."""
    seen: dict[tuple[str, str, str], str] = {}
    for rule in repeats:
        for code in sorted(rule.codes):
            key = (code, rule.same, rule.different)
            if key in seen:
                yield f"{rule.name}: {code}: {seen[key]} counts it in the same way"
            seen.setdefault(key, rule.name)


def _lasting(rules: EscalationRules) -> Iterator[str]:
    for rule in rules.lasting:
        yield from _codes(rule.name, rule.codes)
        yield from _outcome(rule.name, rule.outcome, rule.codes)
        if not (rule.bad_seconds > 0 and rule.good_seconds > 0):
            yield f"{rule.name}: bad_seconds and good_seconds must be positive"
        if rule.outcome.kind is None:
            yield f"{rule.name}: a state needs a kind"


def _together(rules: EscalationRules) -> Iterator[str]:
    for rule in rules.together:
        yield from _codes(rule.name, rule.trigger | rule.with_codes)
        yield from _outcome(rule.name, rule.outcome, rule.trigger)
        yield from _window(rule.name, rule.within_seconds)
        for code in sorted(rule.trigger & rule.with_codes):
            yield f"{rule.name}: {code} is on both sides"


def _companions(rules: EscalationRules) -> Iterator[str]:
    for rule in rules.companions:
        kinds = rule.of | rule.never
        yield from (f"{rule.name}: unknown kind {kind!r}" for kind in sorted(kinds - KINDS.keys()))
        for kind in sorted(rule.of & rule.never):
            yield f"{rule.name}: {kind} is on both sides"
        yield from _window(rule.name, rule.within_seconds)


def _pages(rules: EscalationRules) -> Iterator[str]:
    for rule in rules.pages:
        if not 0 < rule.worn < rule.spent:
            yield f"pages {rule.vendor}: worn {rule.worn} must be below spent {rule.spent}"
    for vendor, count in Counter(rule.vendor for rule in rules.pages).items():
        if count > 1:
            yield f"pages {vendor}: {count} rules for one vendor"


def _codes(name: str, codes: Iterable[str]) -> Iterator[str]:
    if not codes:
        yield f"{name}: no codes"
    for code in sorted(codes):
        if not lookup(code).is_known:
            yield f"{name}: {code} is in no catalog"


def _outcome(name: str, outcome: Outcome, codes: Iterable[str]) -> Iterator[str]:
    if len(outcome.words.strip()) < WORDS_MIN_CHARACTERS:
        yield f"{name}: words say too little: {outcome.words!r}"
    for kind in [lookup(code).kind for code in codes] if outcome.kind is None else [outcome.kind]:
        if kind not in KINDS:
            yield f"{name}: unknown kind {kind!r}"
    if outcome.severity is Severity.INFO:
        yield f"{name}: an escalation of severity info tells nobody"
    if outcome.quiet_seconds is not None and outcome.quiet_seconds <= 0:
        yield f"{name}: quiet_seconds must be positive"


def _window(name: str, seconds: float) -> Iterator[str]:
    if not 0 < seconds <= WINDOW_SECONDS_MAX:
        yield f"{name}: {seconds:g} s is no window of at most {WINDOW_SECONDS_MAX:g} s"


def _sources(data: Mapping[str, Any], rules: EscalationRules) -> Iterator[str]:
    used = {rule.source for rule in rules.repeat} | {rule.source for rule in rules.lasting}
    used |= {rule.source for rule in rules.together} | {rule.source for rule in rules.companions}
    used |= {rule.source for rule in rules.pages}
    described: Mapping[str, Any] = data.get("sources", {})
    for source in sorted(used - described.keys()):
        yield f"source {source} is not described"
    for source in sorted(described.keys() - used):
        yield f"source {source} is used by no rule"
    for key, source in described.items():
        if not source.get("title") or not source.get("date"):
            yield f"source {key} needs title and date"
