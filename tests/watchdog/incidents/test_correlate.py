"""Stories of one chip, one job or one program: which incidents a person gets of them."""

from __future__ import annotations

import pytest

from chipmedic.faults.kinds import KINDS
from chipmedic_watchdog.incidents.picture import (
    Placement,
)
from chipmedic_watchdog.incidents.rules import builtin
from watchdog.incidents.world import World


class TestOneChip:
    def test_a_critical_fault_opens_at_once(self, world: World) -> None:
        world.rise("n1", "chip:a", "memory.uncorrectable", "xid:48")
        (change,) = world.look()
        assert (change.incident, change.is_news, change.state) == (None, True, "open")
        assert change.title == "n1: memory.uncorrectable"

    def test_a_warning_settles_first(self, world: World) -> None:
        world.rise("n1", "chip:a", "pcie.errors")
        assert world.look() == []
        world.pass_(0.3).look()
        assert world.told() == {"inc-1": ("pcie.errors", "single/1", "open")}

    def test_info_opens_nothing(self, world: World) -> None:
        world.rise("n1", "chip:a", "chip.reset")
        world.pass_(60).look()
        assert world.incidents == {}

    def test_a_link_belongs_to_its_chip(self, world: World) -> None:
        world.rise("n1", "link:a/3", "link.down", "xid:74")
        world.look()
        world.rise("n1", "chip:a", "memory.uncorrectable")
        world.pass_(5).look()
        assert world.told() == {"inc-1": ("memory.uncorrectable", "chip.same/1", "open")}
        assert world.news[0].incident == "inc-1", "the root changed: people are told"

    def test_two_chips_with_different_faults_are_two(self, world: World) -> None:
        world.rise("n1", "chip:a", "memory.uncorrectable")
        world.rise("n1", "chip:b", "chip.lost")
        world.look()
        assert len(world.incidents) == 2

    def test_many_links_of_one_node_are_one(self, world: World) -> None:
        for chip in "abcdefgh":
            world.rise("n1", f"link:{chip}/0", "link.down")
        world.look()
        assert world.told() == {"inc-1": ("link.down", "node.same_kind/1", "open")}

    @pytest.mark.parametrize("later", ["driver.fault", "collector.blocked", "node.unreachable"])
    def test_what_follows_on_the_node_is_no_second_page(self, world: World, later: str) -> None:
        world.rise("n1", "chip:a", "chip.lost", "xid:79")
        world.look()
        component = "collector:nvidia" if later.startswith("collector") else "host"
        world.rise("n1", component, later)
        world.pass_(20).look()
        assert world.told() == {"inc-1": ("chip.lost", "node.consequence/1", "open")}

    def test_the_collector_came_first_and_the_chip_is_the_root(self, world: World) -> None:
        world.rise("n1", "collector:nvidia", "collector.blocked")
        world.pass_(1).look()
        world.rise("n1", "chip:a", "chip.hung")
        world.pass_(10).look()
        assert world.told() == {"inc-1": ("chip.hung", "node.consequence/1", "open")}


