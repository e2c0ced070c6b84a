"""How incidents go on and end, nodes that flood, and what holds in any story."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.faults.kinds import KINDS
from chipmedic_watchdog.incidents.rules import builtin
from watchdog.incidents.world import CRITICAL, WARNING, World


class TestLife:
    def test_it_ends_when_every_fault_has_cleared(self, world: World) -> None:
        first = world.rise("n1", "chip:a", "memory.uncorrectable")
        second = world.rise("n1", "link:a/1", "link.down")
        world.look()
        world.clear(first)
        assert world.look() == []
        world.clear(second)
        (change,) = world.look()
        assert (change.state, change.is_news) == ("resolved", True)
        assert world.look() == []

    def test_a_fault_that_cannot_be_seen_does_not_end_it(self, world: World) -> None:
        first = world.rise("n1", "chip:a", "memory.uncorrectable")
        world.look()
        world.faults[first] = replace(world.faults[first], state="unknown")
        assert world.look() == []

    @pytest.mark.parametrize(
        ("recovery", "state"),
        [
            ("planned", "recovering"), ("running", "recovering"), ("verifying", "verifying"),
            ("done", "resolved"), ("failed", "resolved"), ("held", "resolved"),
            ("proposed", "resolved"), ("not_taken", "resolved"),
        ],
    )  # fmt: skip
    def test_a_recovery_under_way_keeps_it(self, world: World, recovery: str, state: str) -> None:
        first = world.rise("n1", "chip:a", "memory.uncorrectable")
        world.look()
        incident = world.incidents["inc-1"]
        world.incidents["inc-1"] = replace(incident, recovery_states=frozenset({recovery}))
        world.clear(first)
        world.look()
        assert world.incidents["inc-1"].state == state

    def test_an_acknowledged_one_is_acknowledged_again_after_its_recovery(
        self, world: World
    ) -> None:
        world.rise("n1", "chip:a", "memory.uncorrectable")
        world.look()
        world.incidents["inc-1"] = replace(
            world.incidents["inc-1"], is_acknowledged=True, state="recovering"
        )
        (change,) = world.look()
        assert (change.state, change.is_news) == ("acknowledged", False)

    @pytest.mark.parametrize(("seconds", "count"), [(500, 1), (700, 2)])
    def test_what_comes_back_soon_reopens_it(self, world: World, seconds: int, count: int) -> None:
        world.clear(world.rise("n1", "nic:mlx5_0/1", "nic.down"))
        first = world.rise("n1", "nic:mlx5_1/1", "nic.down")
        world.look()
        world.clear(first)
        world.look()
        world.pass_(seconds)
        world.rise("n1", "nic:mlx5_1/1", "nic.down")
        (change,) = world.look()
        assert len(world.incidents) == count
        assert change.is_reopened == (count == 1)
        assert world.told()[f"inc-{count}"][2] == "open"

    def test_the_title_says_from_the_third_return_on_how_many_there_were(
        self, world: World
    ) -> None:
        titles = []
        for _ in range(5):
            number = world.rise("n1", "nic:mlx5_1/1", "nic.down")
            world.look()
            titles.append(world.incidents["inc-1"].title)
            world.clear(number)
            world.pass_(30).look()
            world.pass_(30)
        assert titles == [
            "n1: nic.down", "n1: nic.down", "n1: nic.down",
            "n1: nic.down; returned for the 3rd time", "n1: nic.down; returned for the 4th time",
        ]  # fmt: skip

    def test_a_new_fault_beside_one_that_is_over_is_news(self, world: World) -> None:
        """What is over is not what people must look at; nor do they hear of it twice."""
        first = world.rise("n1", "chip:a", "memory.uncorrectable")
        world.rise("n1", "chip:a", "memory.remap_pending")
        world.pass_(1).look()
        world.clear(first)
        assert world.look() == [], "the end of a part is no page"
        world.pass_(60).rise("n1", "chip:a", "chip.firmware")
        (change,) = world.look()
        assert (change.kind, change.is_news, change.severity) == ("chip.firmware", True, CRITICAL)
        assert world.look() == []

    def test_growth_of_a_fault_is_news(self, world: World) -> None:
        number = world.rise("n1", "chip:a", "memory.correctable")
        world.pass_(1).look()
        assert world.look() == []
        world.grow(number, CRITICAL)
        (change,) = world.look()
        assert (change.severity, change.is_news) == (CRITICAL, True)


KIND = st.sampled_from(sorted(KINDS))
STEP = st.tuples(
    st.sampled_from(["n1", "n2", "n3", "n4"]),
    st.sampled_from(["host", "chip:a", "chip:b", "link:a/1", "nic:x/1", "job:slurm:7"]),
    KIND,
    st.sampled_from(["", "xid:31", "xid:79"]),
    st.sampled_from([0.0, 0.1, 5.0, 100.0, 1000.0]),
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(STEP, max_size=12))
def test_any_story_keeps_the_promises(steps: list[tuple[str, str, str, str, float, bool]]) -> None:
    world = World()
    world.labels = {f"n{n}": {"rack": "r1"} for n in range(1, 9)}
    world.job("slurm:7", n1={"a"}, n2={"a"})
    for node, component, kind, code, seconds, is_cleared in steps:
        job = "slurm:7" if component.startswith("job") else None
        number = world.rise(node, component, kind, *([code] if code else []), job=job)
        world.look()
        world.pass_(seconds)
        if is_cleared:
            world.clear(number)
        world.look()
    world.pass_(10).look()
    assert world.look() == [], "a second look changes nothing"
    for number, fault in world.faults.items():
        if fault.state == "open":
            assert number in world.where or fault.severity < WARNING
    for name, incident in world.incidents.items():
        members = [world.faults[n] for n, where in world.where.items() if where == name]
        is_over = all(member.is_cleared for member in members)
        assert (incident.state == "resolved") == is_over
        assert incident.severity >= max(member.severity for member in members)
        assert builtin().of(incident.cause) is not None


def flood(world: World, numbers: range, node: str = "n1") -> None:
    for number in numbers:
        world.rise(node, f"chip:{node}-{number}", f"strange.kind_{number}", severity=CRITICAL)


def test_a_node_that_floods_is_one_incident_more(world: World) -> None:
    flood(world, range(15))
    world.look()
    flood(world, range(15, 215))
    world.pass_(5).look()
    world.rise("n2", "chip:b", "strange.other", severity=CRITICAL)
    world.pass_(5).look()
    causes = [incident.cause for incident in world.incidents.values()]
    assert (causes.count("single/1"), causes.count("node.flood/1")) == (21, 1)
    [big] = [i for i in world.incidents.values() if i.cause == "node.flood/1"]
    assert (big.nodes, len(world._members(big.id))) == (("n1",), 195)
    assert big.title.startswith("n1 reports so many faults that they are one incident")


def test_many_nodes_with_a_fault_each_are_no_flood(world: World) -> None:
    for number in range(40):
        world.rise(f"n{number}", "chip:a", f"strange.kind_{number}", severity=CRITICAL)
    world.look()
    assert {incident.cause for incident in world.incidents.values()} == {"single/1"}


def test_a_node_with_many_old_incidents_does_not_flood(world: World) -> None:
    flood(world, range(20))
    world.look()
    world.pass_(3601)
    world.rise("n1", "chip:late", "strange.late", severity=CRITICAL)
    world.look()
    assert list(world.incidents.values())[-1].cause == "single/1"
