"""Stories of several nodes: silence, a part that they share, faults that explain each other."""

from __future__ import annotations

import pytest

from watchdog.incidents.world import CRITICAL, WARNING, World


class TestSilence:
    def racks(self, world: World, racks: int = 4, nodes: int = 10) -> None:
        for rack in range(racks):
            for node in range(nodes):
                world.labels[f"r{rack}n{node}"] = {"rack": f"r{rack}", "cluster": "c"}

    def test_one_node(self, world: World) -> None:
        self.racks(world)
        world.rise("r0n0", "host", "node.unreachable")
        world.look()
        assert world.told() == {"inc-1": ("node.unreachable", "single/1", "open")}

    def test_a_rack_is_one_incident_from_the_first_verdict(self, world: World) -> None:
        self.racks(world)
        world.silent = {f"r1n{n}" for n in range(10)}
        world.rise("r1n0", "host", "node.unreachable")
        world.look()
        assert world.incidents["inc-1"].title == "10 nodes of cluster c, rack r1 went silent"
        for n in range(1, 10):
            world.rise(f"r1n{n}", "host", "node.unreachable")
            world.pass_(0.1).look()
        assert world.told() == {"inc-1": ("node.unreachable", "silence.group/1", "open")}
        assert world.incidents["inc-1"].title == "10 nodes of cluster c, rack r1 went silent"

    def test_a_first_single_node_is_taken_into_the_group(self, world: World) -> None:
        self.racks(world)
        world.rise("r1n0", "host", "node.unreachable")
        world.look()
        for n in (1, 2, 3):
            world.rise(f"r1n{n}", "host", "node.unreachable")
        world.pass_(10).look()
        assert world.told() == {"inc-1": ("node.unreachable", "silence.group/1", "open")}

    def test_two_racks_at_once_are_two(self, world: World) -> None:
        self.racks(world, racks=20, nodes=16)
        for rack in (3, 4):
            for n in range(8):
                world.rise(f"r{rack}n{n}", "host", "node.unreachable")
        world.look()
        assert [cause for _, cause, _ in world.told().values()] == ["silence.group/1"] * 2

    def test_much_of_the_fleet_is_one(self, world: World) -> None:
        self.racks(world, racks=100, nodes=10)
        for rack in range(100):
            world.rise(f"r{rack}n0", "host", "node.unreachable")
            world.rise(f"r{rack}n1", "host", "node.unreachable")
        world.look()
        assert world.told() == {"inc-1": ("node.unreachable", "silence.fleet/1", "open")}
        assert world.incidents["inc-1"].title == "200 nodes went silent together"

    def test_a_job_that_misses_the_first_one_hides_it_from_nobody(self, world: World) -> None:
        self.racks(world)
        world.job("slurm:7", r1n0=set(), r2n0=set())
        world.rise("r1n0", "host", "node.unreachable")
        world.pass_(5).look()
        world.rise("r2n0", "job:slurm:7", "job.hung", job="slurm:7")
        world.look()
        assert world.told() == {"inc-1": ("node.unreachable", "job.root/1", "open")}
        for n in (1, 2, 3):
            world.rise(f"r1n{n}", "host", "node.unreachable")
        world.pass_(10).look()
        assert world.told() == {"inc-1": ("node.unreachable", "silence.group/1", "open")}
        assert world.incidents["inc-1"].title == "4 nodes of cluster c, rack r1 went silent"

    def test_a_storm_of_a_thousand_nodes_is_one_page(self, world: World) -> None:
        for n in range(10_000):
            world.labels[f"n{n}"] = {"rack": f"r{n // 16}", "switch": f"s{n // 1000}"}
        for n in range(1000):
            world.rise(f"n{n}", "host", "node.unreachable")
        world.look()
        assert world.told() == {"inc-1": ("node.unreachable", "silence.group/1", "open")}
        assert len(world.news) == 1

    @pytest.mark.timeout(100)
    def test_trouble_on_every_node_of_one_job_is_placed_in_seconds(self, world: World) -> None:
        """Each fault is compared with few others: ten thousand took over a minute otherwise."""
        for n in range(6_000):
            world.labels[f"n{n}"] = {"switch": f"s{n // 1000}"}
            world.job("slurm:7", **{f"n{n}": {"a"}})
            world.rise(f"n{n}", "nic:mlx5_0/1", "nic.down")
        world.look()
        assert [cause for _, cause, _ in world.told().values()] == ["shared.network/1"] * 6

    def test_nodes_far_apart_in_time_are_not_one(self, world: World) -> None:
        self.racks(world)
        for n in range(3):
            world.rise(f"r1n{n}", "host", "node.unreachable")
            world.look()
            world.pass_(120)
        assert {cause for _, cause, _ in world.told().values()} == {"single/1"}


