"""Where a fault is, in words: host, chip with index, model, serial and PCI address, link, port."""

from __future__ import annotations

from chipmedic.faults.catalog import lookup
from chipmedic_watchdog.notify.facts import FaultFacts, IncidentFacts
from chipmedic_watchdog.notify.words import Words

NODES_SHOWN = 8
NODES_IN_TITLE = 3
PLACE_LABELS = ("rack", "switch", "power_feed", "slot")
"""Labels of a node that help somebody to walk to it."""
SENTENCES = {
    "nic": "nic",
    "disk": "disk",
    "job": "job",
    "collector": "collector",
    "pci": "pci_device",
}


def where(facts: IncidentFacts, words: Words, *, is_short: bool = False) -> str:
    """Return where an incident is; short: for a title, without serial and address."""
    nodes = _nodes(facts, words, NODES_IN_TITLE if is_short else NODES_SHOWN)
    if not is_short:
        labels = [f"{key} {facts.labels[key]}" for key in PLACE_LABELS if key in facts.labels]
        nodes += words.aside(words.join(labels, "comma")) if labels else ""
    root = facts.root
    if root is None or root.component == "host":
        return nodes
    part = component(root, words)
    if not is_short and root.chip is not None:
        exact = [
            words.say("sentences", key, **{key: value})
            for key, value in (("serial", root.chip.serial), ("pci", root.chip.pci))
            if value
        ]
        part = words.join([part, *exact], "comma")
    return words.join([nodes, part], "comma")


def place(fault: FaultFacts, words: Words) -> str:
    """Return where one more fault of an incident is."""
    on_node = words.say("sentences", "on_node", node=fault.node)
    if fault.component == "host":
        return on_node
    return words.join([on_node, component(fault, words)], "comma")


def component(fault: FaultFacts, words: Words) -> str:
    """Return the part of the node that a fault is on."""
    kind, _, name = fault.component.partition(":")
    if kind == "host":
        return words.say("sentences", "host")
    if kind in SENTENCES:
        return words.say("sentences", SENTENCES[kind], name=name)
    if fault.chip is None:
        return words.say("sentences", "unknown_chip", uid=name)
    link = name.rpartition("/")[2] if kind == "link" else ""
    return words.say(
        "sentences",
        "link" if kind == "link" else "chip",
        index=fault.chip.index,
        model=fault.chip.model,
        link=link,
    )


def node_of(facts: IncidentFacts) -> str:
    """Return the node where to start."""
    if facts.root and facts.nodes_to_look_at == facts.nodes:
        return facts.root.node
    return next(iter(facts.nodes_to_look_at), "")


def vendor_of(facts: IncidentFacts) -> str:
    """Return the vendor of the root's chip, else of its code, else of another fault's chip."""
    root = facts.root
    if root is None:
        return "*"
    if root.chip is not None:
        return root.chip.vendor
    vendors = [lookup(code).vendor for code in root.codes]
    vendors += [fault.chip.vendor for fault in facts.faults if fault.chip is not None]
    return next((vendor for vendor in vendors if vendor != "host"), _collector(root))


def _collector(fault: FaultFacts) -> str:
    """Return the name of a check: a vendor's collector bears the vendor's name."""
    kind, _, name = fault.component.partition(":")
    return name if kind == "collector" else "*"


def _nodes(facts: IncidentFacts, words: Words, shown: int) -> str:
    nodes = sorted(facts.nodes_to_look_at)
    if not nodes:
        return words.say("sentences", "nothing")
    if len(nodes) == 1:
        return words.say("sentences", "node", node=nodes[0])
    root = node_of(facts)
    ordered = [root, *(node for node in nodes if node != root)]
    names = ", ".join(ordered[:shown]) + (" ..." if len(nodes) > shown else "")
    return words.say("sentences", "nodes", count=len(nodes), names=names)
