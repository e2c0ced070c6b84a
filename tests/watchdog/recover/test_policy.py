"""The specification of the policy: what takes a node out, what restarts a job, what neither."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.faults.kinds import KINDS
from chipmedic.model import Action, Severity
from chipmedic.recoverer import NodeView
from chipmedic_watchdog.recover.case import Case, FaultView, IncidentView, Placement
from chipmedic_watchdog.recover.policy import Decision, Why, decide
from chipmedic_watchdog.recover.settings import Mode, RecoverSettings, RuleSettings

ACT = RecoverSettings(mode=Mode.ACT)
BOTH = ("slurm", "exec")


def fault(
    kind: str, node: str = "n1", component: str = "chip:GPU-11", **values: object
) -> FaultView:
    row = KINDS[kind]
    whole = FaultView(
        id=1,
        node=node,
        component=component,
        kind=kind,
        severity=row.severity,
        action=row.action,
        opened_at=100.0,
    )
    return replace(whole, **values)  # type: ignore[arg-type]


def case(*faults: FaultView, jobs: tuple[str, ...] = ("slurm:7",), **values: object) -> Case:
    numbered = tuple(replace(f, id=number) for number, f in enumerate(faults, 1))
    kind = faults[0].kind if faults else "chip.lost"
    whole = Case(
        incident=IncidentView(
            id="inc-000001",
            kind=kind,
            severity=Severity.CRITICAL,
            state="open",
            nodes=("n1",),
            jobs=jobs,
        ),
        faults=numbered,
        placements=tuple(
            Placement(job=job, node=node, received_at=100.0, is_present=True)
            for job in jobs
            for node in ("n1", "n2")
        ),
        placed_jobs=frozenset(jobs),
    )
    return replace(whole, **values)  # type: ignore[arg-type]


def outcome(decision: Decision) -> tuple[tuple[str, ...], tuple[str, ...], Why]:
    return decision.nodes, decision.jobs, decision.why


def test_a_shared_part_takes_no_node_out() -> None:
    """Two nodes may each be ill; three behind one switch are not."""
    ports = [fault("nic.down", f"n{n}", "nic:mlx5_0/1") for n in (1, 2, 3)]
    for count, cause, expected in (
        (2, "shared.network/1", ("n1", "n2")),
        (3, "shared.network/1", ()),
        (3, "link.peer/1", ()),
        (3, "single/1", ("n1", "n2", "n3")),
    ):
        found = case(*ports[:count])
        found = replace(found, incident=replace(found.incident, cause=cause))
        decision = decide(found, ACT, BOTH)
        assert decision.nodes == expected
        assert (decision.why is Why.SHARED_PART) == (not expected)


def test_another_fault_beside_a_shared_part_still_takes_its_node_out() -> None:
    ports = [fault("nic.down", f"n{n}", "nic:mlx5_0/1") for n in (1, 2, 3)]
    found = case(*ports, fault("chip.lost", "n2"))
    found = replace(found, incident=replace(found.incident, cause="shared.network/1"))
    assert decide(found, ACT, BOTH).nodes == ("n2",)


HUNG = fault("job.hung", component="job:slurm:7", job="slurm:7")
DOWN = {"n1": NodeView(node="n1", is_available=False, is_down=True, why="down*")}
UP = {"n1": NodeView(node="n1", is_available=True, is_down=False, why="allocated")}


@pytest.mark.parametrize(
    ("faults", "nodes", "jobs", "why"),
    [
        ([fault("memory.uncorrectable")], ("n1",), ("slurm:7",), Why.HARDWARE),
        ([fault("chip.lost")], ("n1",), ("slurm:7",), Why.HARDWARE),
        ([fault("nic.down", component="nic:mlx5_0/1")], ("n1",), ("slurm:7",), Why.HARDWARE),
        ([fault("memory.correctable")], (), (), Why.NOTHING_ASKED),
        ([fault("memory.remap_pending")], (), (), Why.NOTHING_ASKED),  # asks, but only warns
        ([fault("thermal.throttle")], (), (), Why.NOTHING_ASKED),
        ([fault("app.fault")], (), (), Why.PROGRAM),
        ([fault("app.fault", severity=Severity.CRITICAL, action=Action.RESET_CHIP)],
         (), (), Why.PROGRAM),
        ([fault("host.oom", component="host")], (), (), Why.PROGRAM),
        ([HUNG], (), ("slurm:7",), Why.JOB),
        ([HUNG, fault("link.down", node="n2")], ("n2",), ("slurm:7",), Why.HARDWARE),
        ([fault("memory.contained")], (), ("slurm:7",), Why.JOB),
        ([fault("job.crashed", component="job:slurm:7", job="slurm:7"), fault("app.fault")],
         (), ("slurm:7",), Why.JOB),
        ([fault("collector.blocked", component="collector:nvidia")], (), (), Why.NOTHING_ASKED),
        ([fault("chip.lost", is_open=False)], (), (), Why.CANNOT_LOOK),
        ([], (), (), Why.NOTHING_ASKED),
    ],
)  # fmt: skip
def test_what_is_done(
    faults: list[FaultView], nodes: tuple[str, ...], jobs: tuple[str, ...], why: Why
) -> None:
    assert outcome(decide(case(*faults), ACT, BOTH)) == (nodes, jobs, why)


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        (None, ((), (), Why.SILENCE_ONLY)),  # the scheduler did not answer either
        ({}, ((), (), Why.SILENCE_ONLY)),
        (UP, ((), (), Why.SILENCE_ONLY)),
        (DOWN, (("n1",), ("slurm:7",), Why.WITNESSED_DOWN)),
    ],
)
def test_silence_needs_a_second_witness(
    views: dict[str, NodeView] | None, expected: tuple[object, ...]
) -> None:
    silent = case(fault("node.unreachable", component="host"), views=views)
    assert outcome(decide(silent, ACT, BOTH)) == expected


SILENT = fault("node.unreachable", component="host", opened_at=106.0, began_at=100.0)
MISSING = replace(HUNG, node="n2", opened_at=112.0)
"""Told by another node of the job that is on the silent one."""


def test_a_job_that_stands_still_since_is_a_witness_too() -> None:
    decision = decide(case(SILENT, MISSING, views=UP), ACT, BOTH)
    assert outcome(decision) == (("n1",), ("slurm:7",), Why.WITNESSED_BY_JOB)
    assert decision.silent == ("n1",), "which the scheduler has not noticed"
    asked = decide(case(fault("chip.lost", node="n2"), SILENT, MISSING), ACT, BOTH)
    assert (asked.nodes, asked.silent) == (("n1", "n2"), ("n1",))


@pytest.mark.parametrize(
    ("faults", "values"),
    [
        ([SILENT, replace(MISSING, opened_at=99.0)], {}),  # it stood still before
        ([SILENT, replace(MISSING, node="n1")], {}),  # its own node said so, before it fell silent
        ([SILENT, replace(MISSING, is_open=False)], {}),
        ([SILENT, fault("thermal.throttle", node="n2")], {}),  # no job stands still
        ([SILENT, MISSING], {"placements": ()}),  # it is not on this node
        ([SILENT, MISSING], {"placed_jobs": frozenset()}),  # nobody knows where it is
        ([SILENT, *(replace(SILENT, node=node) for node in ("n3", "n4")), MISSING], {}),  # cut off
        ([SILENT, replace(MISSING, component="job:torchrun:a", job="torchrun:a")],
         {"jobs": ("torchrun:a",)}),  # what takes it out is its own agent
    ],
)  # fmt: skip
def test_another_job_or_another_silence_is_none(
    faults: list[FaultView], values: dict[str, object]
) -> None:
    decision = decide(case(*faults, **values), ACT, BOTH)  # type: ignore[arg-type]
    assert (decision.nodes, decision.silent) == ((), ())


SAME = {"codes": ("xid:43",), "severity": Severity.CRITICAL}


@pytest.mark.parametrize(
    ("other", "nodes"),
    [
        (fault("chip.internal", component="chip:GPU-12", opened_at=110.0, **SAME), ()),
        (fault("chip.internal", node="n2", opened_at=129.0, **SAME), ()),
        (fault("chip.internal", component="chip:GPU-12", opened_at=131.0, **SAME), ("n1",)),
        (fault("chip.internal", component="chip:GPU-12", codes=("xid:62",)), ("n1",)),
        (fault("chip.hung", **SAME), ("n1",)),  # the same chip twice is no second chip
        (fault("link.down", component="link:GPU-11/3", **SAME), ("n1",)),  # nor is its own link
    ],
)
def test_the_same_code_on_several_chips_of_a_job_is_software(
    other: FaultView, nodes: tuple[str, ...]
) -> None:
    one = fault("chip.internal", **SAME)  # type: ignore[arg-type]
    decision = decide(case(one, other), ACT, BOTH)
    assert decision.nodes == nodes
    assert (decision.why is Why.SOFTWARE_SUSPECTED) == (not nodes)


@pytest.mark.parametrize("kind", ["chip.lost", "memory.uncorrectable", "thermal.critical"])
def test_what_no_program_can_cause_is_hardware_on_many_chips_too(kind: str) -> None:
    both = [fault(kind, component=f"chip:GPU-1{number}", codes=("xid:79",)) for number in "12"]
    assert decide(case(*both), ACT, BOTH).nodes == ("n1",)


def test_what_the_correlation_takes_for_software_is_software() -> None:
    judged = case(fault("chip.internal", **SAME))  # type: ignore[arg-type]
    incident = replace(judged.incident, cause="software.same_code/1")
    assert decide(replace(judged, incident=incident), ACT, BOTH).why is Why.SOFTWARE_SUSPECTED


def test_software_suspected_still_restarts_a_job_that_hangs() -> None:
    one = fault("chip.internal", **SAME)  # type: ignore[arg-type]
    other = fault("chip.internal", node="n2", **SAME)  # type: ignore[arg-type]
    decision = decide(case(one, other, HUNG), ACT, BOTH)
    assert outcome(decision) == ((), ("slurm:7",), Why.SOFTWARE_SUSPECTED)


@pytest.mark.parametrize(
    ("received_at", "jobs"),
    [
        (150.0, ()),  # a late report of the old place
        (190.0, ("slurm:7",)),  # it came back to the bad node
    ],
)
def test_a_job_that_was_restarted_is_not_restarted_again(
    received_at: float, jobs: tuple[str, ...]
) -> None:
    on_bad = Placement(job="slurm:7", node="n1", received_at=received_at, is_present=True)
    done = case(
        fault("chip.lost"),
        placements=(on_bad,),
        isolated=frozenset({"n1"}),
        restarted_at={"slurm:7": 140.0},
    )
    assert decide(done, ACT, BOTH).jobs == jobs


def test_a_job_that_hangs_again_after_its_restart_is_restarted_again() -> None:
    again = case(replace(HUNG, opened_at=200.0), restarted_at={"slurm:7": 140.0})
    assert decide(again, ACT, BOTH).jobs == ("slurm:7",)


@pytest.mark.parametrize(
    ("jobs", "adapters", "adapter", "restarted"),
    [
        (("slurm:7",), BOTH, "slurm", ("slurm:7",)),
        (("local:pretrain",), BOTH, "exec", ("local:pretrain",)),
        (("torchrun:ab12",), ("exec",), "exec", ("torchrun:ab12",)),
        (("slurm:7",), ("exec",), "exec", ("slurm:7",)),
        ((), BOTH, "slurm", ()),
        ((), ("exec",), "exec", ()),
        (("local:pretrain",), ("slurm",), "slurm", ()),
        (("slurm:7",), (), "", ("slurm:7",)),
    ],
)
def test_the_adapter_is_chosen_by_the_jobs_prefix(
    jobs: tuple[str, ...], adapters: tuple[str, ...], adapter: str, restarted: tuple[str, ...]
) -> None:
    decision = decide(case(fault("chip.lost"), jobs=jobs), ACT, adapters)
    assert (decision.adapter, decision.jobs) == (adapter, restarted)
    assert decision.is_action == bool(adapter)


def test_a_job_without_an_adapter_is_named_in_the_reason() -> None:
    decision = decide(case(fault("chip.lost"), jobs=("local:pretrain",)), ACT, ("slurm",))
    assert decision.reason.endswith("not restarted here: local:pretrain")


@pytest.mark.parametrize(
    ("kind", "mode", "rule"),
    [
        ("memory.uncorrectable", Mode.ACT, "memory.*"),
        ("chip.lost", Mode.PROPOSE, "chip.lost"),
        ("link.down", Mode.NOTIFY, "default"),
    ],
)
def test_the_first_rule_that_matches_sets_the_mode(kind: str, mode: Mode, rule: str) -> None:
    settings = RecoverSettings(
        rules=(
            RuleSettings(kinds=("memory.*",), mode=Mode.ACT),
            RuleSettings(kinds=("chip.lost", "memory.*"), mode=Mode.PROPOSE),
        )
    )
    decision = decide(case(fault(kind)), settings, BOTH)
    assert (decision.mode, decision.rule) == (mode, rule)


ANY_FAULT = st.builds(
    FaultView,
    id=st.integers(1, 99),
    node=st.sampled_from(["n1", "n2", "n3"]),
    component=st.sampled_from(["chip:GPU-11", "chip:GPU-12", "link:GPU-11/0", "host", "nic:a/1"]),
    kind=st.sampled_from(sorted(KINDS)),
    severity=st.sampled_from(list(Severity)),
    action=st.sampled_from(list(Action)),
    opened_at=st.floats(0, 1000),
    codes=st.lists(st.sampled_from(["xid:48", "xid:79", "x"]), max_size=2).map(tuple),
    job=st.sampled_from([None, "slurm:7", "slurm:8"]),
    is_open=st.booleans(),
)


@given(st.lists(ANY_FAULT, max_size=8), st.sampled_from([None, DOWN, UP]))
def test_property_a_node_leaves_only_for_an_open_fault_that_asks_for_it(
    faults: list[FaultView], views: dict[str, NodeView] | None
) -> None:
    judged = case(*faults, views=views)
    decision = decide(judged, ACT, BOTH)
    for node in decision.nodes:
        asking = [f for f in judged.faults if f.node == node and f.is_open]
        assert any(
            (f.severity is Severity.CRITICAL and f.action not in (Action.NONE, Action.CHECK_APP))
            or (f.kind == "node.unreachable" and views is DOWN)
            for f in asking
        )
    assert decide(judged, ACT, BOTH) == decision


@pytest.mark.parametrize(("on_probation", "leaving"), [((), ()), (("n1",), ("n1",))])
def test_on_probation_a_warning_of_the_hardware_is_enough(
    on_probation: tuple[str, ...], leaving: tuple[str, ...]
) -> None:
    weak = fault("memory.uncorrectable", severity=Severity.WARNING)
    decided = decide(replace(case(weak), on_probation=frozenset(on_probation)), ACT, BOTH)
    assert decided.nodes == leaving
    assert ("on probation" in decided.reason) == bool(leaving)


@pytest.mark.parametrize(
    ("ended_at", "source", "jobs"),
    [
        (None, "kernel_log", ("slurm:7",)),  # it lives, or nobody knows
        (130.0, "kernel_log", ("slurm:7",)),  # it outlived the chip
        (95.0, "kernel_log", ("slurm:7",)),  # it died of it, and the line came a moment later
        (40.0, "kernel_log", ()),  # its own program ended it; a minute later the chip broke
        (40.0, "nvidia", ("slurm:7",)),  # here the chip was only looked at a minute later
    ],
)
def test_a_job_that_had_ended_before_the_fault_is_not_started_again(
    ended_at: float | None, source: str, jobs: tuple[str, ...]
) -> None:
    broken = fault("memory.uncorrectable", source=source, began_at=100.0)
    found = case(broken)
    found = replace(
        found, placements=tuple(replace(p, ended_at=ended_at) for p in found.placements)
    )
    decision = decide(found, ACT, BOTH)
    assert (decision.nodes, decision.jobs) == (("n1",), jobs)


def test_a_job_is_judged_by_the_fault_for_which_its_node_leaves() -> None:
    """A warning that was there while the job ran does not make the later fault its cause."""
    warning = fault("link.errors", component="link:GPU-11/3", opened_at=20.0, source="kernel_log")
    broken = fault("memory.uncorrectable", source="kernel_log")
    found = case(warning, broken)
    found = replace(found, placements=tuple(replace(p, ended_at=40.0) for p in found.placements))
    assert decide(found, ACT, BOTH).jobs == ()
