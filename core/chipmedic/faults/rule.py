"""One pattern of a log line, and the making of a finding from it.

A table of rules is data: name, needles, pattern. What the name means (kind, severity, action,
hints) stands in the catalog under `kernel:<name>`; a rule adds only what its own line says
better.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from chipmedic.faults.catalog import CatalogRow, lookup
from chipmedic.faults.finding import Finding

BDF = r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?"
"""A PCI address as drivers print it; Xid lines leave out the function."""

_BDF = re.compile(
    rf"(?<![0-9a-fA-F])(?<![0-9a-fA-F]:){BDF}(?![0-9a-fA-F]|\.[0-7]|:[0-9a-fA-F]{{2}}(?:\W|$))"
)

Refine = Callable[[re.Match[str], Finding], Finding | None]
"""Returns the finding with what the line says better; None: this line is no fault after all."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One pattern. Rules are tried in order and the first that matches has the line."""

    name: str
    """The catalog row is `kernel:<name>`; empty: a line that is known to be harmless."""
    needles: tuple[str, ...]
    """Every line that `pattern` matches holds one of these; the cheap first look."""
    pattern: re.Pattern[str]
    refine: Refine | None = None
    read: Callable[[re.Match[str], str], Finding | None] | None = None
    """Makes the finding by itself (Xid, SXid, event ids); then `name` is only a name."""

    def find(self, text: str) -> tuple[bool, Finding | None]:
        """Return whether the rule has this line, and what it found there."""
        if not any(needle in text for needle in self.needles):
            return False, None
        match = self.pattern.search(text)
        if match is None:
            return False, None
        if self.read is not None:
            return True, self.read(match, text)
        if not self.name:
            return True, None
        finding = plain(f"kernel:{self.name}", match, text)
        return True, finding if self.refine is None else self.refine(match, finding)


def rule(
    name: str,
    needles: str | tuple[str, ...],
    pattern: str,
    refine: Refine | None = None,
    *,
    read: Callable[[re.Match[str], str], Finding | None] | None = None,
) -> Rule:
    """Return a rule; one needle may be given as text."""
    several = (needles,) if isinstance(needles, str) else needles
    return Rule(name, several, re.compile(pattern), refine, read)


def plain(code: str, match: re.Match[str], text: str) -> Finding:
    """Return what the catalog says of a code, with the address or device that the line names."""
    groups = match.groupdict()
    pci = groups.get("pci")
    device = next((groups[g] for g in groups if g.startswith("device") and groups[g]), None)
    if pci is None:
        found = _BDF.search(text)
        pci = found.group() if found else None
    return of_row(lookup(code), text, pci=normal_pci(pci) if pci else None, device=device)


def of_row(
    row: CatalogRow, text: str, *, pci: str | None = None, device: str | None = None
) -> Finding:
    """Return the finding of a catalog row for a line; `pci` in its normal form."""
    return Finding(
        kind=row.kind,
        severity=row.severity,
        action=row.action,
        code=row.code,
        vendor=row.vendor,
        message=text,
        pci=pci,
        device=device,
        hint=row.hint,
    )


def as_row(finding: Finding, code: str) -> Finding:
    """Return the finding under another row, for a line that is worse or better than it looked."""
    row = lookup(code)
    return replace(
        finding,
        kind=row.kind,
        severity=row.severity,
        action=row.action,
        code=row.code,
        hint=row.hint,
    )


def normal_pci(text: str) -> str:
    """Return a PCI address in lower case with a domain of four digits: `0000:3b:00.0`.

    NVML prints eight digits for the domain, the kernel four; a short form has none.
    """
    text = text.strip().lower()
    parts = text.split(":")
    if len(parts) == 2:
        return f"0000:{text}"
    domain = parts[0]
    if len(domain) > 4 and domain[:-4].strip("0") == "":
        domain = domain[-4:]
    return ":".join([domain.rjust(4, "0"), *parts[1:]])
