"""The catalog: vendor code -> kind, severity, action, hint, source. Data in `catalog/*.toml`.

Every file holds one vendor family:

    vendor = "nvidia"
    prefix = "xid"
    [sources.sheet]
    title = "NVIDIA Xid catalogue spreadsheet"
    date = "2025-10"
    [codes.79]
    name = "GPU has fallen off the bus"
    kind = "chip.lost"
    severity = "critical"
    action = "reboot_node"
    hint = "..."
    hint_zh = "..."
    source = "sheet"
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from chipmedic.faults.kinds import KINDS
from chipmedic.model import Action, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogRow:
    """What is known of one vendor code."""

    code: str
    """With its prefix: `xid:79`."""
    vendor: str
    name: str
    kind: str
    severity: Severity
    action: Action
    hint: str
    hint_zh: str
    source: str


Catalog = Mapping[str, CatalogRow]


def read_catalog(text: str, *, file: str) -> dict[str, CatalogRow]:
    """Read one catalog file.

    Raises:
        ValueError: a row is wrong; names the file and the row.
    """
    data = tomllib.loads(text)
    rows: dict[str, CatalogRow] = {}
    for key, row in data.get("codes", {}).items():
        code = f"{data['prefix']}:{key}"
        try:
            rows[code] = _row(code, data["vendor"], row)
        except (KeyError, ValueError) as e:
            raise ValueError(f"{file}: {code}: {e}") from e
    return rows


def _row(code: str, vendor: str, row: Mapping[str, Any]) -> CatalogRow:
    if row["kind"] not in KINDS and row["kind"] != "info":
        raise ValueError(f"unknown kind {row['kind']!r}")
    return CatalogRow(
        code=code,
        vendor=vendor,
        name=row["name"],
        kind=row["kind"],
        severity=Severity[row["severity"].upper()],
        action=Action(row["action"]),
        hint=row["hint"],
        hint_zh=row["hint_zh"],
        source=row["source"],
    )


def merge(files: Iterable[Mapping[str, CatalogRow]]) -> dict[str, CatalogRow]:
    """Merge catalog files; of two rows for one code the more severe wins (`chipmedic.faults.lint` reports it)."""
    merged: dict[str, CatalogRow] = {}
    for rows in files:
        for code, row in rows.items():
            if code not in merged or row.severity > merged[code].severity:
                merged[code] = row
    return merged


@cache
def builtin_catalog() -> Catalog:
    """Return the catalog that ships with chipmedic; read once, about 1,500 rows."""
    folder = resources.files("chipmedic.faults") / "catalog"
    return merge(
        read_catalog(entry.read_text(encoding="utf-8"), file=entry.name)
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    )