class TestJobs:
    def test_a_hang_told_by_many_nodes_is_one(self, world: World) -> None:
        for node in ("n1", "n2", "n3"):
            world.rise(node, "job:slurm:7", "job.hung", job="slurm:7")
        world.look()
        assert world.told() == {"inc-1": ("job.hung", "job.same/2", "open")}
        assert world.incidents["inc-1"].nodes == ("n1", "n2", "n3")
        assert world.incidents["inc-1"].jobs == ("slurm:7",)

    @pytest.mark.parametrize(("later_seconds", "incident"), [(20, "inc-1"), (60, "inc-2")])
    def test_a_job_that_stands_again_has_another_reason(
        self, world: World, later_seconds: float, incident: str
    ) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"}, n3=set())
        world.rise("n1", "nic:mlx5_0/1", "nic.down")  # and stays down
        first = world.rise("n2", "job:slurm:7", "job.hung", job="slurm:7")
        world.pass_(10).look()
        world.clear(first)
        world.pass_(later_seconds).look()
        world.rise("n3", "host", "node.unreachable")
        world.pass_(10).look()
        world.rise("n2", "job:slurm:7", "job.hung", job="slurm:7")
        world.look()
        assert world.where[4] == incident

    @pytest.mark.parametrize("hang_first", [True, False])
    def test_a_failed_chip_of_the_job_is_the_root(self, world: World, hang_first: bool) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        hang = ("n1", "job:slurm:7", "job.hung")
        chip = ("n2", "chip:b", "link.down")
        for node, component, kind in (hang, chip) if hang_first else (chip, hang):
            world.rise(node, component, kind, job="slurm:7" if kind == "job.hung" else None)
            world.look()
            world.pass_(90)
        assert world.told() == {"inc-1": ("link.down", "job.root/1", "open")}

    def test_a_chip_that_the_job_does_not_use_is_not(self, world: World) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        world.rise("n1", "job:slurm:7", "job.hung", job="slurm:7")
        world.rise("n2", "chip:c", "memory.uncorrectable")
        world.look()
        assert len(world.incidents) == 2

    def test_an_old_warning_is_not(self, world: World) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        world.rise("n2", "chip:b", "memory.correctable")
        world.rise("n2", "nic:mlx5_0/1", "nic.errors")
        world.pass_(1).look()
        world.pass_(300)
        world.rise("n1", "job:slurm:7", "job.hung", job="slurm:7")
        world.look()
        assert world.told()["inc-3"] == ("job.hung", "single/1", "open")

    def test_a_chip_that_the_job_was_moved_off_explains_no_later_hang(self, world: World) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        world.rise("n1", "chip:a", "memory.uncorrectable")
        world.look()
        world.placements = [
            Placement(job="slurm:7", node="n1", chips=frozenset({"a"}), is_left=True),
            Placement(job="slurm:7", node="n2", chips=frozenset({"b"})),
            Placement(job="slurm:7", node="n3", chips=frozenset({"c"})),
        ]
        world.pass_(30).rise("n3", "job:slurm:7", "job.hung", job="slurm:7")
        world.look()
        assert world.told()["inc-2"] == ("job.hung", "single/1", "open")

    def test_a_fault_after_the_job_moves_again_is_a_page_of_its_own(self, world: World) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        hang = world.rise("n1", "job:slurm:7", "job.hung", job="slurm:7")
        world.rise("n1", "chip:a", "chip.internal")
        world.look()
        world.pass_(50).clear(hang)
        world.look()
        world.pass_(60).rise("n2", "chip:b", "thermal.critical")
        world.look()
        assert world.told()["inc-2"] == ("thermal.critical", "single/1", "open")

    def test_a_fault_that_was_over_before_explains_no_hang(self, world: World) -> None:
        world.job("slurm:7", n1={"a", "b"}, n2={"c"})
        over = world.rise("n1", "chip:a", "chip.internal")
        world.rise("n1", "chip:a", "memory.remap_pending")
        world.pass_(1).look()
        world.pass_(20).clear(over)
        world.look()
        world.pass_(100).rise("n2", "job:slurm:7", "job.hung", job="slurm:7")
        world.look()
        assert world.told()["inc-2"] == ("job.hung", "single/1", "open")

    def test_a_hang_belongs_to_what_failed_last_before_it(self, world: World) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        world.rise("n1", "chip:a", "chip.internal")
        world.look()
        world.pass_(300).rise("n2", "chip:b", "chip.lost")
        world.look()
        for node in ("n1", "n2"):
            world.pass_(0.3).rise(node, "job:slurm:7", "job.hung", job="slurm:7")
            world.look()
        assert world.told() == {
            "inc-1": ("chip.internal", "single/1", "open"),
            "inc-2": ("chip.lost", "job.root/1", "open"),
        }

    def test_a_node_that_went_silent_explains_the_hang(self, world: World) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        world.rise("n2", "host", "node.unreachable")
        world.look()
        world.rise("n1", "job:slurm:7", "job.hung", job="slurm:7")
        world.pass_(200).look()
        assert world.told() == {"inc-1": ("node.unreachable", "job.root/1", "open")}


class TestSoftware:
    def test_one_code_on_chips_of_one_job(self, world: World) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b", "c"})
        world.rise("n1", "chip:a", "app.fault", "xid:31")
        world.pass_(0.3).look()
        world.rise("n2", "chip:b", "app.fault", "xid:31")
        world.pass_(20).look()
        assert world.told() == {"inc-1": ("app.fault", "software.same_code/1", "open")}
        assert "xid:31 on 2 chips" in world.incidents["inc-1"].title
        assert world.news, "the cause changed: people are told"

    @pytest.mark.parametrize(
        ("node", "kind", "code", "seconds"),
        [
            ("n2", "app.fault", "xid:31", 40),  # too late
            ("n2", "app.fault", "xid:13", 5),  # another code
            ("n3", "app.fault", "xid:31", 5),  # another job
            ("n2", "memory.uncorrectable", "xid:31", 5),  # no program does that
        ],
    )
    def test_what_is_not(
        self, world: World, node: str, kind: str, code: str, seconds: float
    ) -> None:
        world.job("slurm:7", n1={"a"}, n2={"b"})
        world.job("slurm:8", n3={"b"})
        world.rise("n1", "chip:a", "app.fault", "xid:31")
        world.pass_(0.3).look()
        world.pass_(seconds)
        world.rise(node, "chip:b", kind, code)
        world.pass_(0.3).look()
        assert {cause for _, cause, _ in world.told().values()} == {"single/1"}


def test_every_kind_has_a_place() -> None:
    for kind in KINDS:
        assert any(kind.startswith(starts) for starts in builtin().nearness), kind
