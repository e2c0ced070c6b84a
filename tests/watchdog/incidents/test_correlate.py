"""Stories of correlation: what happened, and which incidents a person gets of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipmedic.faults.kinds import KINDS
from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.incidents.correlate import correlate
from chipmedic_watchdog.incidents.picture import (
    FaultFact,
    IncidentChange,
    IncidentFact,
    Picture,
    Placement,
)
from chipmedic_watchdog.incidents.rules import RuleSet, builtin

WARNING, CRITICAL = 2, 3


@dataclass
class World:
    """Faults and incidents between runs, as the store keeps them."""

    at: float = 1_000.0
    faults: dict[int, FaultFact] = field(default_factory=dict)
    where: dict[int, str] = field(default_factory=dict)
    incidents: dict[str, IncidentFact] = field(default_factory=dict)
    placements: list[Placement] = field(default_factory=list)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    settings: IncidentSettings = field(default_factory=IncidentSettings)
    news: list[IncidentChange] = field(default_factory=list)
    rules: RuleSet = field(default_factory=builtin)

    def job(self, job: str, **chips_by_node: set[str]) -> None:
        for node, chips in chips_by_node.items():
            self.placements.append(Placement(job=job, node=node, chips=frozenset(chips)))

    def rise(
        self, node: str, component: str, kind: str, *codes: str, job: str | None = None,
        severity: int | None = None,
    ) -> int:  # fmt: skip
        number = len(self.faults) + 1
        self.faults[number] = FaultFact(
            id=number,
            node=node,
            component=component,
            kind=kind,
            severity=int(KINDS[kind].severity) if severity is None else severity,
            state="open",
            opened_at=self.at,
            began_at=self.at,
            summary=kind,
            codes=codes,
            job=job,
        )
        return number

    def clear(self, *numbers: int) -> None:
        for number in numbers:
            self.faults[number] = replace(self.faults[number], state="cleared", cleared_at=self.at)

    def grow(self, number: int, severity: int) -> None:
        self.faults[number] = replace(self.faults[number], severity=severity)

    def pass_(self, seconds: float) -> World:
        self.at += seconds
        return self

    def _members(self, incident: str) -> tuple[FaultFact, ...]:
        return tuple(self.faults[n] for n, where in self.where.items() if where == incident)

    def look(self) -> list[IncidentChange]:
        oldest = self.at - self.settings.reopen_seconds
        picture = Picture(
            now=self.at,
            faults=tuple(
                f for n, f in self.faults.items()
                if n not in self.where and f.state == "open" and f.severity >= WARNING
            ),
            notes=tuple(
                f for n, f in self.faults.items()
                if n not in self.where and f.state == "open" and f.severity < WARNING
            ),
            incidents=tuple(
                replace(i, members=self._members(i.id))
                for i in self.incidents.values()
                if not i.is_resolved or (i.resolved_at or 0) >= oldest
            ),
            placements=tuple(self.placements),
            labels=self.labels,
            node_count=len(self.labels),
            silent=frozenset(self.silent),
        )  # fmt: skip
        changes = correlate(picture, self.settings, self.rules)
        for change in changes:
            self._keep(change)
        self.news = [change for change in changes if change.is_news]
        return changes

    def _keep(self, change: IncidentChange) -> None:
        name = change.incident or f"inc-{len(self.incidents) + 1}"
        old = self.incidents.get(name)
        self.incidents[name] = IncidentFact(
            id=name,
            state=change.state,
            cause=change.cause,
            severity=change.severity,
            root_fault=change.root_fault,
            title=change.title,
            opened_at=old.opened_at if old else self.at,
            nodes=change.nodes,
            jobs=change.jobs,
            resolved_at=self.at if change.resolve_reason is not None else None,
            recovery_states=old.recovery_states if old else frozenset(),
            reopened_count=(old.reopened_count if old else 0) + change.is_reopened,
        )
        for number in change.attach:
            assert number not in self.where
            self.where[number] = name

    def told(self) -> dict[str, tuple[str, str, str]]:
        """Return (kind, cause, state) of each incident."""
        return {
            i.id: (i.kind_of(self), i.cause, i.state) for i in map(Told, self.incidents.values())
        }


class Told:
    def __init__(self, fact: IncidentFact) -> None:
        self.id, self.cause, self.state, self._root = (
            fact.id, fact.cause, fact.state, fact.root_fault,
        )  # fmt: skip

    def kind_of(self, world: World) -> str:
        assert self._root is not None
        return world.faults[self._root].kind


@pytest.fixture
def world() -> World:
    return World()


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
        assert world.told() == {"inc-1": ("job.hung", "job.same/1", "open")}
        assert world.incidents["inc-1"].nodes == ("n1", "n2", "n3")
        assert world.incidents["inc-1"].jobs == ("slurm:7",)

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


def test_every_kind_has_a_place() -> None:
    for kind in KINDS:
        assert any(kind.startswith(starts) for starts in builtin().nearness), kind


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
