"""`chipmedic inject`: break a part of a demo that was kept."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from chipmedic.errors import ChipmedicError
from chipmedic_simulator.faults import INJECTIONS, inject
from chipmedic_simulator.layout import SUPERVISOR, Layout


def run(fault: str, *, state: Path | None, node: str, chip: int, show_list: bool) -> None:
    """Inject a fault, or list what can be injected.

    Raises:
        ChipmedicError: what is missing or wrong, and what is allowed.
    """
    console = Console(highlight=False, soft_wrap=True)
    if show_list:
        console.print(_listing())
        return
    if not fault:
        raise ChipmedicError("which fault? chipmedic inject --list names them")
    if state is None:
        raise ChipmedicError(
            "--state FOLDER is needed: the folder of a demo that was kept (chipmedic demo --keep)"
        )
    layout = Layout.open(state)
    if SUPERVISOR not in layout.pids():
        raise ChipmedicError(f"{state}: the demo there is stopped; start another one")
    if not node:
        raise ChipmedicError(f"--node is needed, one of: {', '.join(layout.node_names())}")
    done = inject(layout, fault, node, chip)
    console.print(f"{node}: {done.words}", markup=False)
    if done.expectation:
        console.print(f"to be expected: {done.expectation}", markup=False)


def _listing() -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("FAULT", "WHAT IT IS", "WHAT CHIPMEDIC DOES"):
        table.add_column(column, overflow="fold")
    for name, injection in INJECTIONS.items():
        vendors = "" if len(injection.vendors) > 1 else f" ({', '.join(injection.vendors)} only)"
        table.add_row(name, injection.words + vendors, injection.expectation or "-")
    return table
