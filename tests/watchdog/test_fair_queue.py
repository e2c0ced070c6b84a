"""The queue of the committer: order for each node, turns between them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chipmedic_watchdog.intake.arrival import Arrival, StateChange
from chipmedic_watchdog.intake.fair_queue import NODE_GROUP_WEIGHT, FairQueue
from chipmedic_watchdog.intake.message import Batch, ReceivedEvent


def arrival(node: str, number: int, events: int = 1) -> Arrival:
    batch = Batch(tuple(ReceivedEvent(seq=n + 1, at=0.0, transition="gap") for n in range(events)))
    return Arrival(node=node, received_at=float(number), body=batch if events else StateChange("x"))


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 600)), max_size=40),
    st.integers(1, 2000),
    st.data(),
)
def test_nothing_is_lost_doubled_or_moved_within_its_node(sent, weight_max, data) -> None:
    queue = FairQueue()
    for number, (node, events) in enumerate(sent):
        queue.append(arrival(node, number, events))
    got: list[Arrival] = []
    while queue:
        group = queue.take(weight_max)
        assert group
        if data.draw(st.integers(0, 4)) == 0:
            queue.put_back(group)
        else:
            got += group
    for name in "abcd":
        assert queue.weight_of(name) == 0
        numbers = [one.received_at for one in got if one.node == name]
        assert numbers == [n for n, (node, _) in enumerate(sent) if node == name]


def test_a_node_that_says_little_does_not_wait_for_one_that_says_all_it_can() -> None:
    queue = FairQueue()
    for number in range(1000):
        queue.append(arrival("loud", number, 512))
    queue.append(arrival("quiet", 0))
    group = queue.take(4096)
    assert "quiet" in {one.node for one in group}
    assert sum(one.weight for one in group if one.node == "loud") <= NODE_GROUP_WEIGHT
    assert queue.weight_of("loud") == 1000 * 512 - NODE_GROUP_WEIGHT


def test_a_loud_node_alone_still_gets_its_groups() -> None:
    queue = FairQueue()
    for number in range(4):
        queue.append(arrival("loud", number, 512))
    assert sum(one.weight for one in queue.take(4096)) == NODE_GROUP_WEIGHT
    queue.append(arrival("quiet", 0))
    nodes = [one.node for one in (*queue.take(2), *queue.take(2))]
    assert "quiet" in nodes
