"""A detailed answer as a tree of named nodes: one shape for XML and for indented text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Node:
    """A section or a value; both at once where the text form nests below a value."""

    key: str
    """Lower case, words joined by underscores: `fb_memory_usage`."""
    text: str = ""
    children: list[Node] = field(default_factory=list)
    id: str = ""
    """XML: the `id` attribute; text: what follows the section's name in its own line."""
    is_closed: bool = True
    """False: the output stopped inside it."""

    def child(self, *keys: str) -> Node | None:
        """Return the first child that bears one of these names, by the order of the names."""
        for key in keys:
            for node in self.children:
                if node.key == key:
                    return node
        return None

    def value(self, *keys: str) -> str:
        """Return the text of the first child of these names; empty when there is none."""
        node = self.child(*keys)
        return node.text if node else ""

    def named(self, key: str) -> Iterator[Node]:
        """Yield the children of this name."""
        return (node for node in self.children if node.key == key)

    def leaves(self, *, without: frozenset[str] = frozenset()) -> Iterator[str]:
        """Yield every text at and below this node, except below the named sections."""
        nodes = [self]
        while nodes:
            node = nodes.pop()
            if node.text:
                yield node.text
            nodes.extend(child for child in node.children if child.key not in without)


_TAG = re.compile(
    r"<(?P<end>/?)(?P<name>[A-Za-z_][\w.-]*)(?P<attributes>(?:\s[^<>]*?)?)(?P<empty>/?)>"
)
_ID = re.compile(r"""\bid\s*=\s*["']([^"']*)["']""")
_DEPTH_MAX = 64


def read_xml(text: str) -> Node:
    """Read the elements of an XML answer, as far as it goes.

    No XML library, because of what the tool really prints: documents that were cut anywhere, names
    of processes with bare `<` and `&`, and several documents with `--loop`. Entities but
    the standard ones mean nothing here, so no document can grow while it is read.
    """
    root = Node("")
    open_nodes = [(root, 0)]
    for tag in _TAG.finditer(text):
        name = tag["name"].lower()
        if not tag["end"]:
            identity = _ID.search(tag["attributes"])
            node = Node(name, id=identity[1] if identity else "", is_closed=bool(tag["empty"]))
            open_nodes[-1][0].children.append(node)
            if not node.is_closed and len(open_nodes) < _DEPTH_MAX:
                open_nodes.append((node, tag.end()))
        elif any(node.key == name for node, _ in open_nodes[1:]):
            _close(open_nodes, name, text, tag.start())
    root.is_closed = len(open_nodes) == 1
    return root


def _close(open_nodes: list[tuple[Node, int]], name: str, text: str, end: int) -> None:
    """Close the innermost element of this name.

    Where nothing inside it was ever closed, what looked like tags was its text.
    """
    node, start = open_nodes.pop()
    while node.key != name:
        node, start = open_nodes.pop()
    node.is_closed = True
    if not any(child.is_closed or child.children for child in node.children):
        node.children.clear()
        node.text = html.unescape(text[start:end]).strip()


_PAIR = re.compile(r"(?P<key>[^\s:](?:.*?[^\s:])?)\s*:(?:\s+(?P<value>.*))?")


def read_text(text: str, headline: re.Pattern[str]) -> Node:
    """Read `name : value` lines into a tree by their indentation.

    `headline` matches the line that begins a device; its groups are `key` and `id`.

    Lines of another form are skipped. A section or a value that the last line begins and that has
    no content is not closed: there the output was cut.
    """
    root = Node("")
    open_nodes: list[tuple[int, Node]] = [(-1, root)]
    for line in text.expandtabs().splitlines():
        node = _line_node(line.strip(), headline)
        if node is None:
            continue
        indent = len(line) - len(line.lstrip())
        while len(open_nodes) > 1 and open_nodes[-1][0] >= indent:
            open_nodes.pop()
        open_nodes[-1][1].children.append(node)
        if len(open_nodes) < _DEPTH_MAX:
            open_nodes.append((indent, node))
    tail = open_nodes[-1][1]
    if not tail.text and not tail.id:
        for _, node in open_nodes:
            node.is_closed = False
    return root


def _line_node(line: str, headline: re.Pattern[str]) -> Node | None:
    if begun := headline.fullmatch(line):
        return Node(text_key(begun["key"]), id=begun["id"])
    if pair := _PAIR.fullmatch(line):
        return Node(text_key(pair["key"]), (pair["value"] or "").strip())
    if re.fullmatch(r"[A-Za-z][\w /()-]*", line):
        return Node(text_key(line))
    return None


def text_key(name: str) -> str:
    """Return a name of the text form as in the XML: `FB Memory Usage` -> `fb_memory_usage`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
