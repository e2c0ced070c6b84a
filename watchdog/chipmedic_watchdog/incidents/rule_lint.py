"""Checks the parameters of a rule: unknown names, patterns that match nothing, unknown codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from chipmedic.config import structured
from chipmedic.errors import ConfigError
from chipmedic.faults.catalog import lookup
from chipmedic.faults.kinds import KINDS
from chipmedic_watchdog.incidents.predicates import (
    PREDICATES,
    Flood,
    Pair,
    SilenceFleet,
    SilenceGroup,
)


def read_parameters(name: str, when: str, parameters: Mapping[str, Any]) -> Any:
    """Return the predicate of a rule.

    Raises:
        ConfigError: with everything that is wrong about it.
    """
    kind = PREDICATES.get(when)
    if kind is None:
        words = f"{name}: when: {when!r} is unknown" + nearest(when, PREDICATES)
        raise ConfigError("rules", [words])
    try:
        predicate: Any = structured(parameters, kind, path="rules")
    except ConfigError as e:
        raise ConfigError("rules", [f"{name}: parameters: {line}" for line in e.problems]) from e
    problems = [f"{name}: parameters: {line}" for line in _problems(predicate)]
    if problems:
        raise ConfigError("rules", problems)
    return predicate


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` where a known word is near."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def kind_of_code(code: str) -> str | None:
    """Return the kind that the catalogs give a code; None: they do not hold it."""
    row = lookup(code)
    return row.kind if row.is_known else None


def _problems(predicate: Any) -> Iterator[str]:
    for field in dataclasses.fields(predicate):
        value = getattr(predicate, field.name)
        if field.name.endswith("kinds"):
            yield from _kind_problems(field.name, value)
        elif field.name == "labels" and not value:
            yield "labels: at least one is needed"
    if isinstance(predicate, SilenceGroup | SilenceFleet):
        yield from _silence_problems(predicate)
    if isinstance(predicate, Flood) and predicate.incidents < 1:
        yield f"incidents: {predicate.incidents}; allowed are 1 and more"
    if isinstance(predicate, Pair):
        for name in ("first", "second"):
            half = getattr(predicate, name)
            if not (half.kinds or half.codes):
                yield f"{name}: kinds or codes are needed"
            yield from (f"{name}.{line}" for line in _kind_problems("kinds", half.kinds))
            for code in half.codes:
                if kind_of_code(code) is None:
                    yield f"{name}.codes: {code!r} is in no catalog"


def _kind_problems(name: str, starts: Iterable[str]) -> Iterator[str]:
    for start in starts:
        if not any(kind.startswith(start) for kind in KINDS):
            yield f"{name}: {start!r} begins no kind of fault (docs/faults.md)" + nearest(
                start, KINDS
            )


def _silence_problems(predicate: SilenceGroup | SilenceFleet) -> Iterator[str]:
    least = 2 if isinstance(predicate, SilenceGroup) else 3
    if predicate.nodes < least:
        yield f"nodes: {predicate.nodes}; allowed are {least} and more"
    if not 0 < predicate.ratio <= 1:
        yield f"ratio: {predicate.ratio:g}; allowed is more than 0, up to 1"