class TestSharedParts:
    """Faults of several nodes that have one thing in common; each with a silent case."""

    def racks(self, world: World) -> None:
        for n in range(6):
            world.labels[f"n{n}"] = {"switch": f"s{n // 3}", "power_feed": f"p{n // 2}"}

    def test_ports_behind_one_switch(self, world: World) -> None:
        self.racks(world)
        for n in range(3):
            world.rise(f"n{n}", "nic:mlx5_0/1", "nic.down")
            world.pass_(8).look()
        assert world.told() == {"inc-1": ("nic.down", "shared.network/1", "open")}
        assert world.incidents["inc-1"].title == "nic.down on 3 nodes of switch s0"

    @pytest.mark.parametrize(
        ("node", "kind", "seconds"),
        [
            ("n3", "nic.down", 5),  # behind another switch, on another feed
            ("n1", "nic.down", 90),  # too late
            ("n1", "chip.lost", 5),  # nothing that a switch does
        ],
    )
    def test_what_is_not(self, world: World, node: str, kind: str, seconds: float) -> None:
        self.racks(world)
        world.rise("n0", "nic:mlx5_0/1", "nic.down")
        world.look()
        component = "nic:mlx5_0/1" if kind == "nic.down" else "chip:a"
        world.pass_(seconds).rise(node, component, kind)
        world.look()
        assert {cause for _, cause, _ in world.told().values()} == {"single/1"}

    def test_power_of_one_feed(self, world: World) -> None:
        self.racks(world)
        world.rise("n2", "host", "power.fault")
        world.rise("n3", "host", "power.fault")
        world.rise("n5", "host", "power.fault")
        world.look()
        assert world.told() == {
            "inc-1": ("power.fault", "shared.power/1", "open"),
            "inc-2": ("power.fault", "single/1", "open"),
        }

    def test_both_ends_of_a_link_on_one_node(self, world: World) -> None:
        world.rise("n1", "link:a/3", "link.down")
        world.rise("n1", "link:b/5", "link.errors")
        world.pass_(1).look()
        assert world.told() == {"inc-1": ("link.down", "link.ends/1", "open")}

    @pytest.mark.parametrize(
        ("one", "other", "is_one"),
        [
            ({"peer.mlx5_0/1": "leaf-7"}, {"peer.mlx5_0/1": "leaf-7"}, True),
            ({"peer.mlx5_0/1": "n2/mlx5_0/1"}, {}, True),
            ({"peer.mlx5_0/1": "leaf-7"}, {"peer.mlx5_0/1": "leaf-8"}, False),
            ({}, {}, False),
        ],
    )
    def test_ports_that_are_plugged_together(
        self, world: World, one: dict[str, str], other: dict[str, str], is_one: bool
    ) -> None:
        world.labels = {"n1": one, "n2": other}
        world.rise("n1", "nic:mlx5_0/1", "nic.down")
        world.look()
        world.pass_(5).rise("n2", "nic:mlx5_0/1", "nic.flap")
        world.pass_(1).look()
        causes = {cause for _, cause, _ in world.told().values()}
        assert causes == ({"link.peer/1"} if is_one else {"single/1"})

    def test_one_port_that_flaps_and_is_down_is_one(self, world: World) -> None:
        world.rise("n1", "nic:mlx5_0/1", "nic.flap")
        world.pass_(1).look()
        world.pass_(900).rise("n1", "nic:mlx5_0/1", "nic.down")
        world.look()
        assert world.told() == {"inc-1": ("nic.down", "nic.port/1", "open")}
        world.pass_(120).rise("n1", "nic:mlx5_1/1", "nic.down")
        world.look()
        assert len(world.incidents) == 2, "another port, later"

    def test_a_host_condition_of_one_job(self, world: World) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        for node in ("n1", "n2", "n3"):
            world.rise(node, "host", "host.oom")
        world.look()
        assert [cause for _, cause, _ in world.told().values()] == [
            "job.same_condition/1", "single/1",
        ]  # fmt: skip


