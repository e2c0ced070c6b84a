"""The catalog: vendor code -> kind, severity, action, hint, source. Data in `catalog/*.toml`.

Every file holds codes of one prefix; `ascend.toml` and `ascend-node.toml` both hold `ascend:`
codes:

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

A row of which other sources say something else says so in `disputed`; docs/faults.md has the rule.
Hints that many rows share stand once, in `[hints.<name>]` with `en` and `zh`; such a row says
`hint = "@name"`. The agent asks through `lookup`, which reads the files of one prefix when its
first code appears: an NVIDIA host never holds the thousand Ascend rows.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from chipmedic.faults.ascend_codes import decode, is_network_code
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
    """One of `KINDS`, or `info` for a code that is context only."""
    severity: Severity
    action: Action
    hint: str
    hint_zh: str
    source: str
    is_known: bool = True
    """False: no catalog holds this code; the row says so and keeps it visible."""
    is_companion: bool = False
    """True: as a rule it follows another code, which is the one to look at (Xid 45 after 79)."""
    is_fixed: bool = False
    """True: the word Fatal or Non-fatal of a line does not change this row."""
    disputed: str = ""
    """What other sources say of this code, where they disagree with this row."""


Catalog = Mapping[str, CatalogRow]


def read_catalog(text: str, *, file: str) -> dict[str, CatalogRow]:
    """Read one catalog file.

    Raises:
        ValueError: a row is wrong; names the file and the row.
    """
    data = tomllib.loads(text)
    hints = data.get("hints", {})
    rows: dict[str, CatalogRow] = {}
    for key, row in data.get("codes", {}).items():
        code = f"{data['prefix']}:{key}"
        try:
            rows[code] = _row(code, data["vendor"], row, hints)
        except (KeyError, ValueError) as e:
            raise ValueError(f"{file}: {code}: {e}") from e
    return rows


def _row(
    code: str, vendor: str, row: Mapping[str, Any], hints: Mapping[str, Mapping[str, str]]
) -> CatalogRow:
    if row["kind"] not in KINDS and row["kind"] != "info":
        raise ValueError(f"unknown kind {row['kind']!r}")
    hint, hint_zh = row["hint"], row.get("hint_zh")
    if hint.startswith("@"):
        hint, hint_zh = hints[hint[1:]]["en"], hints[hint[1:]]["zh"]
    if hint_zh is None:
        raise ValueError("no hint_zh")
    return CatalogRow(
        code=code,
        vendor=row.get("vendor", vendor),
        name=row["name"],
        kind=row["kind"],
        severity=Severity[row["severity"].upper()],
        action=Action(row["action"]),
        hint=hint,
        hint_zh=hint_zh,
        source=row["source"],
        is_companion=row.get("companion", False),
        is_fixed=row.get("fixed", False),
        disputed=row.get("disputed", ""),
    )


def merge(files: Iterable[Mapping[str, CatalogRow]]) -> dict[str, CatalogRow]:
    """Merge catalog files; of two rows for one code the more severe wins (the linter tells)."""
    merged: dict[str, CatalogRow] = {}
    for rows in files:
        for code, row in rows.items():
            if code not in merged or row.severity > merged[code].severity:
                merged[code] = row
    return merged


def catalog_files() -> Iterator[tuple[str, str]]:
    """Yield name and text of every catalog file that ships with chipmedic, by name."""
    folder = resources.files("chipmedic.faults") / "catalog"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            yield entry.name, entry.read_text(encoding="utf-8")


def catalog_text(name: str) -> str:
    """Return the text of one catalog file."""
    file = resources.files("chipmedic.faults") / "catalog" / name
    return file.read_text(encoding="utf-8")


@lru_cache(maxsize=32)
def catalog_of(prefix: str) -> Catalog:
    """Return the rows of one prefix (`xid`, `ascend`), read when first asked for."""
    folder = resources.files("chipmedic.faults") / "catalog"
    names = sorted(entry.name for entry in folder.iterdir())
    return merge(
        read_catalog(catalog_text(name), file=name)
        for name in names
        if name.endswith(".toml") and name.removesuffix(".toml").split("-")[0] == prefix
    )


@cache
def builtin_catalog() -> Catalog:
    """Return everything that ships, about 1,750 rows; the agent uses `lookup` instead."""
    return merge(read_catalog(text, file=name) for name, text in catalog_files())


def lookup(code: str) -> CatalogRow:
    """Return the row of a code; an unknown code gets a row that says so (`is_known` False).

    Leading zeros of a number (`sxid:011004`) and the case of hexadecimal codes do not matter.
    """
    prefix, _, key = code.partition(":")
    rows = catalog_of(prefix)
    for spelling in (code, f"{prefix}:{key.lstrip('0') or '0'}", f"{prefix}:{key.upper()}"):
        if spelling in rows:
            return rows[spelling]
    return unknown_row(code)


_VENDORS = {
    "xid": "nvidia",
    "sxid": "nvidia",
    "nvlink5": "nvidia",
    "ascend": "ascend",
    "cann": "ascend",
    "hccl": "ascend",
}


def unknown_row(code: str) -> CatalogRow:
    """Return the row that stands for a code nobody has described to us yet."""
    prefix, _, key = code.partition(":")
    severity, action = Severity.WARNING, Action.NONE
    name = f"unknown code {code}"
    if prefix == "ascend":
        severity, action = _ascend_default(key)
        if event := decode(key):
            name = f"{event.node}: {event.sensor} state {event.state} (not in the catalog)"
    return CatalogRow(
        code=code,
        vendor=_VENDORS.get(prefix, "host"),
        name=name,
        kind="chip.internal",
        severity=severity,
        action=action,
        hint=(
            f"The code {code} is not in chipmedic's catalog, so its meaning is unknown. "
            "Look it up in the vendor's current manual and watch whether the job goes on."
        ),
        hint_zh=(
            f"代码 {code} 不在 chipmedic 的目录中，含义未知。"
            "请查阅厂商最新手册，并观察作业是否继续运行。"
        ),
        source="none",
        is_known=False,
    )


def _ascend_default(key: str) -> tuple[Severity, Action]:
    """Return what the vendor's scheduler plug-in does with a code that its own tables do not hold.

    Minor by its sensor and state: recorded. A network code: no new work. All others: isolated.
    """
    if is_network_code(key):
        return Severity.WARNING, Action.ISOLATE_NODE
    event = decode(key)
    if event is not None and event.is_harmless:
        return Severity.INFO, Action.NONE
    return Severity.CRITICAL, Action.ISOLATE_NODE
