"""The documents that amd-smi prints, as one tree per GPU: indented text, JSON, or CSV.

All three say the same under the same names. Root objects, units and lists changed between 6.x and
7.x; what a GPU says of itself is found wherever it hangs.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from typing import Any

from chipmedic.tool_report import ProblemKind, ToolReport

Tree = dict[str, Any]
"""Keys in lower case. A key that is printed twice has a list as value."""

_GPU = re.compile(r"^(?P<indent>\s*)GPU:?\s+(?P<index>\d{1,4}):?\s*$")
_OTHER = re.compile(r"^\s*(?:CPU|CORE|NIC|SWITCH):?\s+\d+\s*$")
_PAIR = re.compile(r"^(?P<indent>\s*)(?P<key>[A-Za-z0-9][\w /.-]*?)\s*:(?:\s+(?P<value>.*))?$")
_CSV = re.compile(r"^\s*(?:timestamp,)?gpu,", re.MULTILINE)
_JSON = re.compile(r"^\s*[{\[]", re.MULTILINE)
_DECODER = json.JSONDecoder()
_ITEM_END = re.compile(r"[\s,]*")
_GROUPS = {
    "gpu_bdf": "bdf",
    "gpu_uuid": "uuid",
}
"""Names of CSV columns that differ from those of the other forms."""


def is_tree(text: str) -> bool:
    """Say whether the text has the heading of a GPU."""
    return any(_GPU.match(line) for line in text.splitlines())


def is_csv(text: str) -> bool:
    """Say whether the text has the header of a CSV table of GPUs."""
    return _CSV.search(text) is not None


def is_json(text: str) -> bool:
    """Say whether the text has a JSON document."""
    return _JSON.search(text) is not None


def read_tree(text: str) -> Iterator[tuple[int, Tree]]:
    """Yield each GPU of an indented text with its tree."""
    index: int | None = None
    root: Tree = {}
    levels: list[tuple[int, Tree]] = []
    for line in text.splitlines():
        if (heading := _GPU.match(line)) or _OTHER.match(line):
            if index is not None:
                yield index, root
            index = int(heading["index"]) if heading else None
            root = {}
            levels = [(len(heading["indent"]) if heading else 0, root)]
        elif index is not None and (pair := _PAIR.match(line)):
            indent = len(pair["indent"])
            while len(levels) > 1 and levels[-1][0] >= indent:
                levels.pop()
            value = (pair["value"] or "").strip()
            child: Tree = {}
            _put(levels[-1][1], pair["key"].lower(), value or child)
            if not value:
                levels.append((indent, child))
    if index is not None:
        yield index, root


def read_json(text: str, report: ToolReport) -> list[Tree]:
    """Return the objects of a JSON document that hangs below warnings; cut ones as far as they go.

    A document that is cut, or is none, is a problem of the report.
    """
    for start in _JSON.finditer(text):
        at = start.end() - 1
        try:
            document, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            continue
        if text[end:].strip():
            rest = text[end:].strip().splitlines()[0]
            report.add_problem(ProblemKind.MALFORMED, f"text after the JSON: {rest}")
        return list(_objects(document))
    is_cut = not text.rstrip().endswith(("}", "]"))
    kind = ProblemKind.TRUNCATED if is_cut else ProblemKind.MALFORMED
    report.add_problem(kind, "the JSON stops before its end" if is_cut else "this is no JSON")
    return list(_salvaged(text))


def read_csv(text: str, report: ToolReport) -> Iterator[Tree]:
    """Yield each row of a CSV table as a flat tree; a row of another width is a problem."""
    columns: list[str] = []
    lines = [line for line in text.splitlines() if line.strip()]
    for position, line in enumerate(lines):
        cells = _cells(line)
        if "gpu" in cells[:2]:
            columns = [_GROUPS.get(name, name) for name in map(str.lower, cells)]
        elif columns and len(cells) == len(columns):
            yield dict(zip(columns, cells, strict=True))
        elif columns and len(cells) > 1:
            is_cut = position == len(lines) - 1 and len(cells) < len(columns)
            kind = ProblemKind.TRUNCATED if is_cut else ProblemKind.MALFORMED
            report.add_problem(kind, f"{len(cells)} cells for {len(columns)} columns: {line}")


def text_of(value: object) -> str:
    """Return a leaf as the text form prints it: `{"value": 140, "unit": "W"}` is `140 W`."""
    if isinstance(value, dict) and value.keys() <= {"value", "unit"}:
        return f"{value.get('value', '')} {value.get('unit', '')}".strip()
    return value if isinstance(value, str) else json.dumps(value)


def is_leaf(value: object) -> bool:
    """Say whether a value is one that `text_of` reads."""
    if isinstance(value, dict):
        return "value" in value and value.keys() <= {"value", "unit"}
    return not isinstance(value, list)


def walk(tree: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield every value below a tree with its path, branches before what hangs on them."""
    if isinstance(tree, list):
        for one in tree:
            yield from walk(one, path)
        return
    yield path, tree
    if isinstance(tree, dict) and not is_leaf(tree):
        for key, value in tree.items():
            yield from walk(value, (*path, str(key).lower()))


def _put(parent: Tree, key: str, value: object) -> None:
    if key not in parent:
        parent[key] = value
    elif isinstance(parent[key], list):
        parent[key].append(value)
    else:
        parent[key] = [parent[key], value]


def _objects(document: object) -> Iterator[Tree]:
    """Yield the objects that name a GPU or an error, wherever they hang."""
    if isinstance(document, list):
        for one in document:
            yield from _objects(one)
    elif isinstance(document, dict):
        if "gpu" in document or "error" in document or "tool" in document:
            yield {str(key).lower(): value for key, value in document.items()}
        else:
            for value in document.values():
                yield from _objects(value)


def _salvaged(text: str) -> Iterator[Tree]:
    """Yield the whole items of a list whose end is cut off."""
    at = text.find("[")
    while 0 <= at < len(text) - 1:
        found = _ITEM_END.match(text, at + 1)
        try:
            item, end = _DECODER.raw_decode(text, found.end() if found else at + 1)
        except (ValueError, RecursionError):
            return
        yield from _objects(item)
        at = end - 1 if text[end - 1 : end] == "[" else end


def _cells(line: str) -> list[str]:
    try:
        rows = list(csv.reader([line]))
    except csv.Error:
        rows = [line.split(",")]
    return [cell.strip() for cell in rows[0]] if rows else [""]
