"""Rules about more than one event: data in `rules/escalation.toml`, for the agent's detectors.

- `repeat`: the same code so many times within a window;
- `lasting`: a port of a chip that is down is tolerated for a while, and no longer;
- `together`: two codes that mean more than each alone;
- `companions`: what one fault brings along within seconds, and is no fault of its own;
- `pages`: how much memory may be out of use.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from typing import Any, TypeVar

from chipmedic.model import Action, Severity

VERSION = 1
FILE = "escalation.toml"
WINDOW_SECONDS_MAX = 86_400.0
"""Nobody remembers an occurrence for longer, so no rule may look further back."""
TIMES_MAX = 8
"""Nor more of them per code and part."""

Rule = TypeVar("Rule")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The fault that a rule opens; None: as the row of the code that made it fire."""

    kind: str | None = None
    severity: Severity | None = None
    action: Action | None = None
    words: str
    """A sentence's end, behind the name of the part."""
    quiet_seconds: float | None = None
    """After so long without a repeat it is over; None: as any fault with this action ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """So many occurrences on one part within a window are a fault of that part."""

    name: str
    codes: frozenset[str]
    together: bool = False
    """True: occurrences of all `codes` are counted together, else those of each by itself."""
    times: int
    window_seconds: float
    same: str = ""
    """`unit`: only occurrences count that name one and the same unit of the chip."""
    different: str = ""
    """`program`: occurrences under one program count once."""
    outcome: Outcome
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasting:
    """A port that is a fault after `bad_seconds` of being down, until it was up `good_seconds`."""

    name: str
    vendor: str
    codes: frozenset[str]
    """Codes that a tool states for as long as the port is down."""
    bad_seconds: float
    good_seconds: float
    outcome: Outcome
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """A code of `trigger` and one of `with_codes` on one node within a time, in either order."""

    name: str
    trigger: frozenset[str]
    with_codes: frozenset[str]
    within_seconds: float
    blames_trigger: bool
    """Whose part is at fault: that of the trigger, or of the other code."""
    outcome: Outcome
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Companions:
    """Codes of a vendor that follow a fault of these kinds within a time belong to it."""

    name: str
    vendor: str
    of: frozenset[str]
    never: frozenset[str] = frozenset()
    """Kinds that stay faults of their own, whatever was before them."""
    within_seconds: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """How many units of memory a chip of a vendor may have out of use."""

    vendor: str
    worn: int
    spent: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationRules:
    """All rules of one file."""

    software_seconds: float
    """A code that two parts of a node say within this time never escalates."""
    repeat: tuple[Repeat, ...] = ()
    lasting: tuple[Lasting, ...] = ()
    together: tuple[Together, ...] = ()
    companions: tuple[Companions, ...] = ()
    pages: tuple[Pages, ...] = ()


def read_rules(text: str, *, file: str = FILE) -> EscalationRules:
    """Read a file of rules.

    Raises:
        ValueError: a rule is wrong, or the file is of another version; names file and rule.
    """
    data = tomllib.loads(text)
    if data.get("version") != VERSION:
        raise ValueError(f"{file}: version {data.get('version')!r}; this chipmedic reads {VERSION}")
    return EscalationRules(
        software_seconds=float(data["software_seconds"]),
        **{table: _read(data, table, read, file) for table, read in _READERS.items()},
    )


@cache
def builtin_rules() -> EscalationRules:
    """Return the rules that ship."""
    return read_rules(rules_text())


def rules_text() -> str:
    """Return the text of the file that ships."""
    file = resources.files("chipmedic.faults") / "rules" / FILE
    return file.read_text(encoding="utf-8")


def _read(
    data: Mapping[str, Any], table: str, read: Callable[[dict[str, Any]], Rule], file: str
) -> tuple[Rule, ...]:
    rules = []
    for row in data.get(table, []):
        name = row.get("name") or row.get("vendor") or "?"
        try:
            rules.append(read(dict(row)))
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(f"{file}: {table} {name}: {e}") from e
    return tuple(rules)


_OUTCOME = frozenset(field.name for field in fields(Outcome))


def _with_outcome(row: dict[str, Any]) -> dict[str, Any]:
    """Put the keys of the outcome into one, as values of the model."""
    given = {key: row.pop(key) for key in _OUTCOME & row.keys()}
    if "severity" in given:
        given["severity"] = Severity[given["severity"].upper()]
    if "action" in given:
        given["action"] = Action(given["action"])
    return row | {"outcome": Outcome(**given)}


def _repeat(row: dict[str, Any]) -> Repeat:
    return Repeat(**_with_outcome(row) | {"codes": frozenset(row["codes"])})


def _lasting(row: dict[str, Any]) -> Lasting:
    return Lasting(**_with_outcome(row) | {"codes": frozenset(row["codes"])})


def _together(row: dict[str, Any]) -> Together:
    blame = row.pop("blame")
    if blame not in ("trigger", "with"):
        raise ValueError(f"blame is trigger or with, not {blame!r}")
    own = {
        "trigger": frozenset(row["trigger"]),
        "with_codes": frozenset(row.pop("with")),
        "blames_trigger": blame == "trigger",
    }
    return Together(**_with_outcome(row) | own)


def _companions(row: dict[str, Any]) -> Companions:
    own = {"of": frozenset(row["of"]), "never": frozenset(row.get("never", ()))}
    return Companions(**row | own)


def _pages(row: dict[str, Any]) -> Pages:
    return Pages(**row)


_READERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "repeat": _repeat,
    "lasting": _lasting,
    "together": _together,
    "companions": _companions,
    "pages": _pages,
}
