"""What the demo prints: a line per thing that happened, with the time since it began."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from chipmedic_cli.words import plain

PHASES = {
    "detect": "from the last step until chipmedic had an incident",
    "decide": "until the first act of the recovery",
    "isolate": "until no new work can come to the node",
    "restart": "until the job's first step of its new start",
    "recompute": "until it was as far as before",
    "unexplained": "tied to no act",
}
WIDTH = 100


class Screen:
    """The demo's output."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console.width = WIDTH
        self._began = time.time()

    def since_start(self, at: float | None = None) -> float:
        """Return how long after the demo's start a time is."""
        return (time.time() if at is None else at) - self._began

    def line(self, words: str, *, at: float | None = None, style: str = "") -> None:
        """Print what happened and when."""
        text = f"[{style}]{escape(words)}[/]" if style else escape(words)
        self._console.print(f"[dim]+{self.since_start(at):5.1f} s[/]  {text}")

    def note(self, words: str) -> None:
        """Print a line that belongs to the one above."""
        self._console.print(f"           [dim]{escape(words)}[/]")

    def gap(self) -> None:
        """Print an empty line between two acts."""
        self._console.print()

    def notice(self, text: str, who: str) -> None:
        """Print a notice as it was got: every word of it, so that it can be copied."""
        self._console.print(f"  [dim]┌─ {escape(who)}[/]")
        width = min(self._console.width, WIDTH) - 6
        for line in text.strip().splitlines():
            indent = " " * (len(line) - len(line.lstrip()) + 2)
            parts = plain(line.strip()).wrap(self._console, width - len(indent)) or [plain("")]
            for number, part in enumerate(parts):
                before = indent if number else indent[2:]
                self._console.print("  [dim]│[/] " + before, part, sep="")
        self._console.print("  [dim]└─[/]")

    def losses(self, loss: dict[str, Any]) -> None:
        """Print where the time of one incident went."""
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(justify="right")
        table.add_column()
        table.add_column(style="dim")
        for stage in loss["stages"]:
            words = f"{PHASES.get(stage['phase'], '')} {self._detail(stage)}".strip()
            table.add_row(f"{stage['seconds']:.1f} s", stage["phase"], plain(words))
        table.add_row(f"[bold]{loss['seconds']:.1f} s[/]", "[bold]lost in all[/]", "")
        self._console.print(Padding(table, (0, 0, 0, 11), expand=False), soft_wrap=False)

    def _detail(self, row: dict[str, Any]) -> str:
        return f"({row['detail']})" if row["detail"] else ""

    def complaint(self, words: str) -> None:
        """Print why the demo failed."""
        self._console.print(f"[bold red]chipmedic demo: {escape(words)}[/]")

    def plain(self, words: str) -> None:
        """Print as it is."""
        self._console.print(words, markup=False)
