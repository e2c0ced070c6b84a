"""The words of the notices: one table per language, the likely causes, the first commands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from string import Formatter
from typing import Any

from chipmedic_watchdog.notify.settings import Language

PLAIN = re.compile(r"[A-Za-z0-9_.:/-]+")
"""Values that may stand in a command that a person copies; others come from who knows where."""


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one language, by section and key."""

    language: Language
    table: Mapping[str, Mapping[str, str]]

    def say(self, section: str, key: str, **values: object) -> str:
        """Return a text with its placeholders filled in."""
        return self.table[section][key].format_map(values)

    def kind(self, kind: str) -> str:
        """Return a kind of fault in words; a kind without words by its name."""
        return self.table["kinds"].get(kind, kind)

    def join(self, parts: list[str], mark: str = "list") -> str:
        """Join parts as this language does."""
        return self.table["marks"][mark].join(parts)

    def aside(self, text: str) -> str:
        """Put a text into brackets."""
        marks = self.table["marks"]
        return f"{marks['open']}{text}{marks['close']}"


@dataclass(frozen=True, slots=True)
class Command:
    """The first command to run."""

    text: str
    is_local: bool
    """True: on the machine of whoever reads, not on the node."""


@cache
def words(language: Language) -> Words:
    """Return the words of a language; read once."""
    return Words(language, _read(f"{language.value}.toml"))


@cache
def _read(name: str) -> Any:
    folder = resources.files("chipmedic_watchdog.notify") / "tables"
    return tomllib.loads((folder / name).read_text(encoding="utf-8"))


def causes(rule: str, kind: str, language: Language) -> list[tuple[str, str]]:
    """Return (confidence, cause), the most likely first; empty where nothing is known."""
    rows = _read("causes.toml")["causes"]
    by_rule = [row for row in rows if "rule" in row and rule.startswith(row["rule"])]
    by_kind = [row for row in rows if _fits(kind, row.get("kinds", ()))]
    for row in by_rule + by_kind:
        return [(cause["confidence"], cause[language.value]) for cause in row["likely"]]
    return []


def command(vendor: str, kind: str, known: Mapping[str, object]) -> Command | None:
    """Return the first command whose placeholders are all known and plain, or None."""
    given = {key: value for key, value in known.items() if value is not None}
    values = {key: value for key, value in given.items() if PLAIN.fullmatch(str(value))}
    for row in _read("commands.toml")["commands"]:
        if row["vendor"] in (vendor, "*") and _fits(kind, row["kinds"]):
            needed = {name for _, name, _, _ in Formatter().parse(row["command"]) if name}
            if needed <= values.keys():
                return Command(row["command"].format_map(values), row.get("runs_on") == "here")
    return None


def _fits(kind: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(kind, pattern) for pattern in patterns)
