"""How many nodes may be out of service at once, over the fleet and over each of its parts.

A budget counts every node that is out, whoever took it out and why: drained by a person, silent,
down, isolated by us. It binds taking nodes out, never giving them back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from chipmedic_watchdog.recover.settings import BudgetSettings, Scope

NAMES_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The nodes, which of them are out of service, and the parts that one of them is in."""

    known: frozenset[str]
    out: frozenset[str]
    groups: Mapping[Scope, Mapping[str, frozenset[str]]] = field(default_factory=dict)
    """Scope -> name -> its nodes: of the partitions, the rack and the jobs of one node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How far one budget is used up."""

    where: str
    out: tuple[str, ...]
    known: int
    allowed: int

    @property
    def is_spent(self) -> bool:
        """True where one node more would be too many."""
        return len(self.out) >= self.allowed

    def __str__(self) -> str:
        shown = ", ".join(self.out[:NAMES_SHOWN]) + (" ..." if len(self.out) > NAMES_SHOWN else "")
        return (
            f"budget: {len(self.out)} of {self.known} nodes{self.where} are out of service already"
            f" ({shown}) and the limit is {self.allowed}"
        )


def limit(budget: BudgetSettings, known: int) -> int:
    """Return how many nodes may be out: the smaller of the two bounds, and never less than one."""
    bounds = [] if budget.nodes is None else [budget.nodes]
    if budget.percent is not None:
        bounds.append(int(budget.percent * known / 100))
    return max(1, min(bounds))


def uses(node: str, capacity: Capacity, budgets: Iterable[BudgetSettings]) -> Iterator[Use]:
    """Yield each budget that the node falls under, with the nodes that are out beside it."""
    for budget in budgets:
        for name, members in _members(budget, capacity):
            out = sorted((capacity.out & members) - {node})
            where = f" of {budget.per.value} {name}" if name else ""
            allowed = limit(budget, len(members))
            yield Use(where=where, out=tuple(out), known=len(members), allowed=allowed)


def refusal(node: str, capacity: Capacity, budgets: Collection[BudgetSettings]) -> str | None:
    """Return which budget forbids taking a node out, with the nodes that have used it up."""
    spent = next((use for use in uses(node, capacity, budgets) if use.is_spent), None)
    return None if spent is None else str(spent)


def _members(budget: BudgetSettings, capacity: Capacity) -> Iterator[tuple[str, frozenset[str]]]:
    if budget.per is Scope.FLEET:
        yield "", capacity.known
        return
    for name, members in sorted(capacity.groups.get(budget.per, {}).items()):
        if any(fnmatchcase(name, pattern) for pattern in budget.names):
            yield name, members
