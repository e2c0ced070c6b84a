"""`npu-smi info -t hccs`: the links between the chips of a host.

A link that is wired has a lane mode other than 0, and is up when all lanes of its group are:
`1111`. Source: the 26.x driver and captures of 910B; the answer of a broken link is known from
source alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_PAIR = re.compile(r"^\s*hccs (?P<key>[a-z ]+?)\s*:\s*(?P<value>.*?)\s*$", re.MULTILINE | re.I)


@dataclass(frozen=True, slots=True)
class HccsLink:
    """One link."""

    is_up: bool
    errors: int | None
    """Errors and retries since the last reset; None where they are not printed."""


@dataclass(frozen=True, slots=True)
class Hccs:
    """All links of a chip."""

    is_ok: bool | None = None
    """The driver's own word; None: it says nothing."""
    lanes: dict[int, HccsLink] = field(default_factory=dict)


def read(text: str) -> Hccs:
    """Return what the answer states; everything is absent where it is none."""
    values = {pair["key"].lower(): pair["value"] for pair in _PAIR.finditer(text)}
    word = values.get("health status", "").upper()
    is_ok = {"OK": True, "NOK": False}.get(word)
    groups, modes = _listed(values, "link lane list"), _listed(values, "lane mode")
    errors, retries = _listed(values, "error count"), _listed(values, "retry count")
    lanes = {}
    for number, group in enumerate(groups):
        if number < len(modes) and not modes[number].strip("0"):
            continue
        counts = [each[number] for each in (errors, retries) if number < len(each)]
        count = sum(map(int, counts)) if counts and all(map(_is_count, counts)) else None
        lanes[number] = HccsLink(is_up=not group.strip("1"), errors=count)
    return Hccs(is_ok, lanes)


def _listed(values: dict[str, str], key: str) -> list[str]:
    return values.get(key, "").strip("[] ").split()


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 20
