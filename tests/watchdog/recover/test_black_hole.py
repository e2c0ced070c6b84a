"""Nodes that kill job after job: what tells them from jobs that die of themselves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmedic.errors import DeliveryFailed
from chipmedic.recoverer import JobRun, RunOutcome
from chipmedic_watchdog.recover.black_hole import judge
from chipmedic_watchdog.recover.black_hole_watch import BlackHoleWatch
from chipmedic_watchdog.recover.settings import BlackHoleSettings
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.recover.story import NOW, FakeScheduler, World, change, put, put_nodes, rows

SETTINGS = BlackHoleSettings()


def run(
    job: str,
    node: str,
    *,
    at: float = -30,
    lived: float | None = 2,
    outcome: RunOutcome = RunOutcome.FAILED,
    family: str = "",
    user: str = "mei",
) -> JobRun:
    """One run; `at` is its start before now, `lived` None: it runs."""
    return JobRun(
        job=f"slurm:{job}",
        family=family,
        user=user,
        nodes=tuple(node.split(",")),
        started_at=NOW + at,
        ended_at=None if lived is None else NOW + at + lived,
        outcome=RunOutcome.RUNNING if lived is None else outcome,
    )


def dead(node: str, *jobs: str, **values: Any) -> list[JobRun]:
    return [run(job, node, at=-30 + 5 * place, **values) for place, job in enumerate(jobs)]


def alive(*nodes: str, family: str = "", at: float = -35) -> list[JobRun]:
    return [run(f"9{node}", node, at=at, lived=None, family=family) for node in nodes]


ARRAY = "array:7"
OF_ARRAY = alive("n2", "n3", family=ARRAY)
THREE_USERS = [
    run("1", "n1", user="mei"),
    run("2", "n1", at=-20, user="ada"),
    run("3", "n1", at=-10, user="bob"),
]


@pytest.mark.parametrize(
    ("runs", "found"),
    [
        # It eats an array whose tasks live elsewhere.
        (dead("n1", "1", "2", "3", family=ARRAY) + OF_ARRAY, "n1!"),
        (dead("n1", "1", "2", family=ARRAY) + OF_ARRAY, ""),
        (dead("n1", "1", "1", "1", family=ARRAY) + OF_ARRAY, ""),  # one job, queued again
        (dead("n1", "1", "2", "3", family=ARRAY) + OF_ARRAY[:1], ""),  # one living is no proof
        # The program dies everywhere, or nobody knows whether it does.
        (dead("n1", "1", "2", "3", family=ARRAY) + dead("n2", "4", family=ARRAY) + OF_ARRAY, ""),
        (dead("n1", "1", "2", "3", family=ARRAY), ""),
        (dead("n1", "1", "2", "3"), ""),  # one user tries until it works
        # Runs of long ago are of another version of the program.
        (
            dead("n1", "1", "2", "3", family="name:mei:train")
            + alive("n2", "n3", family="name:mei:train", at=-7200),
            "",
        ),
        # What was cancelled, ended well or lived long says nothing against a node.
        (dead("n1", "1", "2", "3", family=ARRAY, outcome=RunOutcome.STOPPED) + OF_ARRAY, ""),
        (dead("n1", "1", "2", "3", family=ARRAY, outcome=RunOutcome.WELL) + OF_ARRAY, ""),
        ([run(j, "n1", at=-300, lived=90, family=ARRAY) for j in "123"] + OF_ARRAY, ""),
        # A job that is well in between, or beside them, speaks for the node.
        (
            [
                *dead("n1", "1", "2", "3", family=ARRAY),
                run("4", "n1", at=-10, outcome=RunOutcome.WELL, lived=3),
                *OF_ARRAY,
            ],
            "",
        ),
        (dead("n1", "1", "2", "3", family=ARRAY) + alive("n1", at=-100) + OF_ARRAY, ""),
        ([run(j, "n1", at=-900, family=ARRAY) for j in "123"] + OF_ARRAY, ""),  # long ago
        # Several users.
        (THREE_USERS, "n1?"),
        ([replace(THREE_USERS[0], family=ARRAY), *THREE_USERS[1:], *OF_ARRAY], "n1!"),
        # Two nodes that ran the same jobs; the other nodes of the jobs differ.
        (dead("n1,n4", "1", "2", "3", family=ARRAY) + OF_ARRAY, "n1? n4?"),
        (
            [run("1", "n1,n4", family=ARRAY), run("2", "n1,n5", family=ARRAY),
             run("3", "n1,n6", family=ARRAY), *OF_ARRAY],
            "n1!",
        ),
    ],
)  # fmt: skip
def test_what_makes_a_black_hole(runs: list[JobRun], found: str) -> None:
    holes = judge(runs, SETTINGS, NOW)
    assert " ".join(f"{hole.node}{'!' if hole.is_certain else '?'}" for hole in holes) == found


def test_it_says_what_it_saw() -> None:
    runs = dead("n1", "7_1", "7_2", "7_3", family=ARRAY) + OF_ARRAY
    (hole,) = judge(runs, SETTINGS, NOW)
    assert hole.summary == "3 jobs in a row died here within 2 s of their start"
    assert hole.evidence[0] == (
        "slurm:7_1 of user mei on n1: failed after 2 s; others of the same program live elsewhere"
    )
    assert hole.since == NOW - 28


RUNS = st.builds(
    run,
    st.sampled_from("123456789"),
    st.sampled_from(["n1", "n2", "n3", "n1,n2"]),
    at=st.floats(-1000, 0),
    lived=st.none() | st.floats(0, 120),
    outcome=st.sampled_from(list(RunOutcome)),
    family=st.sampled_from(["", ARRAY, "array:8"]),
    user=st.sampled_from(["mei", "ada"]),
)


@given(st.lists(RUNS, max_size=25))
def test_no_node_is_named_for_fewer_than_three_jobs_that_failed_young_there(
    runs: list[JobRun],
) -> None:
    for hole in judge(runs, SETTINGS, NOW):
        young = {
            r.job
            for r in runs
            if hole.node in r.nodes and r.outcome is RunOutcome.FAILED
            and r.ended_at is not None and r.ended_at - r.started_at <= 60
        }  # fmt: skip
        assert len(young) >= 3


@dataclass
class Remembering(FakeScheduler):
    """A scheduler that tells which jobs ran where."""

    runs: list[JobRun] = field(default_factory=list)

    def recent_runs(self) -> list[JobRun]:
        if self.is_blind:
            raise DeliveryFailed("squeue: no answer in 10 s")
        return self.runs


@dataclass
class Story:
    """A watch over a store, and its clock."""

    database: Database
    scheduler: Remembering
    now: float = NOW
    rings: int = 0

    def __post_init__(self) -> None:
        self.watch = BlackHoleWatch(
            self.database, SETTINGS, {"slurm": self.scheduler},
            now=lambda: self.now, on_change=self._ring,
        )  # fmt: skip

    def _ring(self) -> None:
        self.rings += 1

    def look(self) -> list[tuple[str, str, int, str]]:
        asyncio.run(self.watch.look())
        return [
            (row["node"], row["state"], row["severity"], row["clear_reason"])
            for row in rows(self.database, schema.faults)
        ]


@pytest.fixture
def story(database: Database) -> Story:
    put_nodes(database)
    return Story(database, Remembering(World()))


KILLING = dead("n1", "1", "2", "3", family=ARRAY) + OF_ARRAY


def test_a_fault_is_raised_once_and_time_alone_does_not_clear_it(story: Story) -> None:
    assert story.look() == []
    story.scheduler.runs = KILLING
    assert story.look() == story.look() == [("n1", "open", 3, "")]
    assert story.rings == 1
    story.scheduler.runs = []  # Slurm has forgotten
    story.now += 7200
    assert story.look() == [("n1", "open", 3, "")]
    (fault,) = rows(story.database, schema.faults)
    assert (fault["action"], fault["source"]) == ("isolate_node", "watchdog")


def test_a_job_that_is_well_on_it_clears_it(story: Story) -> None:
    story.scheduler.runs = KILLING
    story.look()
    story.now += 100
    story.scheduler.runs = [*KILLING, run("8", "n1", at=20, lived=9, outcome=RunOutcome.WELL)]
    assert story.look() == [("n1", "cleared", 3, "a job is well on it")]


def test_a_node_that_was_given_back_is_judged_anew(story: Story) -> None:
    story.scheduler.runs = KILLING
    story.look()
    put(
        story.database, schema.isolations, node="n1", adapter="slurm", incident="inc-000001",
        reason="", isolated_at=NOW + 1, returned_at=NOW + 60,
    )  # fmt: skip
    story.now += 61
    reason = "the node was given back; it is judged anew"
    assert story.look() == story.look() == [("n1", "cleared", 3, reason)]
    again = [replace(r, started_at=r.started_at + 100, ended_at=NOW + 75) for r in KILLING[:3]]
    story.scheduler.runs = [*again, *OF_ARRAY]
    story.now += 20
    assert story.look()[-1] == ("n1", "open", 3, "")


def test_a_mere_suspicion_takes_no_node_out_and_goes_by_itself(story: Story) -> None:
    story.scheduler.runs = THREE_USERS
    assert story.look() == [("n1", "open", 2, "")]
    (fault,) = rows(story.database, schema.faults)
    assert fault["action"] == "none"
    story.now += 700
    assert story.look() == [("n1", "cleared", 2, "no more jobs died young on it")]


def test_what_the_scheduler_forgets_early_is_kept_and_its_silence_says_nothing(
    story: Story,
) -> None:
    story.scheduler.runs = KILLING[:2] + OF_ARRAY
    assert story.look() == []
    story.scheduler.is_blind = True
    assert story.look() == []
    story.scheduler.is_blind = False
    story.scheduler.runs = [KILLING[2], *OF_ARRAY]
    assert story.look() == [("n1", "open", 3, "")]


def test_short_names_of_the_scheduler_are_the_agents_nodes(story: Story) -> None:
    change(story.database, schema.nodes, schema.nodes.c.node == "n1", node="n1.example.org")
    story.scheduler.runs = KILLING
    assert story.look()[0][0] == "n1.example.org"


def test_a_node_without_an_agent_is_no_fault_of_the_store(story: Story) -> None:
    story.scheduler.runs = dead("n77", "1", "2", "3", family=ARRAY) + OF_ARRAY
    assert story.look() == []
