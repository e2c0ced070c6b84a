"""What waits for a commit: in order for each node, and the nodes take turns.

One node that sends all it can gets its share and no more; what another one says waits for a turn of
each node at most, not for everything that was sent before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from chipmedic_watchdog.intake.arrival import Arrival

NODE_GROUP_WEIGHT = 1024
"""Of one node in one group: a commit of one node's backlog must not hold up the next group long."""


class FairQueue:
    """Lines of arrivals by node."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Arrival]] = {}
        self._weights: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def weight_of(self, node: str) -> int:
        """Return how much of a node waits."""
        return self._weights.get(node, 0)

    def append(self, arrival: Arrival) -> None:
        """Put an arrival at the end of its node's line."""
        self._lines.setdefault(arrival.node, deque()).append(arrival)
        self._weights[arrival.node] = self.weight_of(arrival.node) + arrival.weight

    def put_back(self, group: Iterable[Arrival]) -> None:
        """Put what was taken before the rest of its lines again."""
        for arrival in reversed(list(group)):
            self._lines.setdefault(arrival.node, deque()).appendleft(arrival)
            self._weights[arrival.node] = self.weight_of(arrival.node) + arrival.weight

    def take(self, weight_max: int) -> list[Arrival]:
        """Return the next group: from each node in turn, until it is heavy enough."""
        group: list[Arrival] = []
        total = 0
        taken: dict[str, int] = {}
        turn = deque(self._lines)
        while turn and total < weight_max:
            node = turn.popleft()
            arrival = self._pop(node)
            group.append(arrival)
            total += arrival.weight
            taken[node] = taken.get(node, 0) + arrival.weight
            if node in self._lines and taken[node] < NODE_GROUP_WEIGHT:
                turn.append(node)
        for node in taken:  # the others come first the next time
            if node in self._lines:
                self._lines[node] = self._lines.pop(node)
        return group

    def _pop(self, node: str) -> Arrival:
        line = self._lines[node]
        arrival = line.popleft()
        self._weights[node] -= arrival.weight
        if not line:
            del self._lines[node], self._weights[node]
        return arrival
