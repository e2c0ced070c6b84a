"""What a link of Blackwell had to send again: by share of what it sent, from look to look."""

from __future__ import annotations

from pathlib import Path

import pytest

from chipmedic.metric import Metric
from chipmedic.model import Component, ComponentKind, Gap, GapReason, Reading
from chipmedic_collectors.nvidia.codes import UNKNOWN
from chipmedic_collectors.nvidia.retries import BLOCKS_MIN, Blocks, read_retries
from nvml_rig import simulated

LINK = Component(ComponentKind.LINK, "GPU-1/4")
BUSY = 10 * BLOCKS_MIN


def shares(row: list[object], earlier: Blocks | None) -> tuple[list[float], Blocks | None]:
    told, starts = read_retries("GPU-1", (0, [row]), {} if earlier is None else {LINK: earlier})
    return [one.value for one in told if isinstance(one, Reading)], starts.get(LINK)


@pytest.mark.parametrize(
    ("earlier", "sent", "again", "share", "start"),
    [
        (None, BUSY, 7, [], Blocks(BUSY, 7)),
        (Blocks(0, 0), BUSY, BUSY // 100, [0.01], Blocks(BUSY, BUSY // 100)),
        (Blocks(BUSY, 9), 2 * BUSY, 9, [0.0], Blocks(2 * BUSY, 9)),
        (Blocks(0, 0), BLOCKS_MIN - 1, 900, [], Blocks(0, 0)),
        (Blocks(BUSY, 9), 50, 0, [], Blocks(50, 0)),
        (Blocks(0, 0), BUSY, 2 * BUSY, [1.0], Blocks(BUSY, 2 * BUSY)),
    ],
    ids=["first look", "busy", "none again", "idle", "cleared by a reset", "never above one"],
)
def test_share_since_the_last_look(
    earlier: Blocks | None, sent: int, again: int, share: list[float], start: Blocks
) -> None:
    assert shares([4, 0, sent, again], earlier) == (share, start)


def test_counters_that_a_driver_lacks_are_no_gap_and_others_are() -> None:
    rows = [[4, 3, None, None], [5, UNKNOWN, None, None], [6, 0, -1, 0], "?", [7, 0]]
    told, starts = read_retries("GPU-1", (0, rows), {})
    assert [(str(one.component), one.reason) for one in told if isinstance(one, Gap)] == [
        ("link:GPU-1/5", GapReason.FAILED),
        ("link:GPU-1/6", GapReason.MALFORMED),
    ]
    assert starts == {}
    assert read_retries("GPU-1", (UNKNOWN, None), {}) == ([], {})


def test_a_blackwell_link_says_how_much_it_sends_again(tmp_path: Path) -> None:
    with simulated(tmp_path, profile="b200", gpus=1) as rig:
        uid = rig.scan().chips[0].uid
        rig.nvml.set_link(0, 3, blocks=BUSY, blocks_again=BUSY // 200)
        link = Component(ComponentKind.LINK, f"{uid}/3")
        assert rig.scan().values(Metric.LINK_RETRIES) == {link: 0.005}
        assert rig.scan().values(Metric.LINK_RETRIES) == {}
        rig.nvml.set_link(0, 3, blocks=2 * BUSY)
        assert rig.scan().values(Metric.LINK_RETRIES) == {link: 0.0}


def test_a_hopper_link_has_no_such_counters_and_is_not_asked(tmp_path: Path) -> None:
    with simulated(tmp_path, profile="h100", gpus=1) as rig:
        scan = rig.scan()
        assert not scan.values(Metric.LINK_RETRIES)
        assert not [gap for gap in scan.gaps if gap.metric is Metric.LINK_RETRIES]
