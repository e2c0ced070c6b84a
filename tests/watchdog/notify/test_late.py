"""Who did not arrive: stories of a job that stands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from chipmedic_watchdog.notify.data import as_data
from chipmedic_watchdog.notify.facts import IncidentFacts, gather
from chipmedic_watchdog.notify.late import late_ranks
from chipmedic_watchdog.notify.settings import Language
from chipmedic_watchdog.notify.texts import write
from chipmedic_watchdog.notify.words import words
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from watchdog.recover.story import NOW, put_fault, put_incident, put_placement


def report(node: str, rank_steps: str, **values: Any) -> SimpleNamespace:
    whole = {"attempt": 0, "step": None, "step_at": 50.0, "ranks": [], "pids": [1]} | values
    return SimpleNamespace(node=node, labels={"rank_steps": rank_steps}, **whole)


@pytest.mark.parametrize(
    ("reports", "late"),
    [
        ([], []),
        ([report("n1", "0:47"), report("n2", "1:47")], []),
        ([report("n1", "0:47"), report("n2", "1:46")], ["n2 1 46<47"]),
        ([report("n1", "0:47 1:47"), report("n2", "2:46 3:46 4:47")], ["n2 2,3 46<47"]),
        ([report("n1", "0:9"), report("n2", "1:3"), report("n3", "2:5")], ["n2 1 3<9", "n3 2 5<9"]),
        # An older start of the job, and a node that only remembers it, say nothing of now.
        ([report("n1", "0:90"), report("n2", "1:46", attempt=1)], []),
        ([report("n1", "0:90", pids=[], step_at=5.0), report("n2", "1:46")], []),
        ([report("n1", "0:90", pids=[], step_at=None), report("n2", "1:46")], []),
        # A rank that has ended a moment ago is why the others wait, however far it had come.
        ([report("n1", "0:46", pids=[]), report("n2", "1:46")], ["n1 0 46<46 gone"]),
        ([report("n1", "0:46", pids=[]), report("n2", "1:46", pids=[])], []),
        # A node that does not tell its ranks apart speaks for all of them.
        ([report("n1", "", step=46, ranks=[0, 1]), report("n2", "2:47")], ["n1 0,1 46<47"]),
        ([report("n1", "", ranks=[0, 1]), report("n2", "2:47")], []),
        ([report("n1", "x:y 0 :: 1:"), report("n2", "2:47")], []),
    ],
)
def test_story(reports: list[SimpleNamespace], late: list[str]) -> None:
    found = [
        f"{one.node} {','.join(map(str, one.ranks))} {one.step}<{one.furthest}"
        + " gone" * one.is_gone
        for one in late_ranks(reports)
    ]
    assert found == late


def test_a_notice_leads_to_the_rank_that_is_missing(database: Database) -> None:
    """The healthy node told of the hang first; people are sent to the other one all the same."""
    hung = {"kind": "job.hung", "component": "job:slurm:7", "codes": [], "action": "restart_job"}
    put_incident(database, kind="job.hung", nodes=["n1"], root_fault=1)
    put_fault(database, node="n1", job="slurm:7", **hung)
    for node, rank, step, pid in (("n1", 0, 47, 11), ("n2", 1, 46, 22)):
        labels = {"rank_steps": f"{rank}:{step}"}
        put_placement(database, node=node, ranks=[rank], pids=[pid], step=step, labels=labels)

    def gathered(connection: Any) -> IncidentFacts:
        return gather(connection, connection.execute(select(schema.incidents)).one())

    facts = database.read_now(gathered)
    text = write(facts, "opened", words(Language.EN), now=NOW)
    assert "on node n2, job slurm:7" in text.title
    assert "Did not arrive: rank 1 on n2: at step 46, the others at 47" in text.body
    assert "First: on n2: py-spy dump --pid 22" in text.body
    assert as_data(facts, "opened", language="en")["jobs"][0]["late"] == [
        {"node": "n2", "ranks": [1], "step": 46, "is_gone": False}
    ]
