"""Who did not arrive: stories of a job that stands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from chipmedic_watchdog.notify.late import late_ranks


def report(node: str, rank_steps: str, **values: Any) -> SimpleNamespace:
    whole = {"attempt": 0, "step": None, "ranks": [], "pids": [1]} | values
    return SimpleNamespace(node=node, labels={"rank_steps": rank_steps}, **whole)


@pytest.mark.parametrize(
    ("reports", "late"),
    [
        ([], []),
        ([report("n1", "0:47"), report("n2", "1:47")], []),
        ([report("n1", "0:47"), report("n2", "1:46")], ["n2 1 46<47"]),
        ([report("n1", "0:47 1:47"), report("n2", "2:46 3:46 4:47")], ["n2 2,3 46<47"]),
        ([report("n1", "0:9"), report("n2", "1:3"), report("n3", "2:5")], ["n2 1 3<9", "n3 2 5<9"]),
        # An older start of the job, and a node that only remembers it, say nothing of now.
        ([report("n1", "0:90"), report("n2", "1:46", attempt=1)], []),
        ([report("n1", "0:90", pids=[]), report("n2", "1:46")], []),
        # A node that does not tell its ranks apart speaks for all of them.
        ([report("n1", "", step=46, ranks=[0, 1]), report("n2", "2:47")], ["n1 0,1 46<47"]),
        ([report("n1", "", ranks=[0, 1]), report("n2", "2:47")], []),
        ([report("n1", "x:y 0 :: 1:"), report("n2", "2:47")], []),
    ],
)
def test_story(reports: list[SimpleNamespace], late: list[str]) -> None:
    found = [
        f"{one.node} {','.join(map(str, one.ranks))} {one.step}<{one.furthest}"
        for one in late_ranks(reports)
    ]
    assert found == late
