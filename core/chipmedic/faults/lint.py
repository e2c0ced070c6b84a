"""The catalog's linter: `python -m chipmedic.faults.lint` exits with 1 when a row is wrong.

A wrong row is a wrong action at three in the morning, so the build stops at: a code in two files,
a row that cannot be read, a hint that is missing in a language, a source that no file describes
or no row uses, a kind that does not exist, a severity that contradicts its action, a pattern
without a row, a row without a pattern, NVLink5 registers that two rows claim with different
meanings, escalation rules that cannot work (escalation_lint.py).
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from chipmedic.faults.catalog import CatalogRow, catalog_files, catalog_text, read_catalog
from chipmedic.faults.escalation import rules_text
from chipmedic.faults.escalation_lint import escalation_problems
from chipmedic.faults.kernel_lines import RULES
from chipmedic.faults.nvlink5 import FILE as NVLINK5_FILE
from chipmedic.faults.nvlink5 import Pattern, read_patterns
from chipmedic.model import Action, Severity

HINT_MIN_CHARACTERS = 12
"""A shorter hint in any language tells nobody where to start."""

COLLECTOR_CODES = frozenset({"kernel:log.lost"})
"""Codes that the kernel log's collector gives by itself, of no line."""

_DRASTIC = frozenset({Action.REBOOT_NODE, Action.REPLACE_CHIP, Action.RESET_CHIP})


def problems_of(files: Iterable[tuple[str, str]]) -> list[str]:
    """Return one line for each problem of these catalog files (name and text)."""
    problems: list[str] = []
    first_file: dict[str, tuple[str, CatalogRow]] = {}
    for name, text in files:
        try:
            data = tomllib.loads(text)
            rows = read_catalog(text, file=name)
        except (ValueError, KeyError) as e:
            problems.append(str(e) if str(e).startswith(name) else f"{name}: {e!r}")
            continue
        problems += _sources(name, data)
        for code, row in rows.items():
            problems += [f"{name}: {code}: {problem}" for problem in _row(row)]
            if code in first_file:
                other, earlier = first_file[code]
                same = _meaning(earlier) == _meaning(row)
                what = "also in" if same else "contradicts"
                problems.append(f"{name}: {code}: {what} {other}")
            else:
                first_file[code] = (name, row)
    return problems


def rule_problems(codes: Iterable[str]) -> list[str]:
    """Return one line for each pattern without a row and each `kernel:` row without a pattern."""
    rows = {code for code in codes if code.startswith("kernel:")}
    names = {f"kernel:{rule.name}" for rule in RULES if rule.name and rule.read is None}
    rows -= COLLECTOR_CODES
    return [f"{name}: a pattern without a row" for name in sorted(names - rows)] + [
        f"{name}: a row without a pattern" for name in sorted(rows - names)
    ]


def register_problems(text: str) -> list[str]:
    """Return one line for each NVLink5 pattern that is wrong, or that two rows share."""
    try:
        rows = read_catalog(text, file=NVLINK5_FILE)
        patterns = read_patterns(text)
    except (ValueError, KeyError) as e:
        return [str(e)]
    return [
        f"{NVLINK5_FILE}: {one.code}: contradicts {other.code}"
        for number, one in enumerate(patterns)
        for other in patterns[:number]
        if _overlap(one, other) and _meaning(rows[one.code]) != _meaning(rows[other.code])
    ]


def _overlap(one: Pattern, other: Pattern) -> bool:
    """Say whether one line can fit both, in the layout of one driver."""
    if one.xid != other.xid or not one.units & other.units:
        return False
    if one.status and other.status and not one.status & other.status:
        return False
    return any(
        (value ^ other_value) & mask & other_mask == 0
        for (mask, value), (other_mask, other_value) in zip(one.layouts, other.layouts, strict=True)
    )


def _meaning(row: CatalogRow) -> tuple[str, Severity, Action]:
    return (row.kind, row.severity, row.action)


def _row(row: CatalogRow) -> Iterator[str]:
    if not row.name.strip():
        yield "no name"
    for field, hint in (("hint", row.hint), ("hint_zh", row.hint_zh)):
        if len(hint.strip()) < HINT_MIN_CHARACTERS:
            yield f"{field} says too little: {hint!r}"
    if row.hint_zh.isascii():
        yield "hint_zh is not Chinese"
    if row.kind == "info" and row.severity is not Severity.INFO:
        yield f"kind info with severity {row.severity.name.lower()}"
    if row.severity is Severity.INFO and row.action in _DRASTIC:
        yield f"severity info asks for {row.action.value}"


def _sources(name: str, data: Mapping[str, Any]) -> Iterator[str]:
    sources: dict[str, Any] = data.get("sources", {})
    used = {row.get("source") for row in data.get("codes", {}).values()}
    for source in sorted(str(source) for source in used - sources.keys()):
        yield f"{name}: source {source} is not described"
    for source in sorted(sources.keys() - used):
        yield f"{name}: source {source} is used by no row"
    for key, source in sources.items():
        if not source.get("title") or not source.get("date"):
            yield f"{name}: source {key} needs title and date"
    hints = {row["hint"][1:] for row in data.get("codes", {}).values() if row["hint"][:1] == "@"}
    for hint in sorted(data.get("hints", {}).keys() - hints):
        yield f"{name}: hint {hint} is used by no row"


def main() -> int:
    """Check the catalog that ships; return the exit status."""
    files = list(catalog_files())
    problems = problems_of(files)
    if not problems:
        codes = [code for name, text in files for code in read_catalog(text, file=name)]
        problems = [
            *rule_problems(codes),
            *register_problems(catalog_text(NVLINK5_FILE)),
            *escalation_problems(rules_text()),
        ]
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
