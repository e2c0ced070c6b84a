"""docs/faults.md is true: every kind, every example line, every count of the catalog."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from chipmedic.faults.catalog import catalog_files
from chipmedic.faults.kernel_lines import read_line
from chipmedic.faults.kinds import KINDS
from chipmedic.faults.lines_training import read_training_text

PAGE = (Path(__file__).parents[2] / "docs/faults.md").read_text(encoding="utf-8")


def test_every_kind_has_its_row_with_its_defaults() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (\w+, `\w+`) \|", PAGE, re.MULTILINE))
    assert rows == {
        name: f"{kind.severity.name.lower()}, `{kind.action.value}`" for name, kind in KINDS.items()
    }


def test_every_example_line_is_read_as_the_page_says() -> None:
    examples = re.findall(r"^\| `([a-z_.]+)` \| `(.+)` \| `(\w+:[\w.]+)` \|$", PAGE, re.MULTILINE)
    assert len(examples) > 30
    for kind, line, code in examples:
        text = line.replace("\\|", "|")
        found = read_line(text) or [read_training_text(text)]
        assert [(f.kind, f.code) for f in found if f] == [(kind, code)]


def test_every_file_of_the_catalog_is_counted() -> None:
    listed = re.findall(r"^\| `([\w-]+\.toml)` \| (\d+) × `(\w+):` \|", PAGE, re.MULTILINE)
    shipped = [(name, tomllib.loads(text)) for name, text in catalog_files()]
    assert listed == [(name, str(len(d["codes"])), d["prefix"]) for name, d in shipped]
