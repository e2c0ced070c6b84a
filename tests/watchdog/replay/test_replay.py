"""The past under other rules: from the store of a real watchdog, and from drawn histories."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, update
from typer.testing import CliRunner

from chipmedic.errors import StoreError
from chipmedic.faults.kinds import KINDS
from chipmedic.model import JobStatus
from chipmedic_cli.main import app
from chipmedic_proto import codec
from chipmedic_proto.v1 import chipmedic_pb2 as pb
from chipmedic_watchdog.config import IncidentSettings
from chipmedic_watchdog.incidents.engine import IncidentEngine
from chipmedic_watchdog.incidents.picture import FaultFact, Placement
from chipmedic_watchdog.incidents.rules import builtin, read
from chipmedic_watchdog.recover.settings import ExecSettings, Mode, RecoverSettings
from chipmedic_watchdog.replay.course import PastIncident, Ruling, run
from chipmedic_watchdog.replay.difference import compare
from chipmedic_watchdog.replay.history import History, PastFault, read_history, read_only
from chipmedic_watchdog.store import schema
from chipmedic_watchdog.store.database import Database
from fake_agent import FakeAgent, a_fault, event
from intake_rig import Intake, rows
from waiting import eventually

OTHER = """
name = "other"
version = 1
extends = "chipmedic"
without = ["shared.network"]
"""


def past(number: int, node: str, component: str, kind: str, at: float, *codes: str,
         end: float | None = None, severity: int | None = None, job: str | None = None,
         ) -> PastFault:  # fmt: skip
    row = KINDS[kind]
    fact = FaultFact(
        id=number, node=node, component=component, kind=kind,
        severity=int(row.severity) if severity is None else severity,
        state="open" if end is None else "cleared", opened_at=at, began_at=at, cleared_at=end,
        summary=kind, codes=codes, job=job,
    )  # fmt: skip
    return PastFault(fact=fact, action=row.action, severities=((at, fact.severity),))


def ports(count: int) -> History:
    return History(
        since=0,
        until=10_000,
        faults=tuple(
            past(n, f"n{n}", "nic:mlx5_0/1", "nic.down", 100.0 + n) for n in range(1, count + 1)
        ),
        placements=((0.0, 9_000.0, Placement(job="slurm:7", node="n1")),),
        labels={f"n{n}": {"switch": "s1"} for n in range(1, 9)},
    )


def told(incidents: list[PastIncident]) -> list[tuple[str, int, list[str], list[str]]]:
    return [
        (i.fact.cause, len(i.faults), sorted(i.isolates), sorted(i.restarts)) for i in incidents
    ]


def test_other_rules_make_other_incidents_and_other_actions() -> None:
    now = run(ports(4), Ruling(rules=builtin()))
    new = run(ports(4), Ruling(rules=read(OTHER, path="other.toml")))
    # The first two ports might have been two ill nodes; with the third it is the switch.
    assert told(now) == [("shared.network/1", 4, ["n1", "n2"], ["slurm:7"])]
    assert [cause for cause, *_ in told(new)] == ["single/1"] * 4
    (difference,) = compare(now, new)
    assert (len(difference.now), len(difference.new), difference.is_action) == (1, 4, True)


def test_another_mode_is_a_difference_of_actions() -> None:
    acting = RecoverSettings(mode=Mode.ACT, exec=ExecSettings())
    now, new = (run(ports(1), Ruling(rules=builtin(), recover=r)) for r in (
        RecoverSettings(), acting))  # fmt: skip
    (difference,) = compare(now, new)
    assert (difference.now[0].mode, difference.new[0].mode) == ("notify", "act")
    assert difference.is_action


def test_the_course_of_an_incident() -> None:
    """It grows worse, ends, and is opened again by the fault that comes back."""
    grows = past(1, "n1", "chip:a", "memory.correctable", 100.0, end=500.0)
    grows = PastFault(fact=grows.fact, action=grows.action, severities=((100.0, 2), (300.0, 3)))
    back = past(2, "n1", "chip:a", "memory.correctable", 600.0)
    history = History(since=0, until=10_000, faults=(grows, back), labels={})
    (incident,) = run(history, Ruling(rules=builtin()))
    assert incident.fact.reopened_count == 1
    assert incident.fact.state == "open"
    assert incident.notices == 4, "opened, worse, resolved, reopened"


FAULT = st.tuples(
    st.sampled_from(["n1", "n2", "n3"]),
    st.sampled_from(["host", "chip:a", "chip:b", "link:a/1", "nic:x/1"]),
    st.sampled_from(sorted(KINDS)),
    st.floats(0, 2_000),
    st.one_of(st.none(), st.floats(0, 500)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(FAULT, max_size=10))
def test_the_same_rules_never_differ_and_every_fault_is_in_one(drawn: list[Any]) -> None:
    faults = tuple(
        past(n, node, part, kind, at, end=None if lasts is None else at + lasts)
        for n, (node, part, kind, at, lasts) in enumerate(drawn, 1)
    )
    history = History(since=0, until=10_000, faults=faults, labels={"n1": {"rack": "r"}})
    now, new = (run(history, Ruling(rules=builtin())) for _ in range(2))
    assert compare(now, new) == []
    placed = [number for incident in now for number in incident.faults]
    assert len(placed) == len(set(placed))
    lasting = {f.fact.id for f in faults if f.fact.cleared_at is None and f.fact.severity >= 2}
    assert lasting <= set(placed)


async def test_a_replay_of_what_a_watchdog_did_finds_what_it_did(intake: Intake) -> None:
    engine = IncidentEngine(
        intake.database, intake.sessions, intake.metrics, intake.health, IncidentSettings()
    )
    intake.committer.on_faults = engine.wake
    working = asyncio.create_task(engine.run())
    job = codec.job_to_message(JobStatus(job="slurm:7", at=1.0, chips=("GPU-b",), step=5))
    async with FakeAgent(intake.address, "n1") as one, FakeAgent(intake.address, "n2") as two:
        await two.send(heartbeat=pb.Heartbeat(at=1.0, jobs=[job]))
        await two.events(event(1, a_fault("link:GPU-b/2", "link.down")))
        await one.events(
            event(1, a_fault("job:slurm:7", "job.hung", source="jobs", job="slurm:7")),
            event(2, a_fault("chip:GPU-a", "chip.lost")),
        )
        await eventually(lambda: len([f for f in intake.rows(schema.faults) if f["incident"]]) == 3)
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    history = intake.database.read_now(lambda c: read_history(c, 0, time.time() + 60))
    live: dict[str, set[int]] = {}
    for fault in intake.rows(schema.faults):
        live.setdefault(fault["incident"], set()).add(fault["id"])
    replayed = [set(i.faults) for i in run(history, Ruling(rules=builtin()))]
    assert sorted(map(sorted, replayed)) == sorted(map(sorted, live.values()))


def fill(database: Database, at: float) -> None:
    usual = {
        "component": "nic:mlx5_0/1", "kind": "nic.down", "severity": 3, "action": "fix_network",
        "node_since": at, "updated_at": at, "summary": "the port is down", "source": "rdma",
        "state": "open",
    }  # fmt: skip

    def write(connection: Any) -> None:
        for n in (1, 2, 3):
            node = {"node": f"n{n}", "first_seen_at": at, "last_seen_at": at}
            connection.execute(insert(schema.nodes).values(**node, labels={"switch": "s1"}))
            row = usual | {"node": f"n{n}", "opened_at": at + n}
            connection.execute(insert(schema.faults).values(row))
        connection.execute(update(schema.nodes).values(state="connected"))

    database.write_now(write)


@pytest.fixture
def site(tmp_path: Path, database: Database, store_url: str) -> Path:
    fill(database, time.time() - 3_600)
    config = tmp_path / "watchdog.toml"
    config.write_text(f"[store]\nurl = '{store_url}'\n")
    return config


def ask(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["replay", *arguments], env={"COLUMNS": "220"})


def test_the_command_shows_the_difference_and_writes_nothing(
    site: Path, database: Database
) -> None:
    own = site.with_name("other.toml")
    own.write_text(OTHER)
    before = [rows(database, table) for table in (schema.faults, schema.incidents)]
    answer = ask("--config", str(site), "--rules", str(own), "--json")
    assert answer.exit_code == 1, answer.output
    told = json.loads(answer.output)
    assert (told["now"]["incidents"], told["new"]["incidents"]) == (1, 3)
    assert told["new"]["rules"] == "other/1"
    (difference,) = told["differences"]
    assert difference["is_action"]
    table = ask("--config", str(site), "--rules", str(own))
    assert table.exit_code == 1
    assert "nic.down on 3 nodes of switch s1" in table.output
    assert "isolate n1" in table.output
    assert [rows(database, table) for table in (schema.faults, schema.incidents)] == before


def test_the_store_is_opened_so_that_nothing_can_be_written(site: Path, store_url: str) -> None:
    with pytest.raises(StoreError, match=r"(?i)read-?only"), read_only(store_url) as connection:
        connection.execute(update(schema.faults).values(severity=1))


def test_the_command_says_that_nothing_differs(site: Path) -> None:
    same = site.with_name("same.toml")
    same.write_text('name = "same"\nversion = 1\nextends = "chipmedic"\n')
    answer = ask("--config", str(site), "--rules", str(same))
    assert answer.exit_code == 0
    assert "no difference" in answer.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give --rules or --new-config"),
        (("--rules", "/nowhere.toml"), "/nowhere.toml"),
        (("--rules", "{site}", "--since", "soon"), "not a time like"),
    ],
)
def test_what_is_wrong_is_told(site: Path, arguments: tuple[str, ...], words: str) -> None:
    named = [argument.replace("{site}", str(site)) for argument in arguments]
    answer = ask("--config", str(site), *named)
    assert answer.exit_code != 0
    assert words in str(answer.exception)