class TestPairs:
    def test_two_notes_of_one_job(self, world: World) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        world.rise("n1", "link:a/0", "link.down", "ascend:81078603", severity=1)
        assert world.look() == [], "a note by itself opens nothing"
        world.rise("n2", "chip:b", "link.errors", "ascend:8C1F860B", severity=1)
        world.pass_(200).look()
        assert world.told() == {"inc-1": ("link.down", "pair.port_retry_failed/1", "open")}
        assert world.incidents["inc-1"].severity == CRITICAL
        assert "the retry of the collective failed" in world.incidents["inc-1"].title

    @pytest.mark.parametrize(
        ("node", "code", "seconds"),
        [
            ("n3", "ascend:8C1F860B", 5),  # another job
            ("n2", "ascend:8C1F860A", 5),  # another code
            ("n2", "ascend:8C1F860B", 400),  # too late
        ],
    )
    def test_two_notes_that_are_none(
        self, world: World, node: str, code: str, seconds: float
    ) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        world.rise("n1", "link:a/0", "link.down", "ascend:81078603", severity=1)
        world.pass_(seconds).rise(node, "chip:b", "link.errors", code, severity=1)
        world.look()
        assert world.incidents == {}

    def test_a_note_joins_the_incident_that_it_explains(self, world: World) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        world.rise("n1", "link:a/0", "link.down", "ascend:81078603", severity=WARNING)
        world.pass_(1).look()
        world.rise("n2", "chip:b", "link.errors", "ascend:8C1F8609", severity=1)
        world.pass_(1).look()
        assert world.told() == {"inc-1": ("link.down", "pair.port_retry_ok/1", "open")}

    def test_memory_errors_of_a_hot_chip(self, world: World) -> None:
        world.rise("n1", "chip:a", "memory.correctable")
        world.rise("n1", "chip:a", "thermal.throttle")
        world.rise("n2", "chip:b", "memory.correctable")
        world.rise("n2", "chip:c", "thermal.throttle")
        world.pass_(1).look()
        causes = [cause for _, cause, _ in world.told().values()]
        assert sorted(causes) == ["pair.memory_in_heat/1", "single/1", "single/1"]

    def test_a_bus_that_a_port_suffers_with(self, world: World) -> None:
        world.rise("n1", "chip:a", "pcie.errors")
        world.rise("n1", "nic:mlx5_0/1", "nic.errors")
        world.rise("n2", "nic:mlx5_0/1", "nic.errors")
        world.pass_(1).look()
        causes = [cause for _, cause, _ in world.told().values()]
        assert sorted(causes) == ["pair.shared_bus/1", "single/1"]

    def test_a_throttled_chip_and_the_straggler(self, world: World) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        world.rise("n2", "chip:b", "thermal.throttle")
        world.pass_(1).look()
        world.pass_(300).rise("n1", "job:slurm:7", "job.straggler", job="slurm:7")
        world.pass_(1).look()
        assert world.told() == {"inc-1": ("thermal.throttle", "pair.throttled_straggler/1", "open")}
