"""docs/faults.md is true: every kind, every example line, every count of the catalog."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from chipmedic.faults.catalog import catalog_files
from chipmedic.faults.kernel_lines import read_line
from chipmedic.faults.kinds import KINDS
from chipmedic.faults.lines_training import read_training_text
from chipmedic_agent.detectors.settings import DetectorSettings

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


def found_without_a_line() -> dict[str, list[str]]:
    """Return the cells of the second table of examples, by kind."""
    section = PAGE.partition("## Found without a line")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.+) \|$", section, re.MULTILINE)
    return {kind: [cell.strip() for cell in cells.split(" | ")] for kind, cells in rows}


def test_every_kind_has_an_example_a_rule_and_a_source() -> None:
    by_line = set(re.findall(r"^\| `([a-z_.]+)` \| `.+` \| `\w+:[\w.]+` \|$", PAGE, re.MULTILINE))
    without = found_without_a_line()
    assert by_line | without.keys() == KINDS.keys()
    assert all(len(cells) == 3 and all(cells) for cells in without.values())


def test_every_figure_is_the_default_of_its_setting() -> None:
    settings = DetectorSettings()
    rules = " ".join(cells[1] for cells in found_without_a_line().values())
    figures = re.findall(r"`([\w.]+) = ([\d.]+)`", rules)
    assert len(figures) > 25
    for name, figure in figures:
        part, _, inner = name.rpartition(".")
        holder = getattr(settings, part) if part else settings
        assert getattr(holder, inner) == float(figure), name


def test_every_file_of_the_catalog_is_counted() -> None:
    listed = re.findall(r"^\| `([\w-]+\.toml)` \| (\d+) × `(\w+):` \|", PAGE, re.MULTILINE)
    shipped = [(name, tomllib.loads(text)) for name, text in catalog_files()]
    assert listed == [(name, str(len(d["codes"])), d["prefix"]) for name, d in shipped]
